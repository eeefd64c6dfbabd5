//! The v3 dialect's package list: the packages of the catalog under the names that 3.x clients use, searchable.

use std::{collections::BTreeMap, sync::Arc};

use http::{Response, request::Parts};
use parking_lot::Mutex;

use super::json::JsonAnswer;
use crate::{
    dialect::{Dialect, Names, PageRequest},
    http::{body::Body, cache_status::CacheStatus},
    registry::catalog::{Catalog, CatalogEntry},
    service::{
        Service,
        context::RequestContext,
        error::ApiError,
        render::{self, CatalogRow},
    },
};

/// The rows of the latest catalog, computed once per catalog.
#[derive(Default)]
pub(in crate::service) struct SearchIndex(Mutex<Option<IndexedCatalog>>);

struct IndexedCatalog {
    catalog: Arc<Catalog>,
    rows: Arc<Vec<SearchRow>>,
}

struct SearchRow {
    name: String,
    /// Index of the package in [`Catalog::packages`].
    package: usize,
    /// Name and description in lower case.
    text: String,
}

impl SearchIndex {
    fn rows(&self, names: &Names, catalog: &Arc<Catalog>) -> Arc<Vec<SearchRow>> {
        let mut latest = self.0.lock();
        match &*latest {
            Some(indexed) if Arc::ptr_eq(&indexed.catalog, catalog) => indexed.rows.clone(),
            _ => {
                let rows = Arc::new(search_rows(names, &catalog.packages));
                *latest = Some(IndexedCatalog { catalog: catalog.clone(), rows: rows.clone() });
                rows
            }
        }
    }
}

/// Responds with one page of the names that contain `search` in name or description, in order.
///
/// # Errors
/// When the catalog cannot be read.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    search: Option<&str>,
    page: PageRequest,
) -> Result<Response<Body>, ApiError> {
    let names = &service.names;
    let (catalog, age) = service.registry.catalog().list(names.aliases().map(|(_, package)| package.clone())).await?;
    let rows = service.search_index.rows(names, &catalog);
    let search = search.map(str::to_lowercase);
    let found: Vec<CatalogRow<'_>> = rows
        .iter()
        .filter(|row| search.as_ref().is_none_or(|search| row.text.contains(search)))
        .map(|row| {
            let manifest = catalog.packages.get(row.package).map(|package| &package.manifest);
            CatalogRow { name: row.name.clone(), manifest }
        })
        .collect();
    let answer = JsonAnswer::new(render::packages(page.slice(&found)), age, CacheStatus::hit(None));
    Ok(answer.into_response(Dialect::V3, parts, context))
}

/// A row for every alias, and one for every package without an alias, ordered by name.
fn search_rows(names: &Names, packages: &[CatalogEntry]) -> Vec<SearchRow> {
    let mut indices = BTreeMap::new();
    for (index, entry) in packages.iter().enumerate() {
        let aliases = names.aliases().filter(|(alias, package)| !alias.contains('/') && **package == entry.package);
        let count = indices.len();
        indices.extend(aliases.map(|(alias, _)| (alias.to_owned(), index)));
        if indices.len() == count
            && let Some(name) = names.v3_name(&entry.package)
        {
            indices.insert(name, index);
        }
    }
    let row = |(name, index): (String, usize)| {
        let description = packages[index].manifest.description.as_deref().unwrap_or_default();
        // A search contains no zero byte, so it does not match across name and description.
        let text = format!("{name}\0{description}").to_lowercase();
        SearchRow { name, package: index, text }
    };
    indices.into_iter().map(row).collect()
}
