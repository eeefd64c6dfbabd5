//! The zip of a version: conditions, ranges, and a body that follows a running download.

use http::{Method, Response, StatusCode, Version as HttpVersion, request::Parts};

use crate::{
    http::{
        body::Body,
        conditional::{self, Precondition},
        range::{RangeDecision, RangeSpec},
    },
    package::{PackageId, Version},
    registry::{Object, ServedArchive, SpoolReader, resolved::ResolvedArchive},
    service::{
        Service,
        context::{RequestContext, SendMode},
        error::ApiError,
        zip_body::{range_body, streaming_body},
        zip_response::{self, complete_zip},
    },
};

/// Responds with the zip of a version.
///
/// # Errors
/// When the registry has no zip, or when a running download had to be awaited (a range of unknown length, HTTP/1.0) and
/// failed.
pub(in crate::service) async fn respond(
    service: &Service,
    parts: &Parts,
    context: &mut RequestContext,
    package: &PackageId,
    version: &Version,
) -> Result<Response<Body>, ApiError> {
    let archive = service.registry.folders().whole_archive(package, version).await?;
    context.cache_status = Some(archive.answer.status.clone());
    context.zip = archive.cacheable_object().map(Object::downgrade);
    let ResolvedArchive { answer, resolved } = archive;
    let mut response = match answer.served {
        ServedArchive::Stored(object) => stored_zip(parts, object, context),
        ServedArchive::Arriving { spool_reader, len: None } if ends_by_closing(parts) => {
            // A body that breaks off would look complete: wait until the download has succeeded.
            stored_zip(parts, spool_reader.whole().await.map_err(ApiError::Download)?, context)
        }
        ServedArchive::Arriving { spool_reader, len } => arriving_zip(parts, spool_reader, len, context).await?,
    };
    zip_response::add_headers(&mut response, &resolved, answer.age, &package.name);
    Ok(response)
}

/// True when the end of a body without `Content-Length` is the end of the connection (RFC 9112 §6.3).
fn ends_by_closing(parts: &Parts) -> bool {
    parts.version < HttpVersion::HTTP_11 && parts.method != Method::HEAD
}

/// The response for a complete zip: length and digest are known.
fn stored_zip(parts: &Parts, object: Object, context: &mut RequestContext) -> Response<Body> {
    context.note_whole(&object);
    let send_mode = context.send_mode;
    let meta = object.meta.clone();
    complete_zip(&parts.method, &parts.headers, &meta.digest, meta.len, |range| range_body(object, range, send_mode))
}

/// The response for a zip that is being downloaded: without a digest, no entity tag matches.
async fn arriving_zip(
    parts: &Parts,
    spool_reader: SpoolReader,
    len: Option<u64>,
    context: &mut RequestContext,
) -> Result<Response<Body>, ApiError> {
    let method = &parts.method;
    match conditional::decide(&parts.headers, method, None) {
        Precondition::NotModified => return Ok(zip_response::empty(StatusCode::NOT_MODIFIED)),
        Precondition::Failed => return Ok(zip_response::empty(StatusCode::PRECONDITION_FAILED)),
        Precondition::Proceed => {}
    }
    let spool_reader = spool_reader.direct(context.send_mode == SendMode::Sendfile);
    let whole = |spool_reader, len| {
        let body = if *method == Method::HEAD { Body::empty() } else { streaming_body(spool_reader, len) };
        zip_response::with_body(StatusCode::OK, len, body)
    };
    let range_spec = RangeSpec::parse(&parts.headers, method, None);
    if range_spec == RangeSpec::Whole {
        return Ok(whole(spool_reader, len));
    }
    let Some(len) = len else {
        // Content-Range needs the length: wait for the end of the download.
        let object = spool_reader.whole().await.map_err(ApiError::Download)?;
        return Ok(stored_zip(parts, object, context));
    };
    match range_spec.resolve(len) {
        RangeDecision::Whole => Ok(whole(spool_reader, Some(len))),
        RangeDecision::Unsatisfiable => Ok(zip_response::unsatisfiable(len)),
        RangeDecision::Part { first, last } => {
            let body = streaming_body(spool_reader.within(first..last + 1), Some(last + 1 - first));
            Ok(zip_response::partial(first, last, len, body))
        }
    }
}
