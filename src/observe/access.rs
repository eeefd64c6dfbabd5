//! The one event of each request.

use std::{io::Write as _, net::SocketAddr, sync::OnceLock};

use jiff::Timestamp;
use serde::Serialize;
use tracing_appender::non_blocking::NonBlocking;

use super::ACCESS;

/// Where events go as lines of JSON; unset, they are events like all others.
static LINES: OnceLock<NonBlocking> = OnceLock::new();

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was handed to the connection.
    Complete,
    /// The client left, or was disconnected.
    Aborted,
    /// The mirror broke the connection: what it had begun to send could not be completed.
    Broken,
}

impl Outcome {
    /// The outcome as one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Broken => "broken",
        }
    }
}

/// What the log says of one request, once, when its answer has ended. Absent facts are absent in the event.
///
/// Borrows everything: to make one costs nothing, and nothing is formatted while the level is off.
#[derive(Clone, Debug)]
pub struct AccessEvent<'a> {
    /// The request's id, as the client got it.
    pub request_id: &'a str,
    /// The client.
    pub client: SocketAddr,
    /// `User-Agent` of the request; clients write it, so it is escaped and cut.
    pub user_agent: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// `srm`, `github`, `ops` …; absent for a path that no dialect knows.
    pub dialect: Option<&'a str>,
    /// The upstream's configured name.
    pub upstream: Option<&'a str>,
    /// `owner/repo`.
    pub package: Option<&'a str>,
    /// The version as it was asked for.
    pub version: Option<&'a str>,
    /// Status of the answer; absent where the client left before there was one.
    pub status: Option<u16>,
    /// What the cache did, in one word: `hit`, `miss`, `collapsed`, `stale`.
    pub cache: Option<&'a str>,
    /// The `Cache-Status` member of the answer (RFC 9211).
    pub cache_status: Option<&'a str>,
    /// Status of the upstream's answer, where one was asked for.
    pub upstream_status: Option<u16>,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
    /// From the request's header to the end of the answer, milliseconds.
    pub duration_ms: u64,
    /// From the request's header to the first byte of the answer's body, milliseconds.
    pub first_byte_ms: Option<u64>,
    /// How the answer ended.
    pub outcome: Outcome,
}

/// Longest `User-Agent` that is logged, in bytes.
const AGENT: usize = 128;

/// Longest method that is logged, in bytes: clients may invent any.
const METHOD: usize = 32;

/// True when access events are written; without that there is no use in collecting their facts.
pub fn access_enabled() -> bool {
    tracing::enabled!(target: ACCESS, tracing::Level::INFO)
}

/// Has events written as lines of JSON from now on. To be called once.
pub(super) fn write_lines_to(queue: NonBlocking) {
    let _ = LINES.set(queue);
}

/// Writes the access event of one request.
pub fn access(event: &AccessEvent<'_>) {
    // Straight to the queue: one line for each request is the most of what the log writes, and the general way with its
    // visitors takes several times as long.
    if let Some(queue) = LINES.get() {
        if access_enabled() {
            let _ = queue.clone().write_all(&line(event, Timestamp::now()));
        }
        return;
    }
    // The macro looks at the level before it looks at any field.
    tracing::info!(
        target: ACCESS,
        request_id = event.request_id,
        client = %event.client,
        user_agent = event.user_agent.map(|text| cut(text, AGENT)),
        method = cut(event.method, METHOD),
        dialect = event.dialect,
        upstream = event.upstream,
        package = event.package,
        version = event.version,
        status = event.status,
        cache = event.cache,
        cache_status = event.cache_status,
        upstream_status = event.upstream_status,
        bytes = event.bytes,
        duration_ms = event.duration_ms,
        first_byte_ms = event.first_byte_ms,
        outcome = event.outcome.as_str(),
        "request"
    );
}

/// The beginning of a text, at most `most` bytes of it.
fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most { text } else { (0..=most).rev().find_map(|end| text.get(..end)).unwrap_or_default() }
}

/// An event as the JSON layer of the log would write it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: Timestamp,
    level: &'a str,
    message: &'a str,
    request_id: &'a str,
    client: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_status: Option<u16>,
    bytes: u64,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<u64>,
    outcome: &'a str,
    target: &'a str,
}

fn line(event: &AccessEvent<'_>, timestamp: Timestamp) -> Vec<u8> {
    let line = Line {
        timestamp,
        level: "INFO",
        message: "request",
        request_id: event.request_id,
        client: event.client,
        user_agent: event.user_agent.map(|text| cut(text, AGENT)),
        method: cut(event.method, METHOD),
        dialect: event.dialect,
        upstream: event.upstream,
        package: event.package,
        version: event.version,
        status: event.status,
        cache: event.cache,
        cache_status: event.cache_status,
        upstream_status: event.upstream_status,
        bytes: event.bytes,
        duration_ms: event.duration_ms,
        first_byte_ms: event.first_byte_ms,
        outcome: event.outcome.as_str(),
        target: ACCESS,
    };
    let mut text = Vec::with_capacity(512);
    // Nothing in it can fail to be written.
    let _ = serde_json::to_writer(&mut text, &line);
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;
    use crate::observe::{filter, json_layer};
    use tracing_subscriber::layer::SubscriberExt;

    /// A writer that keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(level: &str, event: &AccessEvent<'_>) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = json_layer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter(level).expect("filter")).with(layer);
        tracing::subscriber::with_default(subscriber, || access(event));
        String::from_utf8(kept.0.lock().expect("lock").clone()).expect("text")
    }

    fn event() -> AccessEvent<'static> {
        AccessEvent {
            request_id: "r1",
            client: ([127, 0, 0, 1], 5).into(),
            user_agent: Some("s\"\n3"),
            method: "GET",
            dialect: Some("srm"),
            upstream: Some("github"),
            package: Some("devsapp/fc3"),
            version: None,
            status: Some(200),
            cache: Some("hit"),
            cache_status: Some("srm-mirror; hit"),
            upstream_status: None,
            bytes: 7,
            duration_ms: 3,
            first_byte_ms: Some(1),
            outcome: Outcome::Aborted,
        }
    }

    #[test]
    fn an_access_event_is_one_flat_object_on_one_line() {
        let text = written("info", &event());
        assert_eq!(text.matches('\n').count(), 1);
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        assert!(object.values().all(|value| !value.is_object() && !value.is_array()), "{text}");
        assert_eq!((&object["status"], &object["outcome"]), (&200.into(), &"aborted".into()));
        assert_eq!(object["user_agent"], "s\"\n3");
        assert!(!object.contains_key("version"), "an absent fact is absent: {text}");
    }

    #[test]
    fn access_events_can_be_turned_off_alone() {
        assert_eq!(written("info,srm_mirror::access=off", &event()), "");
        assert_eq!(written("warn", &event()), "");
    }

    #[test]
    fn what_a_client_makes_up_is_logged_only_in_part() {
        let method = "M".repeat(30_000);
        let agent = "a".repeat(30_000);
        let text = written("info", &AccessEvent { method: &method, user_agent: Some(&agent), ..event() });
        assert!(text.len() < 1000, "{} bytes", text.len());
    }

    #[test]
    fn a_long_user_agent_is_cut_between_letters() {
        assert_eq!((cut("abc", 3), cut("aäb", 2), cut("", 1)), ("abc", "a", ""));
    }

    #[test]
    fn a_line_has_what_the_event_has() {
        let bare = AccessEvent {
            user_agent: None,
            dialect: None,
            upstream: None,
            package: None,
            cache: None,
            cache_status: None,
            upstream_status: Some(503),
            first_byte_ms: None,
            status: None,
            version: Some("v1\u{7}"),
            ..event()
        };
        let long = "m".repeat(300);
        for event in [event(), bare, AccessEvent { user_agent: Some(&long), method: &long, ..event() }] {
            let read = |text: &[u8]| -> serde_json::Map<String, serde_json::Value> {
                let mut object: serde_json::Map<_, _> = serde_json::from_slice(text).expect("JSON");
                let time = object.remove("timestamp").expect("a time");
                assert!(time.as_str().expect("text").parse::<Timestamp>().is_ok(), "{time}");
                object
            };
            let line = line(&event, Timestamp::now());
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read(&line), read(written("info", &event).as_bytes()));
        }
    }
}
