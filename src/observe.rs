//! What the mirror says of itself: the log, and its one event per request.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The target of access events, for filters: `info,srm_mirror::access=off`.
pub const ACCESS: &str = "srm_mirror::access";

/// The `[log]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How events look.
    pub format: Format,
    /// Least severe level that is written, or a filter such as `info,srm_mirror::cache=debug`.
    pub level: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".into() }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always one JSON object per line.
    Json,
}

/// Parses `log.level`.
///
/// # Errors
/// A clause that says what is wrong, with an example.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    const EXAMPLE: &str = "for example \"info\" or \"info,srm_mirror::cache=debug\"";
    let parts = || level.split(',').map(str::trim);
    // The filter takes a single unknown word for the name of a module, and would turn everything else off.
    let bare = |part: &&str| !part.contains(['=', '[']);
    if let Some(part) = parts().filter(bare).find(|part| part.parse::<LevelFilter>().is_err() || part.is_empty()) {
        return Err(format!("\"{part}\" is no level (error, warn, info, debug, trace, off); {EXAMPLE}"));
    }
    EnvFilter::builder().parse(level).map_err(|_| format!("not a filter; {EXAMPLE}"))
}

/// Sets the log up for the whole process; it goes to standard error. To be called once.
///
/// # Errors
/// When the level is no filter, or a log is set up already.
pub fn init(config: &Config) -> Result<(), String> {
    let filter = filter(&config.level)?;
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let done = if json {
        registry.with(json_layer(io::stderr)).try_init()
    } else {
        let layer = fmt::layer().with_writer(io::stderr);
        // Left alone on a terminal, the layer itself honours NO_COLOR.
        let layer = if terminal { layer } else { layer.with_ansi(false) };
        registry.with(layer).try_init()
    };
    done.map_err(|_| "the log is set up already".to_owned())
}

/// One flat object per line: the event's own fields beside `timestamp`, `level` and `target`, no nested spans.
fn json_layer<S, W>(writer: W) -> fmt::Layer<S, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json>, W>
where
    W: for<'a> fmt::MakeWriter<'a> + 'static,
{
    fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_writer(writer)
}

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
    /// Status of the answer.
    pub status: u16,
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

/// Writes the access event of one request.
pub fn access(event: &AccessEvent<'_>) {
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

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
            status: 200,
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
        let (method, agent) = ("M".repeat(30_000), "a".repeat(30_000));
        let text = written("info", &AccessEvent { method: &method, user_agent: Some(&agent), ..event() });
        assert!(text.len() < 1000, "{} bytes", text.len());
    }

    #[test]
    fn a_long_user_agent_is_cut_between_letters() {
        assert_eq!((cut("abc", 3), cut("aäb", 2), cut("", 1)), ("abc", "a", ""));
    }

    #[test]
    fn a_misspelt_level_is_refused_with_the_words_there_are() {
        for level in ["", "inof", "info,", "info,srm_mirror=loud", "verbose"] {
            assert!(filter(level).expect_err(level).contains("for example"), "{level}");
        }
        for level in ["info", "WARN", "off", "info,srm_mirror::cache=debug,hyper=off"] {
            assert!(filter(level).is_ok(), "{level}");
        }
    }
}
