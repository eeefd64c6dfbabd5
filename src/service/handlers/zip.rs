//! The zip of a version in the form that the clients of a dialect unpack, and the refusal of unbuilt components.

use http::{Response, request::Parts};

use super::{
    archive,
    view::{self, ViewRequest},
};
use crate::{
    archive::view::{TopFolder, ViewSpec},
    dialect::{Dialect, ZipForm},
    http::body::Body,
    package::{PackageId, Version},
    registry::{Unbuilt, ZipPacking, resolved::ResolvedVersion},
    service::{Service, context::RequestContext, error::ApiError},
};

/// Responds with the zip of a version: as it is stored and while it arrives, where that is the form of the dialect; else
/// as a view of the complete zip. In the dialects of the command line clients every zip is complete before its first byte
/// is sent, so that an unbuilt component is refused instead.
///
/// # Errors
/// As [`archive::respond`] and [`view::respond`]; `Unbuilt` for a component whose entry is not in its zip.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageId,
    version: &Version,
    dialect: Dialect,
) -> Result<Response<Body>, ApiError> {
    let refuses_unbuilt = dialect.is_of_command_line() && service.registry.unbuilt() == Unbuilt::Refuse;
    if refuses_unbuilt && let Some(missing) = service.registry.archives().pinned_missing_entry(package, version).await?
    {
        // Known from an earlier download: nothing is fetched for a refusal.
        return Err(ApiError::Unbuilt { missing });
    }
    // The clients of the simple dialect give up while a zip is completed before its first byte.
    let is_limited = refuses_unbuilt || dialect == Dialect::Simple && service.registry.may_enforce_model();
    let top = |resolved: &ResolvedVersion| TopFolder::of_version(package.name.base_name(), resolved.name());
    let foldered = |resolved: &ResolvedVersion| ViewSpec::Foldered { top: top(resolved) };
    let request = ViewRequest { package, version, spec_of: &foldered, refuses_unbuilt, max_wait: None };
    match (dialect.zip_form(), service.registry.upstreams().zip_packing(package)?) {
        (ZipForm::Flat, _) => {
            view::respond(service, parts, context, ViewRequest { spec_of: &|_| ViewSpec::Flat, ..request }).await
        }
        (ZipForm::Foldered, ZipPacking::TopFolder) if !is_limited => {
            archive::respond(service, parts, context, package, version).await
        }
        (ZipForm::Foldered, _) => {
            let max_wait = is_limited.then_some(service.registry.unbuilt_wait());
            view::respond(service, parts, context, ViewRequest { max_wait, ..request }).await
        }
    }
}

/// Responds with the flat zip of a version, whatever it contains: the route of the srm dialect.
///
/// # Errors
/// As [`view::respond`].
pub(in crate::service) async fn respond_flat(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageId,
    version: &Version,
) -> Result<Response<Body>, ApiError> {
    let spec_of = |_: &ResolvedVersion| ViewSpec::Flat;
    let request = ViewRequest { package, version, spec_of: &spec_of, refuses_unbuilt: false, max_wait: None };
    view::respond(service, parts, context, request).await
}
