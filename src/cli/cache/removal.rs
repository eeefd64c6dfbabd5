//! `srm-mirror cache rm` and `gc`: show what would be removed, ask, and remove exactly that.

use serde_json::json;

use super::{ConfirmArgs, confirm, print, table};
use crate::{
    admin_api::{Call, CollectGarbage, RemovalPlan, RemovalReport, RemoveArchives},
    cli::{FAILED, admin_args::AdminArgs, admin_client},
    value::{ByteSize, Period},
};

/// Removes the selected zips. Exit code 1 when there is nothing to remove, or the answer was no.
pub(super) fn rm(cache: &AdminArgs, pattern: String, forget: bool, flags: &ConfirmArgs) -> anyhow::Result<u8> {
    let pattern = Some(pattern);
    remove(cache, flags, FAILED, |only| RemoveArchives {
        pattern: pattern.clone(),
        dry_run: only.is_none(),
        only,
        forget,
    })
}

/// Removes quarantined files and unused zips. Exit code 1 when the answer was no.
pub(super) fn gc(cache: &AdminArgs, unused: Option<Period>, flags: &ConfirmArgs) -> anyhow::Result<u8> {
    remove(cache, flags, 0, |only| CollectGarbage { pattern: None, dry_run: only.is_none(), only, unused })
}

/// Runs the request that `request` makes of a plan: first without one, as a dry run, then with the plan of the dry run.
/// The cache may change while the user reads: what is stored in between is not removed.
fn remove<C: Call<Answer = RemovalReport>>(
    cache: &AdminArgs,
    flags: &ConfirmArgs,
    exit_code_if_empty: u8,
    request: impl Fn(Option<RemovalPlan>) -> C,
) -> anyhow::Result<u8> {
    admin_client::run_at(cache, async |client| {
        let report = client.call(&request(None)).await?;
        let counts = report.documents + report.forgotten + report.marks;
        let is_empty = report.zips.is_empty() && counts == 0 && report.bytes == 0;
        if flags.json && (is_empty || flags.dry_run) {
            print_json(&report, false);
            return Ok(if is_empty { exit_code_if_empty } else { 0 });
        }
        if is_empty {
            print("there is nothing to remove\n");
            return Ok(exit_code_if_empty);
        }
        if !flags.json {
            print(&describe(&report));
        }
        if flags.dry_run {
            return Ok(0);
        }
        if !flags.yes && !confirm("remove them?")? {
            return Ok(FAILED);
        }
        let removed = client.call(&request(Some(report.plan))).await?;
        if flags.json {
            print_json(&removed, true);
        } else {
            print("removed\n");
        }
        Ok(0)
    })
}

/// Prints a report without its plan, which is the mirror's own.
fn print_json(report: &RemovalReport, removed: bool) {
    let RemovalReport { zips, documents, forgotten, marks, bytes, .. } = report;
    let value = json!({
        "removed": removed, "zips": zips, "documents": documents, "forgotten": forgotten, "marks": marks, "bytes": bytes,
    });
    print(&format!("{value}\n"));
}

fn describe(report: &RemovalReport) -> String {
    let RemovalReport { zips, documents, forgotten, marks, bytes, .. } = report;
    let mut text = table::zips(zips);
    text += &format!("{} zips, {documents} release documents, {} on disk", zips.len(), ByteSize(*bytes));
    if *forgotten > 0 {
        text += &format!("; {forgotten} pins");
    }
    if *marks > 0 {
        text += &format!("; {marks} marks of zips that are not stored");
    }
    text + "\n"
}
