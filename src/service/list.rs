//! The v3 dialect's list of packages: what the mirror knows, by the names its clients ask for.

use std::collections::BTreeMap;

use super::{
    error::Problem,
    json::JsonAnswer,
    render::{self, Listed},
    target,
};
use crate::{
    dialect::{Ask, Names, PackageRef, Page},
    http::cache_status::CacheStatus,
    mirror::{Mirror, Target, known::Known},
    package::Manifest,
};

/// Answers `registry list`: names in order, those that have `search` in their name or description, one page of them.
///
/// # Errors
/// When what the mirror knows cannot be read.
pub(super) async fn ask(
    mirror: &Mirror,
    names: &Names,
    ask: &Ask,
    search: Option<&str>,
    page: Page,
) -> Result<JsonAnswer, Problem> {
    let (known, age) = mirror
        .known(names.aliases().map(|(_, package)| target(package)))
        .await
        .map_err(|error| Problem::of(error, ask))?;
    let wanted = search.map(str::to_lowercase);
    let rows: Vec<Listed<'_>> = by_name(names, &known.packages)
        .into_iter()
        .filter(|(name, manifest)| wanted.as_ref().is_none_or(|wanted| is_found(wanted, name, manifest)))
        .map(|(name, manifest)| Listed { name, manifest: Some(manifest) })
        .collect();
    Ok(JsonAnswer::of(render::packages(page.slice(&rows)), age, CacheStatus::hit(None)))
}

/// A row for every alias, and one for every package that has none.
fn by_name<'a>(names: &Names, known: &'a [Known]) -> BTreeMap<String, &'a Manifest> {
    let package = |target: &Target| PackageRef { upstream: target.upstream.clone(), name: target.package.clone() };
    let mut rows = BTreeMap::new();
    for known in known {
        let wanted = package(&known.target);
        let aliases = names.aliases().filter(|(alias, package)| !alias.contains('/') && **package == wanted);
        let before = rows.len();
        rows.extend(aliases.map(|(alias, _)| (alias.to_owned(), &known.manifest)));
        if rows.len() == before
            && let Some(name) = names.v3_name(&wanted)
        {
            rows.insert(name, &known.manifest);
        }
    }
    rows
}

fn is_found(wanted: &str, name: &str, manifest: &Manifest) -> bool {
    let description = manifest.description.as_deref().unwrap_or_default();
    name.to_lowercase().contains(wanted) || description.to_lowercase().contains(wanted)
}
