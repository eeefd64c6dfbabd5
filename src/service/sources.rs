//! From the package that a request names to the package on its upstream.

use super::{error::ApiError, found_package::FoundPackage};
use crate::{
    dialect::{DialectName, HostedNames, NameRoute, Names, RouteRule, SIMPLE_OWNER},
    package::{PackageId, PackageName, PackageRef},
    registry::{
        Registry, RegistryError, SourceSearch, SourceSearchFailure,
        hosting::{NameUse, find_new},
    },
};

/// Why a package was not found.
pub(super) struct SourceFailure {
    pub(super) error: ApiError,
    /// The package on the upstream that failed; `None` when no upstream was asked, or all said that it does not exist.
    pub(super) package: Option<PackageId>,
}

impl From<ApiError> for SourceFailure {
    fn from(error: ApiError) -> Self {
        Self { error, package: None }
    }
}

/// Finds the package that a request names: on its upstream, as a folder of a repository, at its recorded source, or by its
/// route.
///
/// # Errors
/// When no upstream of the route has it, when one fails before that is known, or when the recorded source has left the
/// route.
pub(super) async fn resolve(
    registry: &Registry,
    names: &Names,
    package: &PackageRef,
    dialect: DialectName,
) -> Result<FoundPackage, SourceFailure> {
    let name = match package {
        PackageRef::Id(id) => return Ok(FoundPackage::Package(canonical(registry, names, id))),
        PackageRef::Folder(folder) => return Ok(FoundPackage::Folder(folder.clone())),
        PackageRef::Routed(name) => name,
    };
    if let Some(id) = hosted(registry, names, name, dialect) {
        return Ok(FoundPackage::Package(id));
    }
    let route = names.route(name, dialect);
    if let Some(id) = recorded(registry, names, name, dialect, &route).map_err(ApiError::from)? {
        return Ok(FoundPackage::Package(id));
    }
    let name_use = match route.rule {
        RouteRule::DefaultUpstream => NameUse::ServedElsewhere,
        _ => NameUse::Unserved,
    };
    if let Some(id) = newly_hosted(registry, names, name, dialect, name_use).await.map_err(ApiError::from)? {
        return Ok(FoundPackage::Package(id));
    }
    let found = match (route.rule, &route.candidates[..]) {
        (RouteRule::NoRoute, _) | (_, []) => Err(ApiError::NoRoute { name: name.clone(), dialect }.into()),
        (RouteRule::DefaultUpstream, [id, ..]) => Ok(id.clone()),
        (_, candidates) => match registry.sources().find(name, dialect, candidates).await {
            // A source that was recorded in the meantime, or on another mirror, need not be among the candidates.
            Err(SourceSearchFailure { error: error @ RegistryError::SourceChanged { .. }, .. }) => {
                let recorded = recorded(registry, names, name, dialect, &route).map_err(ApiError::from)?;
                recorded.ok_or_else(|| ApiError::from(error).into())
            }
            found => found.map_err(|failure| not_found(name, candidates, failure)),
        },
    };
    found.map(FoundPackage::Package)
}

fn not_found(name: &PackageName, candidates: &[PackageId], failure: SourceSearchFailure) -> SourceFailure {
    let error = ApiError::from(failure.error);
    match failure.package {
        None => {
            let upstreams = candidates.iter().map(|id| id.upstream.clone()).collect();
            ApiError::NotOnRoute { name: name.clone(), upstreams, cause: Box::new(error) }.into()
        }
        package => SourceFailure { error, package },
    }
}

/// The packages that a name leads or led to in a dialect.
pub(super) fn led_to(registry: &Registry, names: &Names, name: &PackageName, dialect: DialectName) -> Vec<PackageId> {
    let recorded = registry.sources().recorded(name, dialect);
    let recorded = recorded.and_then(|upstream| names.id_on(&upstream, name));
    names.route(name, dialect).candidates.into_iter().chain(recorded).collect()
}

/// Whether requests of a name search for its source.
pub(super) fn search_of(names: &Names, name: &PackageName, dialect: DialectName) -> SourceSearch {
    if names.route(name, dialect).is_searched() { SourceSearch::Needed } else { SourceSearch::Never }
}

/// The packages that a name may lead to, in order. Sends no upstream request.
pub(super) fn asked_packages(
    registry: &Registry,
    names: &Names,
    package: &PackageRef,
    dialect: DialectName,
) -> Vec<PackageId> {
    let name = match package {
        PackageRef::Id(id) => return vec![canonical(registry, names, id)],
        PackageRef::Folder(folder) => return vec![folder.repository.clone()],
        PackageRef::Routed(name) => name,
    };
    if let Some(id) = hosted(registry, names, name, dialect) {
        return vec![id];
    }
    let route = names.route(name, dialect);
    match recorded(registry, names, name, dialect, &route) {
        Ok(Some(id)) => vec![id],
        Ok(None) | Err(_) => route.candidates,
    }
}

/// Every package that a plain name could lead to in any dialect, each once: a package published under the name would hide
/// them.
pub(super) fn candidates_in_all_dialects(registry: &Registry, names: &Names, name: &PackageName) -> Vec<PackageId> {
    let mut asked = Vec::new();
    // In the simple dialect the name may have an owner in front, which is dropped.
    let with_owner = PackageName::new(SIMPLE_OWNER, name.base_name()).ok();
    for dialect in DialectName::ALL {
        let spellings = [Some(name), with_owner.as_ref().filter(|_| dialect == DialectName::Simple)];
        for name in spellings.into_iter().flatten() {
            let recorded = registry.sources().recorded(name, dialect);
            let recorded = recorded.and_then(|upstream| names.id_on(&upstream, name));
            for candidate in recorded.into_iter().chain(names.route(name, dialect).candidates) {
                if !HostedNames::of(names).has(&candidate) && !asked.contains(&candidate) {
                    asked.push(candidate);
                }
            }
        }
    }
    asked
}

/// The package of a name without an upstream that belongs to this mirror: it was published here, or the configuration reserves
/// the name. No upstream is asked about such a name.
pub(super) fn hosted(
    registry: &Registry,
    names: &Names,
    name: &PackageName,
    dialect: DialectName,
) -> Option<PackageId> {
    let id = HostedNames::of(names).id(name, dialect)?;
    match registry.hosted().and_then(|hosted| hosted.published_id(&id.name)) {
        Some(published) => Some(published),
        None => HostedNames::of(names).is_reserved(&id.name).then_some(id),
    }
}

/// As [`hosted`], for a name that is not known to belong to this mirror: another mirror may have published it a moment ago.
async fn newly_hosted(
    registry: &Registry,
    names: &Names,
    name: &PackageName,
    dialect: DialectName,
    name_use: NameUse,
) -> Result<Option<PackageId>, RegistryError> {
    let Some(id) = HostedNames::of(names).id(name, dialect) else { return Ok(None) };
    match registry.hosted() {
        Some(hosted) => find_new(hosted, &id.name, name_use).await,
        None => Ok(None),
    }
}

/// A package in its canonical spelling: that of its first publication for a published one, else as it is.
fn canonical(registry: &Registry, names: &Names, id: &PackageId) -> PackageId {
    let published = if HostedNames::of(names).has(id) {
        registry.hosted().and_then(|hosted| hosted.published_id(&id.name))
    } else {
        None
    };
    published.unwrap_or_else(|| id.clone())
}

/// The package at its recorded source.
fn recorded(
    registry: &Registry,
    names: &Names,
    name: &PackageName,
    dialect: DialectName,
    route: &NameRoute,
) -> Result<Option<PackageId>, RegistryError> {
    let Some(recorded) = registry.sources().recorded(name, dialect) else { return Ok(None) };
    match usable_source(names, name, &recorded, route) {
        Some(id) => Ok(Some(id)),
        None => Err(RegistryError::SourceChanged { recorded }),
    }
}

/// The package that a name is on an upstream; `None` where the upstream has no names of this form, or the name's configured
/// route does not lead to the upstream. Without a configured route, every upstream may be the source.
pub(super) fn usable_source(names: &Names, name: &PackageName, upstream: &str, route: &NameRoute) -> Option<PackageId> {
    let id = names.id_on(upstream, name);
    id.filter(|id| route.rule != RouteRule::Configured || route.candidates.contains(id))
}

/// The package that a plain name leads to, without asking an upstream: at its recorded source, else the first of its route
/// that `is_there`. `None` if the name is an alias, or leads to none of them.
pub(super) fn listed_source(
    registry: &Registry,
    names: &Names,
    name: &PackageName,
    dialect: DialectName,
    is_there: impl Fn(&PackageId) -> bool,
) -> Option<PackageId> {
    let PackageRef::Routed(name) = names.parse_package(&name.to_string()).ok()? else { return None };
    if let Some(id) = hosted(registry, names, &name, dialect) {
        return Some(id);
    }
    let route = names.route(&name, dialect);
    match recorded(registry, names, &name, dialect, &route) {
        Ok(Some(recorded)) => Some(recorded),
        Ok(None) => route.candidates.into_iter().find(is_there),
        Err(_) => None,
    }
}
