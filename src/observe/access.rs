//! The access log: one event for each request.

use std::{
    borrow::Cow,
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    ACCESS_TARGET,
    access_event::{AccessEvent, MAX_LOGGED_REASON_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, printable, truncate},
    line_queue::LineQueue,
    terminal_line,
};

/// Where access events are written as lines; unset if they are ordinary tracing events.
static ACCESS_LINES: OnceLock<AccessLines> = OnceLock::new();

thread_local! {
    /// The line of the thread's last event, whose memory the next one uses. Bounded, as the fields are.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A queue of access events, each formatted here as one line.
struct AccessLines {
    queue: LineQueue,
    form: AccessForm,
}

/// The form of an access event that is a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessForm {
    /// All fields as a JSON object.
    Json,
    /// The few that a person at a terminal reads.
    Terminal,
}

/// Bytes of a `User-Agent` that are logged.
const MAX_USER_AGENT_BYTES: usize = 128;

/// Bytes of a host that are logged, before they are encoded.
const MAX_LOGGED_HOST_BYTES: usize = 128;

/// True if access events are logged. A caller can skip the collection of their fields otherwise.
pub fn access_log_enabled() -> bool {
    tracing::enabled!(target: ACCESS_TARGET, tracing::Level::INFO)
}

/// Writes all further events to `queue` as lines. Must be called at most once.
pub(super) fn write_lines_to(queue: LineQueue, form: AccessForm) {
    let _ = ACCESS_LINES.set(AccessLines { queue, form });
}

/// Writes the access event of one request.
pub fn write_access_event(event: &AccessEvent<'_>) {
    // Access events are most of the log; formatting them through tracing's field visitors takes several times as long.
    if let Some(AccessLines { queue, form }) = ACCESS_LINES.get() {
        if access_log_enabled() {
            let now = Timestamp::now();
            match form {
                AccessForm::Json => LINE.with_borrow_mut(|line| {
                    line.clear();
                    push_json_line(event, now, line);
                    queue.push(line);
                }),
                AccessForm::Terminal => queue.push(&terminal_line::format(event, now)),
            }
        }
        return;
    }
    // The macro checks the level before it evaluates a field.
    tracing::info!(
        target: ACCESS_TARGET,
        request_id = event.request_id,
        client = event.client.map(tracing::field::display),
        peer = event.peer.map(tracing::field::display),
        principal = event.principal,
        credential = event.credential,
        user_agent = event.user_agent.map(|text| truncate(text, MAX_USER_AGENT_BYTES)),
        method = truncate(event.method, MAX_METHOD_BYTES),
        host = event.host.map(|host| printable(host, MAX_LOGGED_HOST_BYTES)).as_deref(),
        path = &*printable(event.path.as_bytes(), MAX_PATH_BYTES),
        protocol = event.protocol,
        tls = event.tls,
        route = event.route,
        dialect = event.dialect,
        upstream = event.upstream,
        package = event.package,
        version = event.version,
        status = event.status,
        cache = event.cache,
        cache_status = event.cache_status,
        upstream_status = event.upstream_status,
        bytes = event.bytes,
        head_ms = event.head_ms,
        duration_ms = event.duration_ms,
        outcome = event.outcome.as_str(),
        code = event.code,
        reason = event.reason.map(|text| truncate(text, MAX_LOGGED_REASON_BYTES)),
        "request"
    );
}

/// An access event in the form of the log's JSON layer.
#[derive(Serialize)]
struct AccessLine<'a> {
    timestamp: Timestamp,
    level: &'a str,
    message: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    path: Cow<'a, str>,
    protocol: &'a str,
    tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    head_ms: Option<u64>,
    duration_ms: u64,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    target: &'a str,
}

/// Appends the event as JSON, and a line feed.
fn push_json_line(event: &AccessEvent<'_>, timestamp: Timestamp, text: &mut Vec<u8>) {
    let line = AccessLine {
        timestamp,
        level: "INFO",
        message: "request",
        request_id: event.request_id,
        client: event.client,
        peer: event.peer,
        principal: event.principal,
        credential: event.credential,
        user_agent: event.user_agent.map(|text| truncate(text, MAX_USER_AGENT_BYTES)),
        method: truncate(event.method, MAX_METHOD_BYTES),
        host: event.host.map(|host| printable(host, MAX_LOGGED_HOST_BYTES)),
        path: printable(event.path.as_bytes(), MAX_PATH_BYTES),
        protocol: event.protocol,
        tls: event.tls,
        route: event.route,
        dialect: event.dialect,
        upstream: event.upstream,
        package: event.package,
        version: event.version,
        status: event.status,
        cache: event.cache,
        cache_status: event.cache_status,
        upstream_status: event.upstream_status,
        bytes: event.bytes,
        head_ms: event.head_ms,
        duration_ms: event.duration_ms,
        outcome: event.outcome.as_str(),
        code: event.code,
        reason: event.reason.map(|text| truncate(text, MAX_LOGGED_REASON_BYTES)),
        target: ACCESS_TARGET,
    };
    // Cannot fail: the value has no map with keys other than strings, and a `Vec` accepts every write.
    let _ = serde_json::to_writer(&mut *text, &line);
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::http::body::BodyOutcome;
    use crate::observe::{captured::CapturedOutput, json_layer, parse_filter};

    fn written(level: &str, event: &AccessEvent<'_>) -> String {
        let output = CapturedOutput::default();
        let writer = output.clone();
        let layer = json_layer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(parse_filter(level).expect("filter")).with(layer);
        tracing::subscriber::with_default(subscriber, || write_access_event(event));
        output.text()
    }

    fn line(event: &AccessEvent<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        push_json_line(event, Timestamp::now(), &mut text);
        text
    }

    fn event() -> AccessEvent<'static> {
        AccessEvent {
            request_id: "r1",
            client: Some([192, 0, 2, 1].into()),
            peer: Some(([127, 0, 0, 1], 5).into()),
            principal: Some("token:ci"),
            credential: Some("Aa1"),
            user_agent: Some("s\"\n3"),
            method: "GET",
            host: Some(b"mirror:8080"),
            path: "/devsapp/fc3/releases",
            protocol: "HTTP/1.1",
            tls: false,
            route: Some("releases"),
            dialect: Some("srm"),
            upstream: Some("github"),
            package: Some("devsapp/fc3"),
            version: None,
            status: Some(200),
            cache: Some("hit"),
            cache_status: Some("srm-mirror; hit"),
            upstream_status: None,
            bytes: 7,
            head_ms: Some(1),
            duration_ms: 3,
            outcome: BodyOutcome::Aborted,
            code: None,
            reason: None,
        }
    }

    #[test]
    fn access_event_is_one_flat_json_object_on_one_line() {
        let text = written("info", &event());
        assert_eq!(text.matches('\n').count(), 1);
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        assert!(object.values().all(|value| !value.is_object() && !value.is_array()), "{text}");
        assert_eq!((&object["status"], &object["outcome"]), (&200.into(), &"aborted".into()));
        assert_eq!(object["user_agent"], "s\"\n3");
        assert!(!object.contains_key("version"), "a field without a value is absent: {text}");
    }

    #[test]
    fn access_events_can_be_disabled_separately() {
        assert_eq!(written("info,srm_mirror::access=off", &event()), "");
        assert_eq!(written("warn", &event()), "");
    }

    #[test]
    fn access_event_truncates_the_fields_that_a_client_chooses() {
        let method = "M".repeat(30_000);
        let agent = "a".repeat(30_000);
        let path = format!("/{}", "\u{e4}".repeat(30_000));
        let host = [b'\r'; 30_000];
        let hostile =
            AccessEvent { method: &method, user_agent: Some(&agent), path: &path, host: Some(&host), ..event() };
        for text in [written("info", &hostile), String::from_utf8_lossy(&line(&hostile)).into()] {
            assert!(text.len() < 2200, "{} bytes", text.len());
            assert!(text.contains("/%C3%A4%C3") && text.contains("%0D%0D"), "{text}");
        }
    }

    #[test]
    fn user_agent_is_truncated_at_a_character_boundary() {
        assert_eq!((truncate("abc", 3), truncate("aäb", 2), truncate("", 1)), ("abc", "a", ""));
    }

    #[test]
    fn json_line_has_the_same_fields_as_the_tracing_event() {
        let bare = AccessEvent {
            user_agent: None,
            dialect: None,
            upstream: None,
            package: None,
            cache: None,
            cache_status: None,
            upstream_status: Some(503),
            head_ms: None,
            status: None,
            client: None,
            peer: None,
            principal: None,
            credential: None,
            host: None,
            path: "/a\u{202e}\"",
            tls: true,
            route: None,
            code: Some("no-package"),
            version: Some("v1\u{7}"),
            reason: Some("wrong CRC"),
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
            let line = line(&event);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(read(&line), read(written("info", &event).as_bytes()));
        }
    }
}
