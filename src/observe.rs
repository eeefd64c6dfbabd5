//! What the mirror says of itself: the log, and its one event per request.

use std::{
    io::{self, BufWriter, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt, fmt::writer::MakeWriterExt as _, layer::SubscriberExt, util::SubscriberInitExt,
};

mod access;

pub use access::{AccessEvent, Outcome, access, access_enabled};

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

/// Most access events that wait for whoever reads standard error; what comes on top of them is counted and lost.
const WAITING: usize = 8192;
/// How often it is said how many were lost.
const TELL: Duration = Duration::from_secs(10);

/// The log of the process. Dropping it writes what still waits.
#[must_use]
pub struct Log {
    losses: Arc<Losses>,
    _writer: WorkerGuard,
}

/// Access events that were lost because nobody read them.
struct Losses {
    counter: ErrorCounter,
    told: AtomicUsize,
}

impl Losses {
    /// Says how many were lost since this was said last.
    fn tell(&self) {
        let now = self.counter.dropped_lines();
        let events = now - self.told.swap(now, Ordering::Relaxed);
        if events > 0 {
            tracing::warn!(events, "access events were lost: standard error is read too slowly");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.losses.tell();
    }
}

/// Sets the log up for the whole process; it goes to standard error. To be called once.
///
/// No request waits for whoever reads the log: access events go by a queue, and are lost when it is full.
///
/// # Errors
/// When the level is no filter, a log is set up already, or there is no thread to be had.
pub fn init(config: &Config) -> Result<Log, String> {
    let filter = filter(&config.level)?;
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING).thread_name("access-log");
    let (queue, writer) = queue.finish(BufWriter::with_capacity(64 << 10, io::stderr()));
    let losses = Arc::new(Losses { counter: queue.error_counter(), told: AtomicUsize::new(0) });
    let log = Log { losses: losses.clone(), _writer: writer };
    let registry = tracing_subscriber::registry().with(filter);
    let done = if json {
        access::write_lines_to(queue);
        registry.with(json_layer(io::stderr)).try_init()
    } else {
        // One layer with two writers: layers with filters of their own lose events to each other's questions whether
        // a level is on.
        let writer = queue.with_filter(|meta| meta.target() == ACCESS).or_else(io::stderr);
        let layer = fmt::layer().with_writer(writer);
        // Left alone on a terminal, the layer itself honours NO_COLOR.
        let layer = if terminal { layer } else { layer.with_ansi(false) };
        registry.with(layer).try_init()
    };
    done.map_err(|_| "the log is set up already".to_owned())?;
    // A thread of its own: what it says waits for the same reader.
    let told = thread::Builder::new().name("access-log-losses".into()).spawn(move || {
        loop {
            thread::sleep(TELL);
            losses.tell();
        }
    });
    told.map_err(|error| format!("cannot start a thread for the log: {error}"))?;
    Ok(log)
}

/// One flat object per line: the event's own fields beside `timestamp`, `level` and `target`, no nested spans.
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
    fn a_misspelt_level_is_refused_with_the_words_there_are() {
        for level in ["", "inof", "info,", "info,srm_mirror=loud", "verbose"] {
            assert!(filter(level).expect_err(level).contains("for example"), "{level}");
        }
        for level in ["info", "WARN", "off", "info,srm_mirror::cache=debug,hyper=off"] {
            assert!(filter(level).is_ok(), "{level}");
        }
    }
}
