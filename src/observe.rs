//! What the mirror says of itself: the log, and its one event per request.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
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
    _writers: [WorkerGuard; 2],
}

/// Events that were lost because nobody read them.
struct Losses {
    counters: [ErrorCounter; 2],
    told: AtomicUsize,
}

impl Losses {
    /// Says how many were lost since this was said last.
    fn tell(&self) {
        let now: usize = self.counters.iter().map(ErrorCounter::dropped_lines).sum();
        // The thread and the end may both be here: each event is told by one of them.
        let events = now.saturating_sub(self.told.fetch_max(now, Ordering::Relaxed));
        if events > 0 {
            tracing::warn!(events, "log events were lost: standard error is read too slowly");
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
/// No request waits for whoever reads the log: access events go by a queue, all others by another, and what finds its
/// queue full is lost and counted.
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
    let (queue, writer) = bounded("access-log", BufWriter::with_capacity(64 << 10, io::stderr()));
    let (others, other_writer) = bounded("log", io::stderr());
    let counters = [queue.error_counter(), others.error_counter()];
    let losses = Arc::new(Losses { counters, told: AtomicUsize::new(0) });
    let log = Log { losses: losses.clone(), _writers: [writer, other_writer] };
    let registry = tracing_subscriber::registry().with(filter);
    let done = if json {
        access::write_lines_to(queue);
        registry.with(json_layer(others)).try_init()
    } else {
        // One layer with two writers: layers with filters of their own lose events to each other's questions whether
        // a level is on.
        let writer = queue.with_filter(|meta| meta.target() == ACCESS).or_else(others);
        let layer = fmt::layer().with_writer(writer);
        // Left alone on a terminal, the layer itself honours NO_COLOR.
        let layer = if terminal { layer } else { layer.with_ansi(false) };
        registry.with(layer).try_init()
    };
    done.map_err(|_| "the log is set up already".to_owned())?;
    let told = thread::Builder::new().name("log-losses".into()).spawn(move || {
        loop {
            thread::sleep(TELL);
            losses.tell();
        }
    });
    told.map_err(|error| format!("cannot start a thread for the log: {error}"))?;
    Ok(log)
}

/// A queue of lines with a thread that writes them: whoever finds it full loses the line, and it is counted.
fn bounded(thread: &str, to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING).thread_name(thread).finish(to)
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
    use std::sync::mpsc;

    use super::*;

    /// A standard error that takes nothing until somebody lets go of the other end.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_standard_error_that_takes_nothing_and_what_is_lost_is_counted() {
        let (let_go, stuck) = mpsc::channel();
        let (mut queue, _writer) = bounded("log", Stuck(stuck));
        let counter = queue.error_counter();
        for _ in 0..WAITING + 100 {
            queue.write_all(b"a line\n").expect("taken");
        }
        // One of them may be in the writer's hands.
        assert!((99..=100).contains(&counter.dropped_lines()), "{}", counter.dropped_lines());
        drop(let_go);
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
