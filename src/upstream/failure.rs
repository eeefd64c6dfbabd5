//! From what the HTTP client reports to [`FetchError`], without a word of the upstream's and without any address.

use std::{error::Error, io};

use crate::origin::FetchError;

/// An answer that is not what it should be; `what` completes "upstream answered nonsense:".
pub(super) fn invalid(what: &str) -> FetchError {
    FetchError::Invalid(what.to_owned())
}

/// Why there was no head of an answer.
pub(super) fn of_request(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Timeout(if error.is_connect() { "no connection in time" } else { "no answer in time" });
    }
    if error.is_builder() {
        return FetchError::Refused("an address that no request can be made for".into());
    }
    FetchError::Unreachable(match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused",
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => "no route",
        _ if error.is_dns() => "name not resolved",
        _ if causes(error).any(|cause| says(cause, "certificate")) => "TLS certificate not trusted",
        _ if causes(error).any(|cause| says(cause, "tunnel") || says(cause, "SOCKS")) => "the proxy refused",
        _ if error.is_connect() => "connection failed",
        _ => "connection broke before an answer",
    })
}

/// Why a body ended before its end.
pub(super) fn of_body(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        FetchError::Timeout("silence in the middle of an answer")
    } else {
        FetchError::Unreachable("connection broke in the middle of an answer")
    }
}

/// True when the failure is what a kept connection looks like that the other side has closed meanwhile:
/// not one byte of an answer, and no trouble in connecting.
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
                // hyper knows "the connection closed before the message completed" only as this kind.
                cause.is_incomplete_message() || cause.is_canceled() || cause.is_closed()
            }))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last()
}

fn says(cause: &(dyn Error + 'static), word: &str) -> bool {
    cause.to_string().contains(word)
}
