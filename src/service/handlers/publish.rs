//! Publishing zips on this mirror and deleting published versions: `PUT` and `DELETE` of `/{package}/zipball/{version}`, and
//! in the v3 dialect what the command line client does ([`reserve`], [`upload`], `DELETE` of a release).
//!
//! Everything that can be refused before the body is refused before it: a client that sends `Expect: 100-continue` sends
//! none of it then. Errors have the envelope of the dialect; in that of srm, the findings of the package model where there
//! are any.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use serde_json::json;

use super::admin::Input;
use crate::{
    access::{Caller, Right},
    admin_api::{CONTENT_DIGEST, DeletedVersion, FailureCode, PublishError, PublishedVersion},
    dialect::{ApiRequest, Dialect, Route},
    entry::Digest,
    http::{body::Body, field::parse_content_digest},
    observe::AuditUnwritable,
    package::{ModelFinding, PackageId, PackageRef, Version},
    registry::{
        ChangeError, Publication, PublishForm, StateChange,
        hosting::{HostedPackages, PublicationDetails, PublishableVersion, PublishingError},
    },
    service::{
        Service,
        audit::{Act, Acts},
        context::{Failure, RequestContext},
        error::ApiError,
        headers::{NO_STORE, close_connection},
        hosts::RequestHost,
        json_response::json_response,
    },
};

mod code;
pub(in crate::service) mod failed;
mod failure;
mod form;
mod permission;
mod receive;
mod reserve;
mod upload;

use failure::PublishFailure;
use permission::Denial;

/// Answers a request that publishes or deletes; its response may be one that breaks the connection.
///
/// # Errors
/// Where the caller may not know of the package; every other failure is a response.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    host: &RequestHost<'_>,
    route: &Route,
    input: Option<Input>,
) -> Result<Response<Body>, ApiError> {
    let mut body = receive::UploadBody::new(input);
    let dialect = route.dialect;
    let answered = match &route.request {
        ApiRequest::Upload { package, version } => {
            return Ok(upload::respond(service, parts, context, package, version, body).await);
        }
        ApiRequest::RenewCode => code::renew(service, parts, context).await,
        ApiRequest::Reserve => reserve::respond(service, parts, context, host, &mut body).await,
        ApiRequest::Publish { package, version } => {
            publish_zip(service, parts, context, package, version, &mut body).await
        }
        ApiRequest::Delete { package, version } => delete(service, parts, context, dialect, package, version).await,
        _ => return Err(ApiError::NotJson),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(denial) => {
            // A client that is still sending would see a broken connection, not the reason.
            body.discard(parts).await;
            let failure = match denial {
                Denial::Unknown(error) => return Err(error),
                Denial::Refused(failure) => failure,
            };
            let mut response = failure.into_response(context, dialect);
            close_connection(&mut response, parts);
            response
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// The principal's name in records.
fn publisher(caller: &Caller) -> String {
    caller.principal().map_or_else(|| "operator".to_owned(), |principal| principal.name.to_string())
}

fn change_by(service: &Service, caller: &Caller) -> StateChange {
    StateChange { by: publisher(caller), at: service.registry.now() }
}

async fn publish_zip(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
    version: &Version,
    body: &mut receive::UploadBody,
) -> Result<Response<Body>, Denial> {
    let publishable = permission::check_publishable(service, parts, context, package, version.name()).await?;
    let hosted = permission::hosted(service)?;
    let announced = announced_digest(parts)?;
    let limit = hosted.max_zip_bytes();
    receive::check_length(parts, limit)?;
    let mut upload = hosted.begin_upload(publishable.clone()).await?;
    permission::check_new_name(service, hosted, &publishable).await?;
    body.receive(limit, &mut upload).await?;
    let by = change_by(service, &context.caller);
    let details = PublicationDetails { by, form: PublishForm::default(), manifest: None };
    let acts = Acts::of(context);
    let act = begin_publication(&acts, &publishable).await?;
    let published = end_publication(service, act, &publishable, hosted.publish(upload, announced, details)).await?;
    Ok(published_answer(&publishable, &published, &context.caller))
}

/// Records in the audit log that a version is going to be published.
async fn begin_publication(acts: &Acts, version: &PublishableVersion) -> Result<Act, AuditUnwritable> {
    let record = json!({"package": version.package.name.to_string(), "version": version.version.as_str()});
    acts.begin("publish", &record).await
}

/// Publishes a version, and records how that ended.
async fn end_publication(
    service: &Service,
    act: Act,
    version: &PublishableVersion,
    publication: impl Future<Output = Result<Publication, PublishingError>>,
) -> Result<Publication, PublishingError> {
    let published = publication.await;
    act.end(published.as_ref().err().map(ToString::to_string).as_deref()).await;
    // Also after an error: the version may have been published.
    service.registry.sources().end_generation(&version.package);
    published
}

/// Logs a publication, and returns its answer.
fn published_answer(publishable: &PublishableVersion, published: &Publication, caller: &Caller) -> Response<Body> {
    let (created, version) = match published {
        Publication::Created(version) => (true, version),
        Publication::Unchanged(version) => (false, version),
    };
    let package = publishable.package.name.to_string();
    if created {
        let by = publisher(caller);
        tracing::info!(%package, version = %version.version, digest = %version.digest, %by, "a version is published");
    }
    let answer = PublishedVersion {
        package,
        version: version.version.to_string(),
        digest: version.digest,
        size: version.len,
        created,
    };
    json_answer(if created { StatusCode::CREATED } else { StatusCode::OK }, &answer)
}

async fn delete(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    dialect: Dialect,
    package: &PackageRef,
    version: &Version,
) -> Result<Response<Body>, Denial> {
    let package = &permission::authorize(service, parts, context, package, Right::Delete)?;
    let hosted = permission::hosted(service)?;
    let by = change_by(service, &context.caller);
    let acts = Acts::of(context);
    let record = json!({"package": package.name.to_string(), "version": version.name()});
    let act = acts.begin("delete", &record).await?;
    let deleted = hosted.delete(package, version.name(), by).await;
    act.end(deleted.as_ref().err().map(ToString::to_string).as_deref()).await;
    service.registry.sources().end_generation(package);
    match deleted {
        Ok(()) | Err(ChangeError::Deleted(_)) => {}
        Err(ChangeError::Unknown) => return Err(PublishFailure::no_version(package, version.name()).into()),
        Err(ChangeError::Io(error)) => return Err(PublishFailure::storage(&error).into()),
        Err(ChangeError::Unavailable(error)) => {
            return Err(PublishFailure::bucket_unavailable(error, error.retry_after).into());
        }
    }
    let by = publisher(&context.caller);
    tracing::info!(%package, %version, %by, "a version is deleted");
    let answer = DeletedVersion { package: package.name.to_string(), version: version.name().to_owned() };
    Ok(match dialect {
        Dialect::V3 => v3_answer(context, &answer),
        _ => json_answer(StatusCode::OK, &answer),
    })
}

/// The digest of the zip that the client announces in `Content-Digest`.
fn announced_digest(parts: &Parts) -> Result<Option<Digest>, PublishFailure> {
    let mut values = parts.headers.get_all(CONTENT_DIGEST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match parse_content_digest(value) {
        Some(digest) if values.next().is_none() => Ok(Some(digest)),
        _ => Err(PublishFailure::bad_request("Content-Digest must have one sha-256, as RFC 9530 writes it")),
    }
}

fn json_answer(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // None of the values has a map with keys that are no text: writing them cannot fail.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    json_response(status, Bytes::from(text), &Method::PUT)
}

/// An object in the envelope of the v3 dialect.
fn v3_answer(context: &RequestContext, value: &impl Serialize) -> Response<Body> {
    json_answer(StatusCode::OK, &json!({"request_id": context.id.to_string(), "body": value}))
}
