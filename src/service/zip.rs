//! A complete zip as an HTTP answer, whatever its bytes are made of, and the headers that every zip has.

use std::{ops::Range, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::{
    entry::Digest,
    http::{
        body::Body,
        conditional::{self, Precondition},
        field::{content_disposition, repr_digest, strong_etag},
        range::{self, RangeDecision},
    },
    package::PackageName,
    registry::resolve::ResolvedVersion,
};

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const MUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=60");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ZIP: HeaderValue = HeaderValue::from_static("application/zip");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Answers with a zip whose length and digest are known: conditions, then ranges, then what `body` makes of a part.
pub(super) fn complete(
    method: &Method,
    headers: &HeaderMap,
    digest: &Digest,
    len: u64,
    body: impl FnOnce(Range<u64>) -> Body,
) -> Response<Body> {
    let etag = strong_etag(digest);
    let body = |part: Range<u64>| if *method == Method::HEAD { Body::empty() } else { body(part) };
    let mut response = match conditional::decide(headers, method, Some(&etag)) {
        Precondition::NotModified => status(StatusCode::NOT_MODIFIED),
        Precondition::Failed => status(StatusCode::PRECONDITION_FAILED),
        Precondition::Proceed => match range::decide(headers, method, len, Some(&etag)) {
            RangeDecision::Unsatisfiable => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                response.headers_mut().insert(header::CONTENT_RANGE, range::unsatisfied_range(len));
                response
            }
            RangeDecision::Whole => zip(StatusCode::OK, Some(len), body(0..len)),
            RangeDecision::Part { first, last } => {
                let mut response = zip(StatusCode::PARTIAL_CONTENT, Some(last + 1 - first), body(first..last + 1));
                response.headers_mut().insert(header::CONTENT_RANGE, range::content_range(first, last, len));
                response
            }
        },
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert("repr-digest", repr_digest(digest));
    out.insert(header::ACCEPT_RANGES, BYTES);
    response
}

/// An answer that carries a zip or a part of one.
pub(super) fn zip(status: StatusCode, len: Option<u64>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, ZIP);
    if let Some(len) = len {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    response
}

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The headers that say how old a zip is, how long it may be kept, and what to call it.
pub(super) fn finish(response: &mut Response<Body>, resolved: &ResolvedVersion, age: Duration, package: &PackageName) {
    let success = response.status().is_success();
    let client_error = response.status().is_client_error();
    let out = response.headers_mut();
    if out.contains_key(header::ETAG) {
        out.insert(header::AGE, HeaderValue::from(age.as_secs()));
    }
    let cache_control = match resolved {
        // What does not fit this request's range or condition says nothing to anybody else's.
        _ if client_error => NO_STORE,
        ResolvedVersion::Branch { .. } => MUTABLE,
        ResolvedVersion::Tag(_) | ResolvedVersion::Commit(_) => IMMUTABLE,
    };
    out.insert(header::CACHE_CONTROL, cache_control);
    if success {
        let version = match resolved {
            ResolvedVersion::Tag(name) | ResolvedVersion::Commit(name) | ResolvedVersion::Branch { name, .. } => name,
        };
        let filename = format!("{}-{}.zip", package.repo(), version.replace('/', "-"));
        out.insert(header::CONTENT_DISPOSITION, content_disposition(&filename));
    }
}
