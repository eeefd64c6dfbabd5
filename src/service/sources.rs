//! From the package that a request names to the package on its upstream.

use super::{error::ApiError, found_package::FoundPackage};
use crate::{
    dialect::{DialectName, NameRoute, Names, RouteRule},
    package::{PackageId, PackageName, PackageRef},
    registry::{Registry, RegistryError},
};

/// A package that was not found, and the upstream that decided so.
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
        PackageRef::Id(id) => return Ok(FoundPackage::Package(id.clone())),
        PackageRef::Folder(folder) => return Ok(FoundPackage::Folder(folder.clone())),
        PackageRef::Routed(name) => name,
    };
    let route = names.route(name, dialect);
    if let Some(id) = recorded(registry, names, name, dialect, &route).map_err(ApiError::from)? {
        return Ok(FoundPackage::Package(id));
    }
    let found = match (route.rule, &route.candidates[..]) {
        (RouteRule::NoRoute, _) | (_, []) => Err(ApiError::NoRoute { name: name.clone(), dialect }.into()),
        (RouteRule::DefaultUpstream, [id, ..]) => Ok(id.clone()),
        (_, candidates) => registry.sources().find(name, dialect, candidates).await.map_err(|failure| {
            let error = ApiError::from(failure.error);
            match failure.package {
                None => {
                    let upstreams = candidates.iter().map(|id| id.upstream.clone()).collect();
                    ApiError::NotOnRoute { name: name.clone(), upstreams, cause: Box::new(error) }.into()
                }
                package => SourceFailure { error, package },
            }
        }),
    };
    found.map(FoundPackage::Package)
}

/// The packages that a name may lead to, in order. Asks no upstream.
pub(super) fn asked_packages(
    registry: &Registry,
    names: &Names,
    package: &PackageRef,
    dialect: DialectName,
) -> Vec<PackageId> {
    let name = match package {
        PackageRef::Id(id) => return vec![id.clone()],
        PackageRef::Folder(folder) => return vec![folder.repository.clone()],
        PackageRef::Routed(name) => name,
    };
    let route = names.route(name, dialect);
    match recorded(registry, names, name, dialect, &route) {
        Ok(Some(id)) => vec![id],
        Ok(None) | Err(_) => route.candidates,
    }
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

/// The package that a name is on an upstream; `None` where the upstream has no such names, or the name's configured route
/// leaves it out. Without a configured route, every upstream that is configured may be the source.
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
    let route = names.route(&name, dialect);
    match recorded(registry, names, &name, dialect, &route) {
        Ok(Some(recorded)) => Some(recorded),
        Ok(None) => route.candidates.into_iter().find(is_there),
        Err(_) => None,
    }
}
