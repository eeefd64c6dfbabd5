//! `srm-mirror cache verify`.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::table::size;
use crate::cli::{CacheArgs, FAILED, admin_client, escape_terminal, print};

/// The bar on a terminal; its message says what was found.
const BAR: &str = "[{bar:28}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {msg}about {eta} to go";

/// Exit code 0 when everything is good or mended, 1 when something is not.
pub(super) fn run(place: &CacheArgs, pattern: Option<String>, no_fetch: bool, json: bool) -> anyhow::Result<u8> {
    let ask = json!({"pattern": pattern, "no_fetch": no_fetch});
    let mut sums = Sums::default();
    let bar = Bar::new(!json && io::stderr().is_terminal());
    admin_client::run(place.load()?, async |session| {
        session
            .lines("verify", &ask, |line| {
                if json {
                    print(&format!("{line}\n"));
                }
                let text = sums.take(&line).filter(|_| !json);
                bar.show(&line, &sums, text.as_deref());
                Ok(())
            })
            .await
    })?;
    bar.end();
    if json {
        print(&format!("{}\n", sums.json()));
    } else {
        print(&sums.text());
    }
    Ok(if sums.damaged == 0 { 0 } else { FAILED })
}

/// The bar, where there is a terminal; without one only lines are printed.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(terminal: bool) -> Self {
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = || {
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style.progress_chars("=> "))
        };
        Self(terminal.then(bar))
    }

    /// Goes on by a line of the answer, and says what is to be said of it.
    fn show(&self, line: &Value, sums: &Sums, text: Option<&str>) {
        let Some(bar) = &self.0 else { return text.into_iter().for_each(print) };
        if let Some(bytes) = line["bytes"].as_u64().filter(|_| line["event"] == "begin") {
            bar.set_length(bytes);
        }
        if let Some(text) = text {
            bar.suspend(|| print(text));
            bar.set_message(format!("{} mended, {} damaged, ", sums.mended, sums.damaged));
        }
        bar.set_position(sums.bytes);
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// What verification came to.
#[derive(Default)]
struct Sums {
    zips: u64,
    bytes: u64,
    documents: u64,
    mended: u64,
    damaged: u64,
}

impl Sums {
    /// Counts a line; what is to be said of it at once.
    fn take(&mut self, line: &Value) -> Option<String> {
        let name = |value: &Value| escape_terminal(value.as_str().unwrap_or("-"));
        let what = match line["event"].as_str()? {
            "zip" => {
                self.zips += 1;
                self.bytes += line["size"].as_u64().unwrap_or(0);
                line["names"].as_array()?.iter().map(name).collect::<Vec<_>>().join(", ")
            }
            "document" => {
                self.documents += 1;
                name(&line["key"])
            }
            _ => return None,
        };
        match line["state"].as_str()? {
            "good" => None,
            "mended" => {
                self.mended += 1;
                Some(format!("mended   {what}\n"))
            }
            _ => {
                self.damaged += 1;
                let reason =
                    line["reason"].as_str().map(|why| format!(": {}", escape_terminal(why))).unwrap_or_default();
                Some(format!("damaged  {what}{reason}\n"))
            }
        }
    }

    fn json(&self) -> Value {
        let Self { zips, bytes, documents, mended, damaged } = self;
        json!({"event": "end", "zips": zips, "bytes": bytes, "documents": documents, "mended": mended,
            "damaged": damaged})
    }

    fn text(&self) -> String {
        let Self { zips, bytes, documents, mended, damaged } = self;
        let bytes = size(*bytes);
        format!("{zips} zips ({bytes}) and {documents} documents verified: {mended} mended, {damaged} damaged\n")
    }
}
