//! `/-/openapi.json`: the description of every route in the form of OpenAPI 3.1. It is written by hand; the tests hold it to
//! the path grammar and to the administration API, and a promise holds it to the answers of a running mirror.

use std::{io::Read as _, sync::LazyLock};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};

use crate::{
    http::{accept_encoding::accepts_gzip, body::Body},
    service::{headers::fresh_for, json_response::json_response},
};

/// The document as `build.rs` has compressed it, with gzip.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));
/// The document. It is the same for every mirror and every client, and holds no secret.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = Vec::new();
    // Cannot fail: the bytes are part of the executable.
    let _ = GzDecoder::new(COMPRESSED).read_to_end(&mut text);
    text.into()
});
/// How long a client may use the document without a new request, seconds: another release may have another document.
const DOCUMENT_MAX_AGE: u64 = 60;

/// Responds with the document, compressed where the client accepts that.
pub(in crate::service) fn respond(parts: &Parts) -> Response<Body> {
    let is_compressed = accepts_gzip(&parts.headers);
    let body = if is_compressed { Bytes::from_static(COMPRESSED) } else { DOCUMENT.clone() };
    let mut response = json_response(StatusCode::OK, body, &parts.method);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, fresh_for(DOCUMENT_MAX_AGE));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

#[cfg(test)]
mod tests;
