//! Responses with an HTML page: their header fields, and their compression.

use std::io::Write as _;

use askama::Template;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};

use crate::{
    http::{accept_encoding::accepts_gzip, body::Body},
    service::headers::NO_STORE,
};

const TEXT_HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// The content security policy: a page loads the mirror's own stylesheet and icon only and runs no script, its form leads to
/// the mirror, and no page of another site may frame it.
const CONTENT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
/// Shortest text, in bytes, that is compressed: a shorter one fits one packet.
const MIN_COMPRESSED_BYTES: usize = 1_400;

/// A response with a rendered page.
pub(super) fn respond(status: StatusCode, page: &impl Template, parts: &Parts) -> Response<Body> {
    // The templates write to a text, which does not fail.
    let text = page.render().unwrap_or_else(|error| {
        tracing::error!(%error, "a page cannot be rendered");
        String::new()
    });
    let mut response = content(text.into_bytes().into(), parts);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, TEXT_HTML);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    add_security_headers(headers);
    response
}

/// Adds the header fields that say what the page may load and where it may be shown.
fn add_security_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), same_origin.clone());
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same_origin);
}

/// A response with a text, compressed where the client accepts gzip; for HEAD without the body.
pub(super) fn content(text: Bytes, parts: &Parts) -> Response<Body> {
    let compressed =
        if text.len() >= MIN_COMPRESSED_BYTES && accepts_gzip(&parts.headers) { gzip(&text) } else { None };
    let is_compressed = compressed.is_some();
    let text = compressed.unwrap_or(text);
    let len = HeaderValue::from(text.len());
    let mut response = Response::new(if parts.method == Method::HEAD { Body::empty() } else { Body::full(text) });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, len);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn gzip(text: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 3), Compression::fast());
    encoder.write_all(text).ok()?;
    Some(encoder.finish().ok()?.into())
}
