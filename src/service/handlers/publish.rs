//! `PUT` and `DELETE` of `/{package}/zipball/{version}`: publishes a zip on this mirror, or deletes a published version.
//!
//! Everything that can be refused before the body is refused before it: a client that sends `Expect: 100-continue` sends
//! none of it then. Errors have the envelope of the srm dialect, and the findings of the package model where there are any.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde_json::json;

use super::{admin::Input, json::json_response};
use crate::{
    access::{Caller, Grant, Right},
    admin_api::{CONTENT_DIGEST, DeletedVersion, FailureCode, PublishError, PublishedVersion},
    dialect::{ApiRequest, DialectName, HostedNames},
    entry::Digest,
    http::{body::Body, field::parse_content_digest},
    package::{ModelFinding, PackageId, PackageRef, Version},
    registry::{
        ChangeError, Publication, PublishForm, StateChange,
        hosting::{HostedPackages, PublishableVersion, PublishingError, ReleaseMaker},
    },
    service::{
        Service,
        audit::Acts,
        caller,
        context::{Failure, RequestContext},
        error::ApiError,
        headers::{NO_STORE, close_connection},
        sources,
    },
};

mod failure;
mod receive;

use failure::PublishFailure;

/// Answers a `PUT` or `DELETE`.
///
/// # Errors
/// Where the caller may not know of the package; every other failure is a response.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    request: &ApiRequest,
    input: Option<Input>,
) -> Result<Response<Body>, ApiError> {
    let (ApiRequest::Publish { package, version } | ApiRequest::Delete { package, version }) = request else {
        return Err(ApiError::NotJson);
    };
    let mut upload_body = receive::UploadBody::new(input);
    let answered = match (authorized(service, parts, context, package).await, &parts.method) {
        (Err(Denial::Unknown(error)), _) => {
            upload_body.discard(parts).await;
            return Err(error);
        }
        (Err(Denial::Refused(failure)), _) => Err(failure),
        (Ok(package), &Method::DELETE) => delete(service, context, &package, version).await,
        (Ok(package), _) => put(service, parts, context, package, version, &mut upload_body).await,
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(failure) => {
            // A client that is still sending would see a broken connection, not the reason.
            upload_body.discard(parts).await;
            let mut response = failure.into_response(context);
            close_connection(&mut response, parts);
            response
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// Why a caller may not publish or delete.
enum Denial {
    /// As for a package that does not exist, or a caller without credentials.
    Unknown(ApiError),
    /// With the reason.
    Refused(PublishFailure),
}

/// The package that may be changed by the caller.
async fn authorized(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageRef,
) -> Result<PackageId, Denial> {
    let unknown = |context: &mut RequestContext| Denial::Unknown(caller::refusal(parts, context));
    if matches!(context.caller, Caller::Anonymous) {
        return Err(unknown(context));
    }
    let is_confidential =
        context.peer.control || service.client_addresses.is_confidential(&context.peer, &parts.headers);
    if !is_confidential && !service.access.allows_plaintext() {
        return Err(Denial::Refused(PublishFailure::forbidden(
            "this mirror takes no publications over an unencrypted connection from another machine; use https, or set \
             access.allow_plaintext on the mirror",
        )));
    }
    let names = &service.names;
    let id = match package {
        PackageRef::Routed(name) => HostedNames::of(names).id(name, DialectName::Srm),
        PackageRef::Id(id) if HostedNames::of(names).has(id) => Some(id.clone()),
        PackageRef::Id(_) | PackageRef::Folder(_) => None,
    };
    let Some(id) = id else {
        return Err(Denial::Refused(PublishFailure::taken(
            "this name is not one of this mirror's own: publish under a name without a slash that is no alias",
        )));
    };
    let right = if parts.method == Method::DELETE { Right::Delete } else { Right::Publish };
    if service.access.grant(&context.caller, &id, right) != Grant::Named {
        context.refused_by = service.access.deciding_rule(&id);
        if service.access.grant(&context.caller, &id, Right::Read) == Grant::Refused {
            return Err(unknown(context));
        }
        return Err(Denial::Refused(PublishFailure::forbidden(
            "the rules of this mirror do not give this account the right; ask the operator of this mirror",
        )));
    }
    HostedNames::of(names).check(&id.name).map_err(|error| Denial::Refused(PublishFailure::taken(error)))?;
    context.package = Some(std::sync::Arc::new(id.clone()));
    Ok(id)
}

/// The principal's name in records.
fn publisher(caller: &Caller) -> String {
    caller.principal().map_or_else(|| "operator".to_owned(), |principal| principal.name.to_string())
}

fn change_by(service: &Service, caller: &Caller) -> StateChange {
    StateChange { by: publisher(caller), at: service.registry.now() }
}

async fn put(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: PackageId,
    version: &Version,
    body: &mut receive::UploadBody,
) -> Result<Response<Body>, PublishFailure> {
    let registry = &service.registry;
    let hosted = registry.hosted().ok_or_else(PublishFailure::not_hosting)?;
    let announced = announced_digest(parts)?;
    let limit = hosted.max_zip_bytes();
    receive::check_length(parts, limit)?;
    let publishable = hosted.check(package, version.name())?;
    let mut upload = hosted.begin_upload(publishable.clone()).await?;
    check_new_name(service, hosted, &publishable).await?;
    body.receive(limit, &mut upload).await?;
    let by = change_by(service, &context.caller);
    let release = ReleaseMaker { by, form: PublishForm::default() };
    let acts = Acts::of(context);
    let record = json!({"package": publishable.package.name.to_string(), "version": publishable.version.as_str()});
    let act = acts.begin("publish", &record).await?;
    let published = hosted.publish(upload, announced, release).await;
    act.end(published.as_ref().err().map(ToString::to_string).as_deref()).await;
    // Also after an error: what is cached was made before.
    registry.sources().end_generation(&publishable.package);
    let (created, version) = match published? {
        Publication::Created(version) => (true, version),
        Publication::Unchanged(version) => (false, version),
    };
    let package = publishable.package.name.to_string();
    if created {
        let by = publisher(&context.caller);
        tracing::info!(%package, version = %version.version, digest = %version.digest, %by, "a version is published");
    }
    let answer = PublishedVersion {
        package,
        version: version.version.to_string(),
        digest: version.digest,
        size: version.len,
        created,
    };
    Ok(json_answer(if created { StatusCode::CREATED } else { StatusCode::OK }, &answer))
}

async fn delete(
    service: &Service,
    context: &mut RequestContext,
    package: &PackageId,
    version: &Version,
) -> Result<Response<Body>, PublishFailure> {
    let hosted = service.registry.hosted().ok_or_else(PublishFailure::not_hosting)?;
    let by = change_by(service, &context.caller);
    let acts = Acts::of(context);
    let record = json!({"package": package.name.to_string(), "version": version.name()});
    let act = acts.begin("delete", &record).await?;
    let deleted = hosted.delete(package, version.name(), by).await;
    act.end(deleted.as_ref().err().map(ToString::to_string).as_deref()).await;
    service.registry.sources().end_generation(package);
    match deleted {
        Ok(()) | Err(ChangeError::Deleted(_)) => {}
        Err(ChangeError::Unknown) => return Err(PublishFailure::no_version(package, version.name())),
        Err(ChangeError::Io(error)) => return Err(PublishFailure::storage(&error)),
    }
    let by = publisher(&context.caller);
    tracing::info!(%package, %version, %by, "a version is deleted");
    let answer = DeletedVersion { package: package.name.to_string(), version: version.name().to_owned() };
    Ok(json_answer(StatusCode::OK, &answer))
}

/// Checks a name under which nothing was published: one that an upstream has is not taken from it, unless the configuration
/// gives it to this mirror.
async fn check_new_name(
    service: &Service,
    hosted: &HostedPackages,
    publishable: &PublishableVersion,
) -> Result<(), PublishFailure> {
    let name = &publishable.package.name;
    if hosted.is_published(&publishable.package) || HostedNames::of(&service.names).is_reserved(name) {
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

/// The digest that the client announces.
fn announced_digest(parts: &Parts) -> Result<Option<Digest>, PublishFailure> {
    let mut values = parts.headers.get_all(CONTENT_DIGEST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match parse_content_digest(value) {
        Some(digest) if values.next().is_none() => Ok(Some(digest)),
        _ => Err(PublishFailure::bad_request("Content-Digest must have one sha-256, as RFC 9530 writes it")),
    }
}

fn json_answer(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    // None of the values has a map with keys that are no text: writing them cannot fail.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    json_response(status, Bytes::from(text), &Method::PUT)
}
