//! Header names and values that several kinds of responses share.

use http::{HeaderMap, HeaderName, HeaderValue, Response, Version, header, request::Parts};

use crate::http::{body::Body, field::ascii_value};

/// The mirror's name in `Cache-Status` ([RFC 9211 §2](https://www.rfc-editor.org/rfc/rfc9211#section-2)).
pub(super) const CACHE_NAME: &str = "srm-mirror";

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(super) use crate::http::field::X_REQUEST_ID;

/// `Cache-Control` of a zip whose content may change, such as that of a branch.
pub(super) const MUTABLE_ZIP: HeaderValue = HeaderValue::from_static("public, max-age=60");
/// The least `max-age`, seconds, of a response that never changes: a year.
const IMMUTABLE_MAX_AGE: u64 = 31_536_000;
/// The least freshness lifetime, seconds, that a client has left of such a response: half a year.
const MIN_IMMUTABLE_FRESHNESS: u64 = IMMUTABLE_MAX_AGE / 2;
/// `Cache-Control` of a response that is valid for this request only.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// `Cache-Control` of a response that never changes, the zip of a tag or a commit, beside an `Age` of `age` seconds. A client
/// subtracts `Age` from `max-age` (RFC 9111 §4.2), so that of an old zip is more than a year.
pub(super) fn immutable(age: u64) -> HeaderValue {
    const YOUNG: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
    if age <= IMMUTABLE_MAX_AGE - MIN_IMMUTABLE_FRESHNESS {
        return YOUNG;
    }
    ascii_value(format!("public, max-age={}, immutable", age.saturating_add(MIN_IMMUTABLE_FRESHNESS)))
}

/// `Cache-Control` of JSON with the signed address of a zip.
pub(super) const PRIVATE_NO_STORE: HeaderValue = HeaderValue::from_static("private, no-store");

/// `Cache-Control` of JSON. `max_age`, seconds, includes the time that `Age` states.
pub(super) fn fresh_for(max_age: u64) -> HeaderValue {
    ascii_value(format!("public, max-age={max_age}"))
}

/// Replaces `public` in `Cache-Control` by `private`: the response is for this mirror's clients alone, so shared caches must
/// not store it.
pub(super) fn restrict_to_clients(headers: &mut HeaderMap) {
    let shared = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let Some(rest) = shared.and_then(|value| value.strip_prefix("public")) else { return };
    let restricted = ascii_value(format!("private{rest}"));
    headers.insert(header::CACHE_CONTROL, restricted);
}

/// As [`restrict_to_clients`], and says that the response depends on the request's credentials.
pub(super) fn restrict_to_callers(headers: &mut HeaderMap) {
    restrict_to_clients(headers);
    headers.append(header::VARY, HeaderValue::from_static("authorization"));
}

/// Asks the client to close the connection after this response. HTTP/2 has no such field (RFC 9113 §8.2.2).
pub(super) fn close_connection(response: &mut Response<Body>, parts: &Parts) {
    if parts.version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
