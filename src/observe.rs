//! The process log, the access log (one event per request), the audit log, and the figures for `/metrics`.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    fmt::writer::MakeWriterExt as _,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

mod access;
mod access_event;
mod audit;
mod cache_metrics;
#[cfg(test)]
#[path = "../tests/support/captured.rs"]
pub(crate) mod captured;
mod line_queue;
mod log_time;
mod metrics;
mod recent;
mod terminal_line;

use access::AccessForm;
pub use access::{access_log_enabled, write_access_event};
pub use access_event::AccessEvent;
pub use audit::{AUDIT_DEADLINE, AuditConfig, AuditEvent, AuditLog, AuditUnwritable};
pub use cache_metrics::{CacheCounters, CacheMetrics, DOWNLOAD_OUTCOMES, DownloadOutcome};
use line_queue::{LineQueue, LineWriter};
use log_time::LogTime;
pub use metrics::{
    CACHE_OUTCOMES, FAILURE_CAUSES, ROUTE_LABELS, RequestMetrics, ResponseFigures, RouteTotals, STATUS_LABELS,
    TIME_BOUNDS_S, ThreadMetrics, TimeHistogram, TimeTotals, UpstreamMetrics,
};
pub use recent::{RecentEvent, recent_events};

use recent::RecentLayer;

/// The tracing target of access events, for filters such as `info,srm_mirror::access=off`.
pub const ACCESS_TARGET: &str = "srm_mirror::access";

/// The `[log]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The format of an event.
    pub format: LogFormat,
    /// The least severe level that is logged, or a filter such as `info,srm_mirror::cache=debug`.
    pub level: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".into() }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// A `log.level` that is no filter. The text gives an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A word that is no level.
    #[error("\"{0}\" is no level (error, warn, info, debug, trace, off); {FILTER_EXAMPLE}")]
    UnknownLevel(String),
    /// A directive that cannot be parsed.
    #[error("not a filter; {FILTER_EXAMPLE}")]
    Malformed,
}

const FILTER_EXAMPLE: &str = "for example \"info\" or \"info,srm_mirror::cache=debug\"";

/// Parses `log.level`.
///
/// # Errors
/// See [`FilterError`].
pub fn parse_filter(level: &str) -> Result<Targets, FilterError> {
    let directives = || level.split(',').map(str::trim);
    // `Targets` accepts a single unknown word as the name of a module, and would disable every other module.
    let is_bare = |directive: &&str| !directive.contains('=');
    let unknown = |directive: &&str| directive.parse::<LevelFilter>().is_err() || directive.is_empty();
    if let Some(word) = directives().filter(is_bare).find(unknown) {
        return Err(FilterError::UnknownLevel(word.to_owned()));
    }
    level.parse().map_err(|_| FilterError::Malformed)
}

/// How long an access event waits for others, so that one system call writes many.
const ACCESS_BATCH_DELAY: Duration = Duration::from_millis(100);
/// Interval of the warning about dropped events.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The log of the process. Dropping it writes the queued events.
#[must_use]
pub struct LogGuard {
    losses: Arc<LostEvents>,
    _writers: [LineWriter; 2],
}

/// The losses of the process log; set by [`init`].
static LOSSES: OnceLock<Arc<LostEvents>> = OnceLock::new();

/// Events of the process log and the access log that were dropped since the start.
pub fn lost_log_events() -> u64 {
    LOSSES.get().map_or(0, |losses| losses.total() as u64)
}

/// Counts events that were dropped because a queue was full.
struct LostEvents {
    queues: [LineQueue; 2],
    reported: AtomicUsize,
}

impl LostEvents {
    fn total(&self) -> usize {
        self.queues.iter().map(LineQueue::lost).sum()
    }

    /// Logs how many events were dropped since the last report.
    fn report(&self) {
        let total = self.total();
        // The thread and `LogGuard::drop` may run at once: `fetch_max` lets one of them report each event.
        let events = total.saturating_sub(self.reported.fetch_max(total, Ordering::Relaxed));
        if events > 0 {
            tracing::warn!(events, "log events were lost: standard error is read too slowly");
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.losses.report();
    }
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is no filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// [`init`] was called before.
    #[error("the log is set up already")]
    AlreadyInitialised,
    /// A thread cannot be started.
    #[error("cannot start a thread for the log: {0}")]
    Thread(io::Error),
}

/// Replaces the filter of the process log at run time; set by [`init`].
static FILTER: OnceLock<reload::Handle<Targets, tracing_subscriber::Registry>> = OnceLock::new();

/// Applies another `log.level`, if the log is set up.
pub fn set_filter(filter: Targets) {
    if let Some(handle) = FILTER.get() {
        // An error means that the process ends.
        let _ = handle.reload(filter);
    }
}

/// Sets up the log of the process, which is written to standard error. Must be called at most once.
///
/// A request never waits for standard error: access events have one queue and all other events another one. An event that
/// finds its queue full is dropped and counted.
///
/// # Errors
/// See [`LogError`].
pub fn init(config: &Config) -> Result<LogGuard, LogError> {
    let (filter, handle) = reload::Layer::new(parse_filter(&config.level)?);
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // A person at a terminal reads the events of both queues in their order.
    let delay = if terminal { Duration::ZERO } else { ACCESS_BATCH_DELAY };
    let (access_queue, access_writer) =
        LineQueue::start("access-log", delay, io::stderr()).map_err(LogError::Thread)?;
    let (queue, writer) = LineQueue::start("log", Duration::ZERO, io::stderr()).map_err(LogError::Thread)?;
    let queues = [access_queue.clone(), queue.clone()];
    let losses = Arc::new(LostEvents { queues, reported: AtomicUsize::new(0) });
    let guard = LogGuard { losses: losses.clone(), _writers: [access_writer, writer] };
    let registry = tracing_subscriber::registry().with(filter);
    let initialised = if json {
        access::write_lines_to(access_queue, AccessForm::Json);
        registry.with(RecentLayer).with(json_layer(queue)).try_init()
    } else {
        if terminal {
            access::write_lines_to(access_queue.clone(), AccessForm::Terminal);
        }
        // One layer with two writers: layers with filters of their own interfere in the cached `enabled` state of a
        // callsite and lose events.
        let writer = access_queue.with_filter(|meta| meta.target() == ACCESS_TARGET).or_else(queue);
        let time = if terminal { LogTime::Short } else { LogTime::Full };
        let layer =
            fmt::layer().with_timer(time).with_target(!terminal || is_detailed(&config.level)).with_writer(writer);
        // On a terminal the layer itself honours NO_COLOR.
        let layer = if terminal { layer } else { layer.with_ansi(false) };
        registry.with(RecentLayer).with(layer).try_init()
    };
    initialised.map_err(|_| LogError::AlreadyInitialised)?;
    // `try_init` has succeeded once only.
    let _ = FILTER.set(handle);
    let _ = LOSSES.set(losses.clone());
    let thread = thread::Builder::new().name("log-losses".into()).spawn(move || {
        loop {
            thread::sleep(LOSS_REPORT_INTERVAL);
            losses.report();
        }
    });
    thread.map_err(LogError::Thread)?;
    Ok(guard)
}

/// True for a level at which events need their origin: anything but a plain level up to `info`.
fn is_detailed(level: &str) -> bool {
    !["off", "error", "warn", "info"].contains(&level.to_ascii_lowercase().as_str())
}

/// One flat object per line: the event's fields beside `timestamp`, `level` and `target`, without spans.
fn json_layer<S, W>(writer: W) -> fmt::Layer<S, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json>, W>
where
    W: for<'a> fmt::MakeWriter<'a> + 'static,
{
    fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_writer(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_log_level_is_rejected_with_an_example() {
        for level in ["", "inof", "info,", "info,srm_mirror=loud", "verbose"] {
            assert!(parse_filter(level).expect_err(level).to_string().contains("for example"), "{level}");
        }
        for level in ["info", "WARN", "off", "info,srm_mirror::cache=debug,hyper=off"] {
            assert!(parse_filter(level).is_ok(), "{level}");
        }
    }
}
