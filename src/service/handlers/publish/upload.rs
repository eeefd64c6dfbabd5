//! The second of two steps in which the command line client publishes: `PUT` of the zip to the address from the first step.
//!
//! The client takes every status for a success, and fails only where the connection breaks. So every response but a success
//! breaks the connection ([`Service::handle`]). Its reason is in the log, in the audit log, and among the failed publications
//! of the package, which the publisher can list.

use http::{Response, request::Parts};

use super::{
    Acts, Body, Dialect, PackageRef, PublishFailure, PublishableVersion, PublishingError, Right, StateChange, Version,
    begin_publication, change_by, end_publication, permission, published_answer,
    receive::{self, UploadBody},
};
use crate::{
    access::{Caller, UploadAddress},
    registry::hosting::{ReservedUpload, check_is_new, record_failure},
    service::{Service, context::RequestContext},
};

/// Answers an upload.
pub(super) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    version: &Version,
    mut body: UploadBody,
) -> Response<Body> {
    match receive_and_publish(service, parts, context, package, version, &mut body).await {
        Ok(response) => response,
        Err(failure) => {
            // Without a principal, the access event is enough: any client can send an invalid address.
            if let Some(principal) = context.caller.principal() {
                let reason = failure.message();
                tracing::warn!(package = %package.name(), %version, by = %principal.name, reason, "a publication failed");
            }
            failure.into_response(context, Dialect::V3)
        }
    }
}

async fn receive_and_publish(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    version: &Version,
    body: &mut UploadBody,
) -> Result<Response<Body>, PublishFailure> {
    let hosted = permission::hosted(service)?;
    let name = package.name().base_name();
    let address = service.access.upload_addresses().read(&parts.uri, name, version.name());
    let Some(UploadAddress { claims, principal }) = address else {
        return Err(PublishFailure::forbidden("the upload address was not made by this mirror for this version"));
    };
    let Some(principal) = principal else {
        return Err(PublishFailure::forbidden("the account of the upload address was revoked, or has ended"));
    };
    context.caller = Caller::Principal(principal);
    let package = match permission::authorize(service, parts, context, package, Right::Publish) {
        Ok(package) => package,
        Err(permission::Denial::Refused(failure)) => return Err(failure),
        Err(permission::Denial::Unknown(_)) => {
            return Err(PublishFailure::forbidden(
                "the account of the upload address has lost its right to the package",
            ));
        }
    };
    let publishable = PublishableVersion::parse(package, version.name())?;
    let by = change_by(service, &context.caller);
    let listed = async |failure| list_failure(service, &publishable, by.clone(), failure).await;
    if by.at >= claims.expires_at {
        let failure = PublishFailure::forbidden("the upload address has expired before the zip came; publish again");
        return Err(listed(failure).await);
    }
    let limit = claims.max_bytes.min(hosted.max_zip_bytes());
    if let Err(failure) = receive::check_length(parts, limit) {
        return Err(listed(failure).await);
    }
    let upload =
        ReservedUpload::begin(hosted, publishable.clone(), &claims.reservation, claims.expires_at, by.at).await;
    let mut upload = match upload {
        Ok(upload) => upload,
        // No failed publication: another request publishes the version, or has published it.
        Err(error @ (PublishingError::NotReserved(_) | PublishingError::BeingPublished)) => return Err(error.into()),
        Err(error) => return Err(listed(error.into()).await),
    };
    if let Err(failure) = body.receive(limit, upload.upload_mut()).await {
        drop(upload);
        // A zip that breaks off does not spend the address: the client sees the broken connection, and may send it again.
        return Err(if failure.is_incomplete() { failure } else { listed(failure).await });
    }
    let acts = Acts::of(context);
    let act = match begin_publication(&acts, &publishable).await {
        Ok(act) => act,
        Err(error) => return Err(listed(error.into()).await),
    };
    let by = change_by(service, &context.caller);
    let published = end_publication(service, act, &publishable, upload.publish(by)).await?;
    Ok(published_answer(&publishable, &published, &context.caller))
}

/// Adds a failure to the failed publications of the package, unless the version has content. Returns the failure.
async fn list_failure(
    service: &Service,
    version: &PublishableVersion,
    by: StateChange,
    failure: PublishFailure,
) -> PublishFailure {
    if let Some(hosted) = service.registry.hosted()
        && check_is_new(hosted, version).is_ok()
    {
        record_failure(hosted, version.clone(), by, failure.message().to_owned()).await;
        service.registry.sources().end_generation(&version.package);
    }
    failure
}
