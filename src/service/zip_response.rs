//! Responses that carry a zip or a range of one, whatever their bytes are made of.

use std::{ops::Range, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::headers::{MUTABLE_ZIP, NO_STORE, immutable};
use crate::{
    entry::Digest,
    http::{
        body::Body,
        conditional::{self, Precondition},
        field::{content_disposition, repr_digest, strong_etag},
        range::{self, RangeDecision},
    },
    package::PackageName,
    registry::resolved::ResolvedVersion,
};

const APPLICATION_ZIP: HeaderValue = HeaderValue::from_static("application/zip");
const BYTES_UNIT: HeaderValue = HeaderValue::from_static("bytes");

/// The response for a zip whose length and digest are known: conditions, then the range, then the body that
/// `make_body` makes of that range.
pub(super) fn complete_zip(
    method: &Method,
    headers: &HeaderMap,
    digest: &Digest,
    len: u64,
    make_body: impl FnOnce(Range<u64>) -> Body,
) -> Response<Body> {
    let etag = strong_etag(digest);
    let body = |range: Range<u64>| if *method == Method::HEAD { Body::empty() } else { make_body(range) };
    // RFC 9110 §13.2.2: conditions come before the range.
    let mut response = match conditional::decide(headers, method, Some(&etag)) {
        Precondition::NotModified => empty(StatusCode::NOT_MODIFIED),
        Precondition::Failed => empty(StatusCode::PRECONDITION_FAILED),
        Precondition::Proceed => match range::decide(headers, method, len, Some(&etag)) {
            RangeDecision::Unsatisfiable => unsatisfiable(len),
            RangeDecision::Whole => with_body(StatusCode::OK, Some(len), body(0..len)),
            RangeDecision::Part { first, last } => partial(first, last, len, body(first..last + 1)),
        },
    };
    let is_success = response.status().is_success();
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    // RFC 9530 §3: of the selected representation, which in an error is that of the error. RFC 9110 §15.4.5: a 304 has no
    // representation metadata but what guides cache updates.
    if is_success {
        headers.insert("repr-digest", repr_digest(digest));
    }
    headers.insert(header::ACCEPT_RANGES, BYTES_UNIT);
    response
}

/// A response with zip bytes; `len` is `None` when their number is not known.
pub(super) fn with_body(status: StatusCode, len: Option<u64>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_ZIP);
    if let Some(len) = len {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    response
}

/// 206 with the bytes from `first` to `last`, both inclusive, of `len`.
pub(super) fn partial(first: u64, last: u64, len: u64, body: Body) -> Response<Body> {
    let mut response = with_body(StatusCode::PARTIAL_CONTENT, Some(last + 1 - first), body);
    response.headers_mut().insert(header::CONTENT_RANGE, range::content_range(first, last, len));
    response
}

/// 416 for a zip of `len` bytes.
pub(super) fn unsatisfiable(len: u64) -> Response<Body> {
    let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
    response.headers_mut().insert(header::CONTENT_RANGE, range::unsatisfied_range(len));
    response
}

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Adds `Age`, `Cache-Control` and `Content-Disposition`. `age` is the time since the upstream last confirmed what
/// `resolved` says.
pub(super) fn add_headers(
    response: &mut Response<Body>,
    resolved: &ResolvedVersion,
    age: Duration,
    package: &PackageName,
) {
    let is_success = response.status().is_success();
    let is_client_error = response.status().is_client_error();
    let headers = response.headers_mut();
    if headers.contains_key(header::ETAG) {
        headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
    }
    let cache_control = match resolved {
        // An unsatisfiable range or a failed condition is an answer to this request only.
        _ if is_client_error => NO_STORE,
        resolved if resolved.is_immutable() => immutable(age.as_secs()),
        _ => MUTABLE_ZIP,
    };
    headers.insert(header::CACHE_CONTROL, cache_control);
    if is_success {
        let file_name = format!("{}-{}.zip", package.base_name(), resolved.name().replace('/', "-"));
        headers.insert(header::CONTENT_DISPOSITION, content_disposition(&file_name));
    }
}
