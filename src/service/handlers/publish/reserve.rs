//! The first of two steps in which the command line client publishes: `POST /v3/packages/releases` with a form. All that can
//! be refused is refused here, in a sentence that the client prints; the answer is the address for the zip.

use http::{Response, request::Parts};
use serde_json::json;

use super::{Body, PackageRef, PublishFailure, PublishingError, form, permission, receive::UploadBody, v3_answer};
use crate::{
    access::{UPLOAD_LIFETIME, UploadClaims},
    dialect::HostedNames,
    package::PackageName,
    registry::hosting::{NewReservation, check_is_new, reserve_version},
    service::{Service, audit::Acts, context::RequestContext, hosts::RequestHost},
};

/// Answers a form.
pub(super) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    host: &RequestHost<'_>,
    body: &mut UploadBody,
) -> Result<Response<Body>, permission::Denial> {
    permission::check_caller(service, parts, context)?;
    let hosted = permission::hosted(service)?;
    let Some(principal) = context.caller.principal().cloned() else {
        return Err(PublishFailure::forbidden("publish with the token of an account, not as the operator").into());
    };
    // The form names the package. It is read only for callers who may publish some package.
    let addresses = service.access.upload_addresses();
    if !addresses.are_for(&context.caller) {
        return Err(PublishFailure::no_right().into());
    }
    let announced = form::read(service, body).await?;
    let name = PackageName::plain(&announced.name).map_err(PublishFailure::taken)?;
    let name = PackageRef::Routed(name);
    let version = permission::check_publishable(service, parts, context, &name, &announced.version).await?;
    // A plain `PUT` of the same content again is no error; here there is no zip to compare.
    check_is_new(hosted, &version)?;
    if !announced.findings.is_empty() {
        return Err(PublishingError::NotConforming(announced.findings).into());
    }
    permission::check_new_name(service, hosted, &version).await?;

    let package = version.package.name.base_name();
    let number = version.version.as_str();
    let now = service.registry.now();
    let reservation =
        addresses.new_reservation_id().map_err(|error| PublishFailure::storage(&std::io::Error::other(error)))?;
    let expires_at = now.saturating_add(UPLOAD_LIFETIME).unwrap_or(now);
    let claims = UploadClaims { reservation, max_bytes: hosted.max_zip_bytes(), expires_at };
    let Some(query) = addresses.sign(&principal, package, number, &claims) else {
        return Err(PublishFailure::forbidden(
            "this account's credential is too long for an upload address; publish with a token of this mirror",
        )
        .into());
    };
    let acts = Acts::of(context);
    let act = acts.begin("reserve", &json!({"package": package, "version": number})).await?;
    let new = NewReservation {
        id: claims.reservation,
        by: principal.name.to_string(),
        expires_at,
        announced: announced.package,
    };
    let reserved = reserve_version(hosted, &version, new, now).await;
    act.end(reserved.as_ref().err().map(ToString::to_string).as_deref()).await;
    reserved?;
    tracing::info!(%package, version = number, by = %principal.name, "a version is reserved for its zip");
    let path = HostedNames::of(&service.names).upload_path(package, number);
    Ok(v3_answer(context, &json!({"url": format!("{}{path}{query}", host.base())})))
}
