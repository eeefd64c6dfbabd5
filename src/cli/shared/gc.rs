//! `srm-mirror shared gc`.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use crate::{
    app::{self, GarbageMode, GarbageProgress, GarbageReport, GarbageRules, MIN_GRACE, ObjectSum},
    cli::{CacheArgs, FAILED, UsageError, escape_terminal, print},
    value::{Period, text::size},
};

pub(super) struct GcFlags {
    pub(super) delete: bool,
    pub(super) grace: Period,
    pub(super) documents_older_than: Option<Period>,
    pub(super) json: bool,
}

/// Collects the garbage of the bucket. Exit code 1 when a claim or a mark cannot be read.
pub(super) fn run(config: &CacheArgs, flags: &GcFlags) -> anyhow::Result<u8> {
    if flags.grace.0 < MIN_GRACE {
        return Err(UsageError(format!(
            "--grace {}: it is at least 1h, for claims that are on their way",
            flags.grace
        ))
        .into());
    }
    let rules = GarbageRules {
        mode: if flags.delete { GarbageMode::Delete } else { GarbageMode::Report },
        grace: flags.grace.0,
        documents_older_than: flags.documents_older_than.map(|period| period.0),
    };
    let loaded = super::load(config)?;
    let report = super::block_on(loaded, async |loaded| {
        let bar = io::stderr().is_terminal().then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        let report =
            app::collect_bucket_garbage(&loaded.config, &rules, &|progress| show(bar.as_ref(), progress)).await;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        report
    })?;
    if flags.json {
        let mut value = serde_json::to_value(&report)?;
        value["dry_run"] = json!(!flags.delete);
        print(&format!("{value}\n"));
    } else {
        print(&describe(&report, flags));
    }
    Ok(if report.unreadable_claims.is_empty() && report.unreadable_marks.is_empty() { 0 } else { FAILED })
}

fn show(bar: Option<&ProgressBar>, progress: GarbageProgress) {
    let Some(bar) = bar else { return };
    let (done, what) = match progress {
        GarbageProgress::Claims(done) => (done, "claims"),
        GarbageProgress::Zips(done) => (done, "zips"),
        GarbageProgress::Others(done) => (done, "other objects"),
    };
    bar.set_message(format!("{done} {what}"));
    bar.tick();
}

fn describe(report: &GarbageReport, flags: &GcFlags) -> String {
    let GarbageReport { claims, zips, young, marked, waiting, deleted, unknown, short_lived, documents, .. } = report;
    let would = if flags.delete { "" } else { "would be " };
    let mut text = String::new();
    for name in report.unreadable_claims.iter().chain(&report.unreadable_marks) {
        text += &format!("unreadable  {}\n", escape_terminal(name));
    }
    text += &format!("{claims} claims, {}", sum(zips));
    for (what, part) in [
        (format!("{would}deleted"), deleted),
        (format!("{would}marked, to be deleted after {}", flags.grace), marked),
        ("marked before".into(), waiting),
        (format!("without a claim, younger than {}", flags.grace), young),
    ] {
        if part.objects > 0 {
            text += &format!("\n{what}: {}", sum(part));
        }
    }
    for (count, what) in [(short_lived, "small objects"), (documents, "documents")] {
        if *count > 0 {
            text += &format!("\n{would}deleted: {count} {what}");
        }
    }
    if *unknown > 0 {
        text += &format!("\nleft alone, not written by a mirror of this version: {unknown}");
    }
    if !report.unreadable_claims.is_empty() {
        text += "\nno zip was marked or deleted: a claim that cannot be read may name it";
    }
    if !report.unreadable_marks.is_empty() {
        text += "\nleft alone: zips whose marks cannot be read";
    }
    if report.deletion_refused {
        text += "\n--delete would be refused: the bucket is not known to create an object only once";
    }
    text + "\n"
}

fn sum(sum: &ObjectSum) -> String {
    format!("{} zips ({})", sum.objects, size(sum.bytes))
}
