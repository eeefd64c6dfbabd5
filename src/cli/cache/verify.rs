//! `srm-mirror cache verify`.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    admin_api::{VerifyArchives, VerifyEvent, VerifyState},
    cli::{FAILED, admin_args::AdminArgs, admin_client, escape_terminal, print},
    value::text::size,
};

/// The progress bar; its message counts what was damaged.
const BAR_TEMPLATE: &str = "[{wide_bar}] {binary_bytes} of {binary_total_bytes}, {msg}{eta} to go";

/// Verifies the selected zips. Exit code 1 when something is damaged and was not mended.
pub(super) fn run(cache: &AdminArgs, pattern: Option<String>, no_fetch: bool, json: bool) -> anyhow::Result<u8> {
    let mut totals = VerifyTotals::default();
    let bar = VerifyBar::new(!json && io::stderr().is_terminal());
    admin_client::run_at(cache, async |client| {
        let each = |event: VerifyEvent| {
            if json {
                print_json(cache, &event)?;
            }
            let line = totals.add(&event).filter(|_| !json);
            bar.update(&event, &totals, line.as_deref());
            Ok(())
        };
        client.subscribe(&VerifyArchives { pattern, no_fetch }, each).await
    })?;
    bar.finish();
    if json {
        print_json(cache, &totals.event())?;
    } else {
        print(&totals.text());
    }
    Ok(if totals.damaged == 0 { 0 } else { FAILED })
}

fn print_json(cache: &AdminArgs, event: &VerifyEvent) -> anyhow::Result<()> {
    print(&format!("{}\n", cache.labelled(&serde_json::to_string(event)?)));
    Ok(())
}

/// The progress bar of a terminal; elsewhere only lines are printed.
struct VerifyBar(Option<ProgressBar>);

impl VerifyBar {
    fn new(terminal: bool) -> Self {
        let style = ProgressStyle::with_template(BAR_TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = || {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style.progress_chars("=> "))
        };
        Self(terminal.then(bar))
    }

    /// Shows the progress after an event, and prints its line above the bar.
    fn update(&self, event: &VerifyEvent, totals: &VerifyTotals, line: Option<&str>) {
        let Some(bar) = &self.0 else { return line.into_iter().for_each(print) };
        if let VerifyEvent::Begin { bytes, .. } = event {
            bar.set_length(*bytes);
        }
        if let Some(line) = line {
            bar.suspend(|| print(line));
            bar.set_message(format!("{} mended, {} damaged, ", totals.mended, totals.damaged));
        }
        bar.set_position(totals.bytes);
    }

    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// The sums over all events.
#[derive(Default)]
struct VerifyTotals {
    zips: u64,
    bytes: u64,
    documents: u64,
    mended: u64,
    damaged: u64,
    gone: u64,
}

impl VerifyTotals {
    /// Counts an event; its line, unless everything is good.
    fn add(&mut self, event: &VerifyEvent) -> Option<String> {
        let (name, state, reason) = match event {
            VerifyEvent::Zip { size, state, reason, names, .. } => {
                self.zips += 1;
                self.bytes += size;
                (names.iter().map(|name| escape_terminal(name)).collect::<Vec<_>>().join(", "), *state, reason)
            }
            VerifyEvent::Document { key, state, reason } => {
                self.documents += 1;
                (escape_terminal(key.as_str()), *state, reason)
            }
            VerifyEvent::Begin { .. } | VerifyEvent::End { .. } => return None,
        };
        match state {
            VerifyState::Good => None,
            VerifyState::Gone => {
                self.gone += 1;
                None
            }
            VerifyState::Mended => {
                self.mended += 1;
                Some(format!("mended   {name}\n"))
            }
            VerifyState::Damaged => {
                self.damaged += 1;
                let reason = reason.as_ref().map(|why| format!(": {}", escape_terminal(why))).unwrap_or_default();
                Some(format!("damaged  {name}{reason}\n"))
            }
        }
    }

    fn event(&self) -> VerifyEvent {
        let &Self { zips, bytes, documents, mended, damaged, gone } = self;
        VerifyEvent::End { zips, bytes, documents, mended, damaged, gone }
    }

    fn text(&self) -> String {
        let Self { zips, bytes, documents, mended, damaged, gone } = self;
        let bytes = size(*bytes);
        let gone = if *gone == 0 { String::new() } else { format!(", {gone} evicted or removed before") };
        format!("{zips} zips ({bytes}) and {documents} documents verified: {mended} mended, {damaged} damaged{gone}\n")
    }
}
