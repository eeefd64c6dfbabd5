//! The checks before a zip is accepted or a version deleted: one list for all routes.

use std::sync::Arc;

use http::request::Parts;

use super::{HostedPackages, PackageId, PackageRef, PublishFailure, PublishableVersion, PublishingError, publisher};
use crate::{
    access::{Caller, Grant, Right},
    dialect::{DialectName, HostedNames},
    observe::AuditUnwritable,
    registry::hosting::check_reservation,
    service::{Service, caller, context::RequestContext, error::ApiError, sources},
};

/// Why a request is refused.
pub(super) enum Denial {
    /// With the error for a package that does not exist, or for a caller without credentials.
    Unknown(ApiError),
    /// With its reason.
    Refused(PublishFailure),
}

impl From<PublishFailure> for Denial {
    fn from(failure: PublishFailure) -> Self {
        Self::Refused(failure)
    }
}

impl From<PublishingError> for Denial {
    fn from(error: PublishingError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<AuditUnwritable> for Denial {
    fn from(error: AuditUnwritable) -> Self {
        Self::Refused(error.into())
    }
}

/// The published packages.
pub(super) fn hosted(service: &Service) -> Result<&Arc<HostedPackages>, PublishFailure> {
    service.registry.hosted().ok_or_else(PublishFailure::not_hosting)
}

/// Refuses callers without credentials, and those whose credentials were readable on the network.
pub(super) fn check_caller(service: &Service, parts: &Parts, context: &mut RequestContext) -> Result<(), Denial> {
    if matches!(context.caller, Caller::Anonymous) {
        return Err(Denial::Unknown(caller::refusal(parts, context)));
    }
    let is_confidential =
        context.peer.is_control() || service.client_addresses.is_confidential(&context.peer, &parts.headers);
    if !is_confidential && !service.access.allows_plaintext() {
        return Err(Denial::Refused(PublishFailure::forbidden(
            "this mirror takes no publications over an unencrypted connection from another machine; use https, or set \
             access.allow_plaintext on the mirror",
        )));
    }
    Ok(())
}

/// Checks that the caller may change a package; records the package in `context`.
pub(super) fn authorize(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    right: Right,
) -> Result<PackageId, Denial> {
    check_caller(service, parts, context)?;
    let names = HostedNames::of(&service.names);
    let Some(id) = names.id_of(package, DialectName::Srm) else {
        return Err(Denial::Refused(PublishFailure::taken(
            "this name is not one of this mirror's own: publish under a name without a slash that is no alias",
        )));
    };
    if service.access.grant(&context.caller, &id, right) != Grant::Named {
        context.refused_by = service.access.deciding_rule(&id);
        if service.access.grant(&context.caller, &id, Right::Read) == Grant::Refused {
            return Err(Denial::Unknown(caller::refusal(parts, context)));
        }
        return Err(PublishFailure::no_right().into());
    }
    names.check(&id.name).map_err(|error| Denial::Refused(PublishFailure::taken(error)))?;
    context.package = Some(Arc::new(id.clone()));
    Ok(id)
}

/// Checks, before the zip is received, that the caller may publish a version: the right, the name, the version, the room,
/// and reservations of others. [`check_new_name`] asks the upstreams.
pub(super) async fn check_publishable(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    version: &str,
) -> Result<PublishableVersion, Denial> {
    let id = authorize(service, parts, context, package, Right::Publish)?;
    let hosted = hosted(service)?;
    let version = hosted.check(id, version).await?;
    check_reservation(hosted, &version, &publisher(&context.caller), service.registry.now()).await?;
    Ok(version)
}

/// Checks a name under which nothing was published: it is refused if an upstream has a package of that name, unless the
/// configuration gives the name to this mirror.
pub(super) async fn check_new_name(
    service: &Service,
    hosted: &HostedPackages,
    version: &PublishableVersion,
) -> Result<(), PublishFailure> {
    let name = &version.package.name;
    if hosted.is_published(&version.package) || HostedNames::of(&service.names).is_reserved(name) {
        return Ok(());
    }
    let candidates = sources::candidates_in_all_dialects(&service.registry, &service.names, name);
    match service.registry.sources().find_taken(&candidates).await {
        Ok(None) => Ok(()),
        Ok(Some(taken)) => Err(PublishFailure::taken(format_args!(
            "{name} is a package on {}; publish under another name, or ask the operator to claim it in host.claim",
            taken.upstream
        ))),
        Err(failure) => Err(PublishFailure::unknown_name(name, failure.package.as_ref())),
    }
}
