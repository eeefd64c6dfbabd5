//! The second step in which the command line client publishes: `PUT` of the zip to the address from the first step.
//!
//! The client prints that it has published for every status, and fails only where the connection breaks. So every refusal
//! here breaks the connection. Its reason is in the log, in the audit log, and where the publisher looks for it: among the
//! failed publications of the package.

use http::{Response, StatusCode, request::Parts};

use super::{
    Body, PackageRef, PublishFailure, PublishableVersion, StateChange, Version, change_by, permission,
    published_answer,
    receive::{self, UploadBody},
    recorded,
};
use crate::{
    access::{Caller, UploadAddress},
    registry::hosting::{ReservedUpload, check_is_new, record_failure},
    service::{Service, context::RequestContext},
};

/// Answers an upload, or breaks its connection.
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
            // Of others the access event says enough: any client can send an address that does not hold.
            if let Some(principal) = context.caller.principal() {
                let reason = failure.message();
                tracing::warn!(package = %package.name(), %version, by = %principal.name, reason, "a publication failed");
            }
            failure.into_broken_connection(context)
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
    let by = change_by(service, &context.caller);
    let publishable = match permission::publishable(service, parts, context, package, version.name()) {
        Ok(publishable) => publishable,
        Err(permission::Denial::Refused(failure)) => return Err(failure),
        Err(permission::Denial::Unknown(_)) => {
            return Err(PublishFailure::forbidden(
                "the account of the upload address has lost its right to the package",
            ));
        }
    };
    if by.at >= claims.expires_at {
        let failure = PublishFailure::forbidden("the upload address has expired before the zip came; publish again");
        return Err(visible(service, publishable, by, failure).await);
    }
    let limit = claims.max_bytes.min(hosted.max_zip_bytes());
    if let Err(failure) = receive::check_length(parts, limit) {
        return Err(visible(service, publishable, by, failure).await);
    }
    let upload = ReservedUpload::begin(hosted, publishable.clone(), &claims.reservation, claims.expires_at).await;
    let mut upload = upload.map_err(PublishFailure::from)?;
    if let Err(failure) = body.receive(limit, upload.upload_mut()).await {
        drop(upload);
        // A zip that breaks off does not use the address: its client knows, and may send it again.
        return Err(if failure.is_incomplete() { failure } else { visible(service, publishable, by, failure).await });
    }
    let by = change_by(service, &context.caller);
    let published = recorded(service, context, &publishable, upload.publish(by)).await?;
    Ok(published_answer(&publishable, &published, &context.caller))
}

/// Adds a failure to those that the publisher is shown, unless the version is there.
async fn visible(
    service: &Service,
    version: PublishableVersion,
    by: StateChange,
    failure: PublishFailure,
) -> PublishFailure {
    if let Some(hosted) = service.registry.hosted()
        && check_is_new(hosted, &version).is_ok()
    {
        let package = version.package.clone();
        record_failure(hosted, version, by, failure.message().to_owned()).await;
        service.registry.sources().end_generation(&package);
    }
    failure
}

impl PublishFailure {
    /// The response that is not sent; notes in `context` what it would say.
    fn into_broken_connection(self, context: &mut RequestContext) -> Response<Body> {
        let status: StatusCode = self.status();
        self.note(context);
        let mut response = Response::new(Body::unsent());
        *response.status_mut() = status;
        response.extensions_mut().insert(crate::peer::BreakConnection);
        response
    }
}
