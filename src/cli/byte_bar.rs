//! A progress bar that counts bytes, on a terminal; elsewhere there is none. It fits 60 columns.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What it looks like: what is done, how much of it, and how long the rest will take.
const TEMPLATE: &str = "{prefix} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {eta} to go";

/// A progress bar on standard error. Dropping it removes it.
pub(super) struct ByteBar(Option<ProgressBar>);

impl ByteBar {
    /// A bar for `what`, without a length yet.
    pub(super) fn new(what: &'static str) -> Self {
        let bar = || {
            let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            bar.with_style(style.progress_chars("=> ")).with_prefix(what)
        };
        Self(io::stderr().is_terminal().then(bar))
    }

    /// No bar, for the fuzz target.
    #[cfg(feature = "fuzzing")]
    pub(super) fn hidden() -> Self {
        Self(None)
    }

    /// Sets the number of bytes in all.
    pub(super) fn set_length(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(bytes);
        }
    }

    /// Prints a line to standard output, above the bar.
    pub(super) fn print(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| super::print(line)),
            None => super::print(line),
        }
    }

    /// Counts bytes that are done.
    pub(super) fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }
}

impl Drop for ByteBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
