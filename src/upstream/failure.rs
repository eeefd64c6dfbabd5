//! Maps errors of the HTTP client to [`FetchError`], without any text or address of the upstream.

use std::{error::Error, io};

use crate::origin::FetchError;

/// Reason of a [`FetchError::Timeout`] before the response head.
pub(super) const RESPONSE_TIMED_OUT: &str = "no response in time";
/// Reason of a [`FetchError::Timeout`] of a whole call: a document with all its pages, or the opening of an archive.
pub(super) const CALL_TIMED_OUT: &str = "the whole answer took too long";
/// Reason of a [`FetchError::Timeout`] within a body.
pub(super) const BODY_TIMED_OUT: &str = "the response body stalled";

/// An invalid response; `what` completes the sentence of [`FetchError::Invalid`].
pub(super) fn invalid(what: &str) -> FetchError {
    FetchError::Invalid(what.to_owned())
}

/// Why there is no response head.
pub(super) fn of_request(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Timeout(if error.is_connect() { "no connection in time" } else { RESPONSE_TIMED_OUT });
    }
    if error.is_builder() {
        return FetchError::Refused("an address that cannot be requested".into());
    }
    FetchError::Unreachable(match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no route",
        _ if error.is_dns() => "name not resolved",
        _ if causes(error).any(|cause| mentions(cause, "certificate")) => "TLS certificate not trusted",
        _ if causes(error).any(|cause| mentions(cause, "tunnel") || mentions(cause, "SOCKS")) => "the proxy refused",
        _ if error.is_connect() => "connection failed",
        _ => "connection closed before a response",
    })
}

/// Why a body is incomplete.
pub(super) fn of_body(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        FetchError::Timeout(BODY_TIMED_OUT)
    } else {
        FetchError::Unreachable("connection closed within the response body")
    }
}

/// True when the failure is typical of an idle connection that the server has closed: no byte of a response, and no
/// failure to connect.
pub(super) fn is_stale_connection(error: &reqwest::Error) -> bool {
    let closed = |kind| {
        matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    };
    error.is_request()
        && !error.is_connect()
        && !error.is_timeout()
        && (io_kind(error).is_some_and(closed)
            || causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(|cause| {
                // hyper reports "connection closed before message completed" only as these kinds.
                cause.is_incomplete_message() || cause.is_canceled() || cause.is_closed()
            }))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last()
}

fn mentions(cause: &(dyn Error + 'static), word: &str) -> bool {
    cause.to_string().contains(word)
}
