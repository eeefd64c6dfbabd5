//! Answers as text, for golden files.

#![allow(dead_code, unreachable_pub)]

use std::fmt::Write as _;

use crate::mirror::Got;

/// The fields of an answer that a client acts on.
const SHOWN: [&str; 8] =
    ["content-type", "cache-control", "allow", "retry-after", "connection", "link", "etag", "cache-status"];

/// Status, the fields a client acts on, and the body; what differs from run to run is replaced.
pub fn golden(got: &Got) -> String {
    let mut text = format!("{}\n", got.status);
    for name in SHOWN.into_iter().filter(|name| !got.header(name).is_empty()) {
        // Freshness is counted by the real clock.
        let value = got.header(name).split("; ttl=").next().unwrap_or_default();
        let _ = writeln!(text, "{name}: {}", if name == "etag" { "…" } else { value });
    }
    let id = got.header("x-request-id");
    assert!(!id.is_empty(), "every answer names its request");
    let body = serde_json::to_string_pretty(&got.json()).expect("JSON").replace(id, "…");
    format!("{text}\n{body}")
}
