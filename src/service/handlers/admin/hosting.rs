//! Hides published versions from the lists, and shows them again.

use std::sync::Arc;

use super::AdminError;
use crate::{
    admin_api::{ErrorCode, UnyankVersion, YankState, YankVersion},
    dialect::{DialectName, HostedNames, Names},
    package::PackageId,
    registry::{ChangeError, Registry, StateChange, hosting::HostedPackages},
    service::audit::Acts,
};

/// Takes a version out of the lists.
pub(super) async fn yank(
    registry: &Registry,
    names: &Names,
    acts: &Acts,
    request: YankVersion,
) -> Result<YankState, AdminError> {
    let YankVersion { package, version } = request;
    let id = published(registry, names, &package)?;
    let change = StateChange { by: acts.principal().to_owned(), at: registry.now() };
    let changed = hosted(registry)?.yank(&id, &version, change).await;
    registry.sources().end_generation(&id);
    state(changed, YankState { package, version, yanked: true })
}

/// Puts a version into the lists again.
pub(super) async fn unyank(
    registry: &Registry,
    names: &Names,
    request: UnyankVersion,
) -> Result<YankState, AdminError> {
    let UnyankVersion { package, version } = request;
    let id = published(registry, names, &package)?;
    let changed = hosted(registry)?.unyank(&id, &version).await;
    registry.sources().end_generation(&id);
    state(changed, YankState { package, version, yanked: false })
}

/// The published packages, where there are any.
pub(super) fn hosted(registry: &Registry) -> Result<&Arc<HostedPackages>, AdminError> {
    let why = "nothing is published on this mirror: it has no section [upstreams.hosted]";
    registry.hosted().ok_or_else(|| AdminError::bad_request(why))
}

/// The published package of a name.
pub(super) fn published(registry: &Registry, names: &Names, package: &str) -> Result<PackageId, AdminError> {
    let named = names.parse_package(package).map_err(|error| AdminError::bad_request(error.to_string()))?;
    let id = HostedNames::of(names).id_of(&named, DialectName::Srm);
    let published = id.and_then(|id| registry.hosted().and_then(|hosted| hosted.published_id(&id.name)));
    published.ok_or_else(|| not_published(package))
}

pub(super) fn not_published(package: &str) -> AdminError {
    AdminError::bad_request(format!("{package} is not published on this mirror"))
}

fn state(changed: Result<(), ChangeError>, state: YankState) -> Result<YankState, AdminError> {
    match changed {
        Ok(()) => Ok(state),
        Err(ChangeError::Io(error)) => {
            Err(AdminError::storage("the directory of published packages cannot be written", error))
        }
        Err(ChangeError::Unavailable(error)) => Err(AdminError::new(ErrorCode::Bucket, error.to_string())),
        Err(error) => {
            let YankState { package, version, .. } = state;
            Err(AdminError::new(ErrorCode::BadRequest, format!("{package} {version}: {error}")))
        }
    }
}
