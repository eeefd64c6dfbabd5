//! The v3 dialect's list of packages: what the mirror knows, by the names its clients ask for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::json::JsonAnswer;
use crate::{
    dialect::{ApiRequest, Names, PageRequest},
    http::cache_status::CacheStatus,
    registry::{
        Registry,
        catalog::{Catalog, CatalogEntry},
    },
    service::{
        error::Problem,
        render::{self, Listed},
    },
};

/// The rows of the last list, which are made once for each list.
#[derive(Default)]
pub(in crate::service) struct Rows(Mutex<Option<Made>>);

/// A list and its rows.
type Made = (Arc<Catalog>, Arc<Vec<Row>>);

/// One row of the list.
struct Row {
    name: String,
    /// Its package's place in the list of what is known.
    known: usize,
    /// Name and description in lower case: what a search looks through.
    searched: String,
}

impl Rows {
    fn of(&self, names: &Names, list: &Arc<Catalog>) -> Arc<Vec<Row>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, rows)) if Arc::ptr_eq(of, list) => rows.clone(),
            _ => {
                let rows = Arc::new(rows(names, &list.packages));
                *last = Some((list.clone(), rows.clone()));
                rows
            }
        }
    }
}

/// Answers `registry list`: names in order, those that have `search` in their name or description, one page of them.
///
/// # Errors
/// When what the mirror knows cannot be read.
pub(in crate::service) async fn ask(
    mirror: &Registry,
    names: &Names,
    rows: &Rows,
    ask: &ApiRequest,
    (search, page): (Option<&str>, PageRequest),
) -> Result<JsonAnswer, Problem> {
    let known = mirror.catalog().list(names.aliases().map(|(_, package)| package.clone())).await;
    let (list, age) = known.map_err(|error| Problem::of(error, ask))?;
    let rows = rows.of(names, &list);
    let wanted = search.map(str::to_lowercase);
    let found: Vec<Listed<'_>> = rows
        .iter()
        .filter(|row| wanted.as_ref().is_none_or(|wanted| row.searched.contains(wanted)))
        .map(|row| Listed { name: row.name.clone(), manifest: list.packages.get(row.known).map(|it| &it.manifest) })
        .collect();
    Ok(JsonAnswer::of(render::packages(page.slice(&found)), age, CacheStatus::hit(None)))
}

/// A row for every alias, and one for every package that has none; in order of their names.
fn rows(names: &Names, known: &[CatalogEntry]) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    for (place, known) in known.iter().enumerate() {
        let wanted = known.package.clone();
        let aliases = names.aliases().filter(|(alias, package)| !alias.contains('/') && **package == wanted);
        let before = rows.len();
        rows.extend(aliases.map(|(alias, _)| (alias.to_owned(), place)));
        if rows.len() == before
            && let Some(name) = names.v3_name(&wanted)
        {
            rows.insert(name, place);
        }
    }
    let row = |(name, place): (String, usize)| {
        let description = known[place].manifest.description.as_deref().unwrap_or_default();
        // No search has a zero byte in it, so none is found across the two.
        let searched = format!("{name}\0{description}").to_lowercase();
        Row { name, known: place, searched }
    };
    rows.into_iter().map(row).collect()
}
