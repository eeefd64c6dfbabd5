//! Header names and values that several kinds of responses share.

use http::{HeaderName, HeaderValue, Response, Version, header, request::Parts};

use crate::http::body::Body;

/// The mirror's name in `Cache-Status` ([RFC 9211 §2](https://www.rfc-editor.org/rfc/rfc9211#section-2)).
pub(super) const CACHE_NAME: &str = "srm-mirror";

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `Cache-Control` of a response whose content may change: JSON, and the zip of a branch.
pub(super) const MUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=60");
/// `Cache-Control` of a response that never changes: the zip of a tag or a commit.
pub(super) const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// `Cache-Control` of a response that holds for this request only.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Asks the client to close the connection after this response. HTTP/2 has no such field (RFC 9113 §8.2.2).
pub(super) fn close_connection(response: &mut Response<Body>, parts: &Parts) {
    if parts.version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
