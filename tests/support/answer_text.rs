//! Renders responses as text for golden files.

#![allow(dead_code, unreachable_pub)]

use std::fmt::Write as _;

use crate::mirror::TestResponse;

/// The header fields of a response that clients evaluate.
const SHOWN_FIELDS: [&str; 8] =
    ["content-type", "cache-control", "allow", "retry-after", "connection", "link", "etag", "cache-status"];

/// A `Cache-Control` field as it is at an age of zero: `max-age` includes the age, which depends on the real clock.
pub fn without_age(cache_control: &str) -> &str {
    let max_age = cache_control.strip_prefix("public, max-age=").and_then(|text| text.parse::<u64>().ok());
    if max_age.is_some_and(|seconds| (60..120).contains(&seconds)) { "public, max-age=60" } else { cache_control }
}

/// Status, [`SHOWN_FIELDS`] and body; values that differ between runs are replaced.
pub fn golden(got: &TestResponse) -> String {
    let mut text = format!("{}\n", got.status);
    for name in SHOWN_FIELDS.into_iter().filter(|name| !got.header(name).is_empty()) {
        // The remaining freshness depends on the real clock.
        let value = without_age(got.header(name)).split("; ttl=").next().unwrap_or_default();
        let _ = writeln!(text, "{name}: {}", if name == "etag" { "…" } else { value });
    }
    let id = got.header("x-request-id");
    assert!(!id.is_empty(), "every response has a request id");
    let body = serde_json::to_string_pretty(&got.json()).expect("JSON").replace(id, "…");
    format!("{text}\n{body}")
}
