//! `srm-mirror shared gc`.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;

use crate::{
    app::{self, GarbageMode, GarbageProgress, GarbageReport, GarbageRules, MIN_GRACE, ObjectSum, ZipGarbage},
    cli::{CacheArgs, FAILED, UsageError, escape_terminal, print},
    value::{Period, text::size},
};

pub(super) struct GcFlags {
    pub(super) delete: bool,
    pub(super) grace: Period,
    pub(super) documents_older_than: Option<Period>,
    pub(super) json: bool,
}

/// Collects the garbage of the bucket. Exit code 1 when a claim, a record or a mark cannot be read.
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
            app::collect_bucket_garbage(&loaded.config, &rules, &|progress| show_progress(bar.as_ref(), progress))
                .await;
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
    Ok(if report.has_unreadable() { FAILED } else { 0 })
}

fn show_progress(bar: Option<&ProgressBar>, progress: GarbageProgress) {
    let Some(bar) = bar else { return };
    let (done, what) = match progress {
        GarbageProgress::Claims(done) => (done, "claims"),
        GarbageProgress::Zips(done) => (done, "zips"),
        GarbageProgress::Records(done) => (done, "records"),
        GarbageProgress::PublishedZips(done) => (done, "published zips"),
        GarbageProgress::Others(done) => (done, "other objects"),
    };
    bar.set_message(format!("{done} {what}"));
    bar.tick();
}

fn describe(report: &GarbageReport, flags: &GcFlags) -> String {
    let GarbageReport { fetched, published, deletion_refused, short_lived, documents } = report;
    let would = would(flags);
    let mut text = String::new();
    for zips in [fetched, published] {
        for name in zips.unreadable_references.iter().chain(&zips.unreadable_marks) {
            text += &format!("unreadable  {}\n", escape_terminal(name));
        }
    }
    text += &describe_zips(fetched, "claims", "", flags);
    text += &describe_zips(published, "records of published versions", "published, ", flags);
    for (count, what) in [(short_lived, "small objects"), (documents, "documents")] {
        if *count > 0 {
            text += &format!("{would}deleted: {count} {what}\n");
        }
    }
    for (zips, what) in [
        (fetched, "fetched zip was marked or deleted: a claim"),
        (published, "published zip was marked or deleted: a record"),
    ] {
        if !zips.unreadable_references.is_empty() {
            text += &format!("no {what} that cannot be read may name it\n");
        }
    }
    if !fetched.unreadable_marks.is_empty() || !published.unreadable_marks.is_empty() {
        text += "left alone: zips whose marks cannot be read\n";
    }
    if *deletion_refused {
        text += "--delete would be refused: the bucket is not known to create an object only once\n";
    }
    text
}

/// What becomes of the zips of one folder. `kind` is the beginning of each line but the first.
fn describe_zips(report: &ZipGarbage, references: &str, kind: &str, flags: &GcFlags) -> String {
    let ZipGarbage { references: count, zips, young, marked, waiting, deleted, unknown, .. } = report;
    let would = would(flags);
    let mut text = format!("{count} {references}, {}\n", sum(zips));
    for (what, part) in [
        (format!("{would}deleted"), deleted),
        (format!("{would}marked, to be deleted after {}", flags.grace), marked),
        ("marked before".into(), waiting),
        (format!("that nothing names, younger than {}", flags.grace), young),
    ] {
        if part.objects > 0 {
            text += &format!("{kind}{what}: {}\n", sum(part));
        }
    }
    if *unknown > 0 {
        text += &format!("{kind}left alone, not written by a mirror of this version: {unknown}\n");
    }
    text
}

fn would(flags: &GcFlags) -> &'static str {
    if flags.delete { "" } else { "would be " }
}

fn sum(sum: &ObjectSum) -> String {
    format!("{} zips ({})", sum.objects, size(sum.bytes))
}
