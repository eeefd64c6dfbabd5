//! `/-/openapi.json`: the description of every route in the form of OpenAPI 3.1. It is written by hand; the tests hold it to
//! the path grammar and to the administration API, and a promise holds it to the answers of a running mirror.

use std::{io::Read as _, sync::LazyLock};

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use http::{Response, StatusCode, header, request::Parts};

use super::json::json_response;
use crate::{http::body::Body, service::headers::fresh_for};

/// The document as `build.rs` has compressed it, with zlib.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.zlib"));
/// The document. It is the same for every mirror and every client, and holds no secret.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut text = Vec::new();
    // Cannot fail: the bytes are part of the executable.
    let _ = ZlibDecoder::new(COMPRESSED).read_to_end(&mut text);
    text.into()
});
/// How long a client may use it without asking again, seconds: another release may have another one.
const DOCUMENT_MAX_AGE: u64 = 60;

/// Responds with the document.
pub(in crate::service) fn respond(parts: &Parts) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, DOCUMENT.clone(), &parts.method);
    response.headers_mut().insert(header::CACHE_CONTROL, fresh_for(DOCUMENT_MAX_AGE));
    response
}

#[cfg(test)]
mod tests;
