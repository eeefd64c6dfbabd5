//! What warming shows: bars on a terminal, else lines, or events as JSON.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::client::Stored;
use crate::cli::{escape_terminal, print};

/// The bar of everything; its message says how many bytes came.
const ALL: &str = "[{bar:28}] {pos}/{len} versions, {msg}, {elapsed} gone, about {eta} to go";
/// One download of known length, and one of unknown length.
const ONE: &str =
    "  {prefix:36!} [{bar:20}] {binary_bytes:>10} of {binary_total_bytes:10} {binary_bytes_per_sec:>12}  {eta} to go";
const ENDLESS: &str = "  {prefix:36!} {spinner} {binary_bytes:>10} {binary_bytes_per_sec:>12}";
/// How often a bar that nothing happens to is drawn.
const TICK: Duration = Duration::from_millis(200);

/// How it is shown.
enum Mode {
    /// Bars on standard error.
    Bars { multi: MultiProgress, all: ProgressBar },
    /// A line for each thing that happened.
    Lines,
    /// A JSON value for each thing that happened.
    Json,
    /// Nothing but failures.
    Quiet,
    /// What a person would be told, kept for a test.
    #[cfg(test)]
    Kept(RefCell<Vec<String>>),
}

/// Shows what happens and counts it. Warming runs on one task, so nothing here is locked.
pub(super) struct Reporter {
    mode: Mode,
    started: Instant,
    fetched: Cell<u64>,
    stored: Cell<u64>,
    skipped: Cell<u64>,
    bytes: Cell<u64>,
    failures: RefCell<Vec<(String, String)>>,
}

/// One version that is being fetched.
pub(super) struct TaskProgress<'s> {
    show: &'s Reporter,
    bar: Option<ProgressBar>,
}

impl Reporter {
    /// Lines and bars unless `json` or `quiet`.
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        let mode = if json {
            Mode::Json
        } else if quiet {
            Mode::Quiet
        } else if io::stderr().is_terminal() {
            let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let all = multi.add(ProgressBar::no_length().with_style(style(ALL)).with_message("0 B"));
            Mode::Bars { multi, all }
        } else {
            Mode::Lines
        };
        Self::by(mode)
    }

    /// Keeps its lines to itself.
    #[cfg(test)]
    pub(super) fn kept() -> Self {
        Self::by(Mode::Kept(RefCell::default()))
    }

    /// What was said, where that is kept.
    #[cfg(test)]
    pub(super) fn said(&self) -> Vec<String> {
        match &self.mode {
            Mode::Kept(lines) => lines.borrow().clone(),
            _ => Vec::new(),
        }
    }

    fn by(mode: Mode) -> Self {
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

    /// Says how much there is to do.
    pub(super) fn planned(&self, versions: usize) {
        if let Mode::Bars { all, .. } = &self.mode {
            all.set_length(versions as u64);
            all.enable_steady_tick(TICK);
        }
    }

    /// Something is left out.
    pub(super) fn skip(&self, what: &str, why: &str) {
        self.skipped.set(self.skipped.get() + 1);
        self.tell(&format!("skipped {what}: {why}"), || json!({"event": "skipped", "what": what, "reason": why}));
    }

    /// Something would be fetched, or is there.
    pub(super) fn would(&self, what: &str, stored: bool, len: Option<u64>) {
        let count = if stored { &self.stored } else { &self.fetched };
        count.set(count.get() + 1);
        self.bytes.set(self.bytes.get() + if stored { 0 } else { len.unwrap_or_default() });
        let size = len.map_or_else(|| "of unknown size".to_owned(), |len| BinaryBytes(len).to_string());
        let word = if stored { "is stored:  " } else { "would fetch:" };
        let event = if stored { "stored" } else { "would-fetch" };
        self.tell(&format!("{word} {what}, {size}"), || json!({"event": event, "what": what, "bytes": len}));
    }

    /// Nothing happens for a while.
    pub(super) fn wait(&self, whom: &str, seconds: u64, why: &str) {
        self.tell(
            &format!("waiting {seconds} s for {whom}: {why}"),
            || json!({"event": "waiting", "for": whom, "seconds": seconds, "reason": why}),
        );
    }

    /// A version is being fetched; `len` is its length where that is known.
    pub(super) fn begin(&self, what: &str, len: Option<u64>) -> TaskProgress<'_> {
        let bar = if let Mode::Bars { multi, .. } = &self.mode {
            let bar = ProgressBar::no_length().with_prefix(escape_terminal(what)).with_style(style(ENDLESS));
            let bar = multi.add(bar);
            with_length(&bar, len);
            bar.enable_steady_tick(TICK);
            Some(bar)
        } else {
            None
        };
        if matches!(self.mode, Mode::Json) {
            event(&json!({"event": "started", "what": what, "bytes": len}));
        }
        TaskProgress { show: self, bar }
    }

    /// Something is not there, and why.
    pub(super) fn fail(&self, what: &str, why: &str) {
        self.failures.borrow_mut().push((what.to_owned(), why.to_owned()));
        let line = escape_terminal(&format!("failed  {what}: {why}"));
        match &self.mode {
            Mode::Bars { multi, all } => {
                all.inc(1);
                let _ = multi.println(line);
            }
            Mode::Json => event(&json!({"event": "failed", "what": what, "reason": why})),
            Mode::Lines | Mode::Quiet => drop(writeln!(io::stderr(), "{line}")),
            #[cfg(test)]
            Mode::Kept(lines) => lines.borrow_mut().push(line),
        }
    }

    /// The last word. `left` is what was not come to; `dry` says that nothing was to be fetched.
    pub(super) fn summary(&self, interrupted: bool, dry: bool) {
        let fetched = self.fetched.get();
        let stored = self.stored.get();
        let skipped = self.skipped.get();
        let bytes = self.bytes.get();
        let seconds = self.started.elapsed().as_secs_f64();
        let failures = self.failures.borrow();
        match &self.mode {
            Mode::Json => event(&json!({
                "event": "summary", "dry_run": dry, "interrupted": interrupted, "fetched": fetched, "stored": stored,
                "skipped": skipped, "failed": failures.len(), "bytes": bytes, "seconds": (seconds * 1e3).round() / 1e3,
                "failures": failures.iter().map(|(what, why)| json!({"what": what, "reason": why})).collect::<Vec<_>>(),
            })),
            Mode::Quiet => {}
            #[cfg(test)]
            Mode::Kept(_) => {}
            Mode::Bars { .. } | Mode::Lines => {
                if let Mode::Bars { multi, all } = &self.mode {
                    all.finish_and_clear();
                    let _ = multi.clear();
                }
                let word = if dry { "to fetch" } else { "fetched" };
                let mut text = format!("{fetched} {word} ({}), {stored} already stored", BinaryBytes(bytes));
                if skipped > 0 {
                    text += &format!(", {skipped} skipped");
                }
                text += &format!(", {} failed, in {seconds:.1} s\n", failures.len());
                if interrupted {
                    text += "interrupted: what is stored stays, run the same again to continue\n";
                }
                print(&text);
            }
        }
    }

    fn tell(&self, line: &str, value: impl FnOnce() -> Value) {
        let line = escape_terminal(line);
        match &self.mode {
            Mode::Bars { multi, .. } => drop(multi.println(line)),
            Mode::Lines => print(&format!("{line}\n")),
            Mode::Json => event(&value()),
            Mode::Quiet => {}
            #[cfg(test)]
            Mode::Kept(lines) => lines.borrow_mut().push(line),
        }
    }
}

impl TaskProgress<'_> {
    /// So many bytes are there.
    pub(super) fn progress(&self, bytes: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            if bar.length().is_none() {
                with_length(bar, total);
            }
            bar.set_position(bytes);
        }
    }

    /// It is stored.
    pub(super) fn stored(&self, what: &str, done: &Stored) {
        let show = self.show;
        let (count, word) = if done.cached { (&show.stored, "stored") } else { (&show.fetched, "fetched") };
        count.set(count.get() + 1);
        if !done.cached {
            show.bytes.set(show.bytes.get() + done.len);
        }
        if let Mode::Bars { all, .. } = &show.mode {
            all.set_message(BinaryBytes(show.bytes.get()).to_string());
            all.inc(1);
            return;
        }
        let line = format!("{word:7} {what} {} sha256:{}", BinaryBytes(done.len), done.digest);
        show.tell(
            &line,
            || json!({"event": word, "what": what, "bytes": done.len, "digest": done.digest, "commit": done.commit}),
        );
    }
}

impl Drop for TaskProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn with_length(bar: &ProgressBar, len: Option<u64>) {
    if let Some(len) = len {
        bar.set_length(len);
        bar.set_style(style(ONE));
    }
}

/// A template of ours; one that cannot be read would only look plain.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn event(value: &Value) {
    print(&format!("{value}\n"));
}
