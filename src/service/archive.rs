//! A zip as an HTTP answer: conditions, ranges, headers, and a body that follows what is still arriving.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::{
    http::{
        body::{Body, BodyError},
        conditional::{self, Precondition},
        field::{content_disposition, repr_digest, strong_etag},
        range::{self, RangeDecision, Wanted},
    },
    mirror::{
        Content, Object, Served, Tail,
        resolve::{Archive, Resolved},
    },
    origin::FetchError,
    package::PackageName,
};

/// Most bytes of one read from a stored zip.
const CHUNK: usize = 256 << 10;

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const MUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=60");
const ZIP: HeaderValue = HeaderValue::from_static("application/zip");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Makes the answer to a request for a zip.
///
/// # Errors
/// When a part was asked of a zip that is still arriving, and it failed before its end.
pub(super) async fn respond(
    method: &Method,
    headers: &HeaderMap,
    package: &PackageName,
    archive: Archive,
) -> Result<Response<Body>, FetchError> {
    let Archive { answer, resolved } = archive;
    let mut response = match answer.served {
        Served::Stored(object) => stored(method, headers, object),
        Served::Arriving { tail, len } => arriving(method, headers, tail, len).await?,
    };
    let out = response.headers_mut();
    if out.contains_key(header::ETAG) {
        out.insert(header::AGE, HeaderValue::from(answer.age.as_secs()));
    }
    let cache_control = if matches!(resolved, Resolved::Branch { .. }) { MUTABLE } else { IMMUTABLE };
    out.insert(header::CACHE_CONTROL, cache_control);
    if response.status().is_success() {
        let version = match &resolved {
            Resolved::Tag(name) | Resolved::Commit(name) | Resolved::Branch { name, .. } => name,
        };
        let filename = format!("{}-{}.zip", package.repo(), version.replace('/', "-"));
        response.headers_mut().insert(header::CONTENT_DISPOSITION, content_disposition(&filename));
    }
    Ok(response)
}

/// A complete zip: length and digest are known, any part can be had.
fn stored(method: &Method, headers: &HeaderMap, object: Object) -> Response<Body> {
    let (digest, len) = (object.meta.digest, object.meta.len);
    let etag = strong_etag(&digest.0);
    let mut response = match conditional::decide(headers, method, Some(&etag)) {
        Precondition::NotModified => status(StatusCode::NOT_MODIFIED),
        Precondition::Failed => status(StatusCode::PRECONDITION_FAILED),
        Precondition::Proceed => match range::decide(headers, method, len, Some(&etag)) {
            RangeDecision::Unsatisfiable => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                response.headers_mut().insert(header::CONTENT_RANGE, range::unsatisfied_range(len));
                response
            }
            RangeDecision::Whole => zip(StatusCode::OK, len, part(method, object, 0..len)),
            RangeDecision::Part { first, last } => {
                let body = part(method, object, first..last + 1);
                let mut response = zip(StatusCode::PARTIAL_CONTENT, last + 1 - first, body);
                response.headers_mut().insert(header::CONTENT_RANGE, range::content_range(first, last, len));
                response
            }
        },
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert("repr-digest", repr_digest(&digest.0));
    out.insert(header::ACCEPT_RANGES, BYTES);
    response
}

/// A zip whose download still runs: no digest is known, so no condition can hold.
async fn arriving(
    method: &Method,
    headers: &HeaderMap,
    tail: Tail,
    len: Option<u64>,
) -> Result<Response<Body>, FetchError> {
    let wanted = Wanted::of(headers, method, None);
    if wanted == Wanted::Whole {
        return Ok(growing(method, StatusCode::OK, tail, len));
    }
    let Some(len) = len else {
        // A part of unknown length cannot be described: wait for the end.
        return match tail.whole().await? {
            Ok(object) => Ok(stored(method, headers, object)),
            Err(tail) => Ok(growing(method, StatusCode::OK, tail, None)),
        };
    };
    match wanted.resolve(len) {
        RangeDecision::Whole => Ok(growing(method, StatusCode::OK, tail, Some(len))),
        RangeDecision::Unsatisfiable => {
            let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
            response.headers_mut().insert(header::CONTENT_RANGE, range::unsatisfied_range(len));
            Ok(response)
        }
        RangeDecision::Part { first, last } => {
            let (tail, confined) = tail.within(first..last + 1);
            if !confined {
                return Ok(growing(method, StatusCode::OK, tail, Some(len)));
            }
            let mut response = growing(method, StatusCode::PARTIAL_CONTENT, tail, Some(last + 1 - first));
            response.headers_mut().insert(header::CONTENT_RANGE, range::content_range(first, last, len));
            Ok(response)
        }
    }
}

fn growing(method: &Method, status: StatusCode, tail: Tail, len: Option<u64>) -> Response<Body> {
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let next = |mut tail: Tail| async move {
            let bytes = tail.next().await.map_err(BodyError::from)?;
            Ok::<_, BodyError>(bytes.map(|bytes| (bytes, tail)))
        };
        Body::stream(stream::try_unfold(tail, next).boxed(), len)
    };
    match len {
        Some(len) => zip(status, len, body),
        None => {
            let mut response = Response::new(body);
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, ZIP);
            response
        }
    }
}

fn zip(status: StatusCode, len: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, ZIP);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The bytes of a part, or none for HEAD.
fn part(method: &Method, object: Object, range: Range<u64>) -> Body {
    if *method == Method::HEAD {
        return Body::empty();
    }
    if let Content::Memory(bytes) = &object.content {
        let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        return Body::full(bytes.slice(position(range.start)..position(range.end)));
    }
    let len = range.end - range.start;
    let next = |(object, range): (Object, Range<u64>)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let want = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(CHUNK);
        let bytes: Bytes = object.read(range.start, want).await.map_err(|error| {
            tracing::error!(target: "srm_mirror::service", digest = %object.meta.digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        let rest = range.start + bytes.len() as u64..range.end;
        Ok::<_, BodyError>(Some((bytes, (object, rest))))
    };
    Body::stream(stream::try_unfold((object, range), next).boxed(), Some(len))
}
