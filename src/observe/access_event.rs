//! The access event, and how much of what a client sent is logged.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::http::body::BodyOutcome;

/// What is percent-encoded in a host or a path, besides every byte that is not ASCII.
const UNPRINTABLE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\\');
/// Bytes of a method that are logged: a client may send any token.
pub(super) const MAX_METHOD_BYTES: usize = 32;
/// Bytes of a path that are logged, before they are encoded.
pub(super) const MAX_PATH_BYTES: usize = 256;
/// Bytes of a reason that are logged.
pub(super) const MAX_LOGGED_REASON_BYTES: usize = 256;

/// The access event of one request, written once, when the response has ended. A field that is `None` is absent.
///
/// Borrows all of its fields; nothing is formatted while the level is off.
#[derive(Clone, Debug)]
pub struct AccessEvent<'a> {
    /// The request id, as sent to the client.
    pub request_id: &'a str,
    /// The client's address: the one that a trusted proxy names, else the peer's; `None` on the control socket.
    pub client: Option<IpAddr>,
    /// The other end of the connection; `None` on the control socket.
    pub peer: Option<SocketAddr>,
    /// The principal, such as `token:ci`; `None` without valid credentials.
    pub principal: Option<&'a str>,
    /// The id of its credential, which is no secret.
    pub credential: Option<&'a str>,
    /// `User-Agent` of the request; escaped and truncated to 128 bytes.
    pub user_agent: Option<&'a str>,
    /// The method, truncated to 32 bytes.
    pub method: &'a str,
    /// The host as the client sent it; percent-encoded where it is not printable, and truncated to 128 bytes.
    pub host: Option<&'a [u8]>,
    /// The path without its query, in the same form, truncated to 256 bytes.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2.0` …
    pub protocol: &'a str,
    /// True for a connection with TLS.
    pub tls: bool,
    /// The kind of resource: `zip`, `releases`, `health` …; `None` for a path that is no route.
    pub route: Option<&'a str>,
    /// `srm`, `github`, `ops` …; `None` for a path that is no route.
    pub dialect: Option<&'a str>,
    /// The upstream's configured name.
    pub upstream: Option<&'a str>,
    /// `owner/repo`.
    pub package: Option<&'a str>,
    /// The version as requested.
    pub version: Option<&'a str>,
    /// Status code of the response; `None` if the client disconnected before the response.
    pub status: Option<u16>,
    /// How the cache handled the request, in one word: `hit`, `miss`, `collapsed`, `stale`.
    pub cache: Option<&'a str>,
    /// The `Cache-Status` member of the response (RFC 9211).
    pub cache_status: Option<&'a str>,
    /// Status code of the upstream's response, if a request was sent.
    pub upstream_status: Option<u16>,
    /// Bytes of the body that were passed to the connection.
    pub bytes: u64,
    /// Milliseconds from the request's header to the response's header.
    pub head_ms: Option<u64>,
    /// Milliseconds from the request's header to the end of the response.
    pub duration_ms: u64,
    /// How the response ended.
    pub outcome: BodyOutcome,
    /// The `code` of an error response.
    pub code: Option<&'a str>,
    /// The sentence of an error response, or why the response was broken off; truncated to 256 bytes.
    pub reason: Option<&'a str>,
}

/// The longest prefix of `text` of at most `max_bytes` bytes that ends at a character boundary.
pub(super) fn truncate(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        text
    } else {
        (0..=max_bytes).rev().find_map(|end| text.get(..end)).unwrap_or_default()
    }
}

/// At most `max_bytes` of the text, percent-encoded where a terminal or a reader of the log could misread them.
pub(super) fn printable(text: &[u8], max_bytes: usize) -> Cow<'_, str> {
    percent_encode(&text[..text.len().min(max_bytes)], UNPRINTABLE).into()
}
