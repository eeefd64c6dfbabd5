//! The output of warming: progress bars on a terminal, else lines, or JSON events.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{
    admin_api::FilledArchive,
    cli::{escape_terminal, print},
    entry::Digest,
};

/// The bar of all versions; its message is the number of bytes so far. As all bars here, it fits 60 columns.
const TOTAL_TEMPLATE: &str = "[{wide_bar}] {pos}/{len} versions, {msg}, {eta} to go";
/// The bar of a download of known length.
const SIZED_TEMPLATE: &str = "  {prefix:22} [{wide_bar}] {binary_bytes:>10} of {binary_total_bytes:10} {eta:>3}";
/// The bar of a download of unknown length.
const UNSIZED_TEMPLATE: &str = "  {prefix:22} {spinner} {binary_bytes:>10}";
/// The most characters of a name in a bar.
const MAX_NAME_CHARS: usize = 22;
/// Time after which a bar without progress is drawn again.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The form of the output.
enum OutputMode {
    /// Bars on standard error.
    Bars { multi: MultiProgress, total: ProgressBar },
    /// A line per event.
    Lines,
    /// A JSON value per event.
    Json,
    /// Nothing but failures.
    Quiet,
    /// The lines, kept for a test.
    #[cfg(test)]
    Recorded(RefCell<Vec<String>>),
}

/// One event as JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum ReportEvent<'a> {
    Skipped {
        what: &'a str,
        reason: &'a str,
    },
    Started {
        what: &'a str,
        bytes: Option<u64>,
    },
    /// It was stored before; without `content` after a dry run.
    Stored {
        what: &'a str,
        bytes: Option<u64>,
        #[serde(flatten)]
        content: Option<EventContent<'a>>,
    },
    Fetched {
        what: &'a str,
        bytes: u64,
        #[serde(flatten)]
        content: EventContent<'a>,
    },
    WouldFetch {
        what: &'a str,
        bytes: Option<u64>,
    },
    Waiting {
        #[serde(rename = "for")]
        upstream: &'a str,
        seconds: u64,
        reason: &'a str,
    },
    Failed(FailedVersion<'a>),
    Summary {
        dry_run: bool,
        interrupted: bool,
        fetched: u64,
        stored: u64,
        skipped: u64,
        failed: usize,
        bytes: u64,
        seconds: f64,
        failures: Vec<FailedVersion<'a>>,
    },
}

#[derive(Serialize)]
struct EventContent<'a> {
    digest: Digest,
    commit: Option<&'a str>,
}

#[derive(Serialize)]
struct FailedVersion<'a> {
    what: &'a str,
    reason: &'a str,
}

/// Prints events and counts them. Warming runs on one task, so nothing here is locked.
pub(super) struct Reporter {
    mode: OutputMode,
    started: Instant,
    fetched: Cell<u64>,
    stored: Cell<u64>,
    skipped: Cell<u64>,
    bytes: Cell<u64>,
    /// What failed, and why.
    failures: RefCell<Vec<(String, String)>>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarmEnd {
    /// Everything was tried.
    Whole,
    /// A signal ended it before.
    Interrupted,
}

/// The progress of one version. Dropping it removes its bar.
pub(super) struct TaskProgress<'r> {
    reporter: &'r Reporter,
    bar: Option<ProgressBar>,
}

impl Reporter {
    /// Prints bars on a terminal, else lines, unless `json` or `quiet` is set.
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        let mode = if json {
            OutputMode::Json
        } else if quiet {
            OutputMode::Quiet
        } else if io::stderr().is_terminal() {
            let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let total = multi.add(ProgressBar::no_length().with_style(style(TOTAL_TEMPLATE)).with_message("0 B"));
            OutputMode::Bars { multi, total }
        } else {
            OutputMode::Lines
        };
        Self::with_mode(mode)
    }

    /// Keeps the lines for [`Reporter::lines`].
    #[cfg(test)]
    pub(super) fn recorded() -> Self {
        Self::with_mode(OutputMode::Recorded(RefCell::default()))
    }

    /// The lines so far of a reporter that keeps them.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<String> {
        match &self.mode {
            OutputMode::Recorded(lines) => lines.borrow().clone(),
            _ => Vec::new(),
        }
    }

    fn with_mode(mode: OutputMode) -> Self {
        Self {
            mode,
            started: Instant::now(),
            fetched: Cell::default(),
            stored: Cell::default(),
            skipped: Cell::default(),
            bytes: Cell::default(),
            failures: RefCell::default(),
        }
    }

    /// Sets the number of versions to fetch.
    pub(super) fn planned(&self, versions: usize) {
        if let OutputMode::Bars { total, .. } = &self.mode {
            total.set_length(versions as u64);
            total.enable_steady_tick(REDRAW_INTERVAL);
        }
    }

    /// Reports a package or a version that is left out.
    pub(super) fn skipped(&self, what: &str, reason: &str) {
        self.skipped.set(self.skipped.get() + 1);
        self.report(&format!("skipped {what}: {reason}"), &ReportEvent::Skipped { what, reason });
    }

    /// Reports in a dry run that a version is stored, or would be fetched.
    pub(super) fn dry_run(&self, what: &str, stored: bool, bytes: Option<u64>) {
        let size = bytes.map_or_else(|| "of unknown size".to_owned(), |len| BinaryBytes(len).to_string());
        if stored {
            self.stored.set(self.stored.get() + 1);
            self.report(&format!("is stored:   {what}, {size}"), &ReportEvent::Stored { what, bytes, content: None });
        } else {
            self.fetched.set(self.fetched.get() + 1);
            self.bytes.set(self.bytes.get() + bytes.unwrap_or_default());
            self.report(&format!("would fetch: {what}, {size}"), &ReportEvent::WouldFetch { what, bytes });
        }
    }

    /// Reports that requests to an upstream wait.
    pub(super) fn waiting(&self, upstream: &str, seconds: u64, reason: &str) {
        let line = format!("waiting {seconds} s for {upstream}: {reason}");
        self.report(&line, &ReportEvent::Waiting { upstream, seconds, reason });
    }

    /// Reports that a fill starts; `len` is the length of its zip where that is known.
    pub(super) fn started(&self, what: &str, len: Option<u64>) -> TaskProgress<'_> {
        let bar = if let OutputMode::Bars { multi, .. } = &self.mode {
            let bar = ProgressBar::no_length().with_prefix(name_in_bar(what)).with_style(style(UNSIZED_TEMPLATE));
            let bar = multi.add(bar);
            set_length(&bar, len);
            bar.enable_steady_tick(REDRAW_INTERVAL);
            Some(bar)
        } else {
            None
        };
        if matches!(self.mode, OutputMode::Json) {
            print_json(&ReportEvent::Started { what, bytes: len });
        }
        TaskProgress { reporter: self, bar }
    }

    /// Reports what is not stored, and why.
    pub(super) fn failed(&self, what: &str, reason: &str) {
        self.failures.borrow_mut().push((what.to_owned(), reason.to_owned()));
        let line = escape_terminal(&format!("failed  {what}: {reason}"));
        match &self.mode {
            OutputMode::Bars { multi, total } => {
                total.set_message(self.total_message());
                let _ = multi.println(line);
            }
            OutputMode::Json => print_json(&ReportEvent::Failed(FailedVersion { what, reason })),
            OutputMode::Lines | OutputMode::Quiet => drop(writeln!(io::stderr(), "{line}")),
            #[cfg(test)]
            OutputMode::Recorded(lines) => lines.borrow_mut().push(line),
        }
    }

    /// Prints the totals. `dry_run` means that nothing was to be fetched.
    pub(super) fn summary(&self, end: WarmEnd, dry_run: bool) {
        let interrupted = end == WarmEnd::Interrupted;
        let failures = self.failures.borrow();
        let seconds = self.started.elapsed().as_secs_f64();
        match &self.mode {
            OutputMode::Json => print_json(&ReportEvent::Summary {
                dry_run,
                interrupted,
                fetched: self.fetched.get(),
                stored: self.stored.get(),
                skipped: self.skipped.get(),
                failed: failures.len(),
                bytes: self.bytes.get(),
                seconds: (seconds * 1e3).round() / 1e3,
                failures: failures.iter().map(|(what, reason)| FailedVersion { what, reason }).collect(),
            }),
            OutputMode::Quiet => {}
            #[cfg(test)]
            OutputMode::Recorded(_) => {}
            OutputMode::Bars { .. } | OutputMode::Lines => {
                if let OutputMode::Bars { multi, total } = &self.mode {
                    total.finish_and_clear();
                    let _ = multi.clear();
                }
                let verb = if dry_run { "to fetch" } else { "fetched" };
                let bytes = BinaryBytes(self.bytes.get());
                let mut text = format!("{} {verb} ({bytes}), {} already stored", self.fetched.get(), self.stored.get());
                if self.skipped.get() > 0 {
                    text += &format!(", {} skipped", self.skipped.get());
                }
                text += &format!(", {} failed, in {seconds:.1} s\n", failures.len());
                if interrupted {
                    text += "interrupted: what is stored stays, run the same again to continue\n";
                }
                print(&text);
            }
        }
    }

    /// The message of the bar of all versions: the number of failures and of bytes.
    fn total_message(&self) -> String {
        let failed = self.failures.borrow().len();
        let failed = if failed > 0 { format!("{failed} failed, ") } else { String::new() };
        format!("{failed}{}", BinaryBytes(self.bytes.get()))
    }

    fn report(&self, line: &str, event: &ReportEvent<'_>) {
        let line = escape_terminal(line);
        match &self.mode {
            OutputMode::Bars { multi, .. } => drop(multi.println(line)),
            OutputMode::Lines => print(&format!("{line}\n")),
            OutputMode::Json => print_json(event),
            OutputMode::Quiet => {}
            #[cfg(test)]
            OutputMode::Recorded(lines) => lines.borrow_mut().push(line),
        }
    }
}

impl TaskProgress<'_> {
    /// Shows how many bytes have arrived.
    pub(super) fn progress(&self, bytes: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            if bar.length().is_none() {
                set_length(bar, total);
            }
            bar.set_position(bytes);
        }
    }

    /// Reports that the zip is stored.
    pub(super) fn stored(&self, what: &str, archive: &FilledArchive) {
        let &FilledArchive { digest, len: bytes, cached, .. } = archive;
        let reporter = self.reporter;
        let content = EventContent { digest, commit: archive.commit.as_deref() };
        let (count, verb, event) = if cached {
            (&reporter.stored, "stored", ReportEvent::Stored { what, bytes: Some(bytes), content: Some(content) })
        } else {
            reporter.bytes.set(reporter.bytes.get() + bytes);
            (&reporter.fetched, "fetched", ReportEvent::Fetched { what, bytes, content })
        };
        count.set(count.get() + 1);
        if let OutputMode::Bars { total, .. } = &reporter.mode {
            total.set_message(reporter.total_message());
            total.inc(1);
            return;
        }
        reporter.report(&format!("{verb:7} {what} {} sha256:{digest}", BinaryBytes(bytes)), &event);
    }
}

impl Drop for TaskProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The end of a name, which has the version, where the whole is too long for a bar.
fn name_in_bar(what: &str) -> String {
    let name = escape_terminal(what);
    let chars = name.chars().count();
    if chars <= MAX_NAME_CHARS {
        return name;
    }
    let end: String = name.chars().skip(chars - (MAX_NAME_CHARS - 1)).collect();
    format!("…{end}")
}

fn set_length(bar: &ProgressBar, len: Option<u64>) {
    if let Some(len) = len {
        bar.set_length(len);
        bar.set_style(style(SIZED_TEMPLATE));
    }
}

/// A style of one of the templates here; a template that cannot be parsed becomes the default style.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn print_json(event: &ReportEvent<'_>) {
    // Strings and numbers only: writing them cannot fail.
    let text = serde_json::to_string(event).unwrap_or_default();
    print(&format!("{text}\n"));
}
