//! The access event as one short line for a terminal.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    access_event::{AccessEvent, MAX_LOGGED_REASON_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, printable, truncate},
    log_time::short_time,
};
use crate::{http::body::BodyOutcome, value::text::size};

/// The line: time, status, method, path, how the cache answered, bytes, milliseconds; for an error its sentence.
pub(super) fn format(event: &AccessEvent<'_>, now: Timestamp) -> Vec<u8> {
    let status = event.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let method = truncate(event.method, MAX_METHOD_BYTES);
    let path = printable(event.path.as_bytes(), MAX_PATH_BYTES);
    let mut text = format!("{} {status} {method} {path}", short_time(now));
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "  {}{} {} ms",
        event.cache.map(|cache| format!("{cache} ")).unwrap_or_default(),
        size(event.bytes),
        event.duration_ms
    );
    if event.outcome != BodyOutcome::Complete {
        let _ = write!(text, "  {}", event.outcome.as_str());
    }
    if let Some(reason) = event.reason {
        let _ = write!(text, "  {}", truncate(reason, MAX_LOGGED_REASON_BYTES));
    }
    // What a client sent must not control the terminal.
    let mut line: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    line.push('\n');
    line.into_bytes()
}
