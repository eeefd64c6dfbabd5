//! `srm-mirror cache rm` and `gc`: show what would be removed, ask, and remove exactly that.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ConfirmArgs, confirm, ls::PrintBuffer, print, table::Table, zip_array::ZipArray};
use crate::{
    admin_api::{ArchiveRow, Call, CollectGarbage, ListArchives, RemovalPlan, RemovalReport, RemoveArchives},
    cli::{FAILED, admin_args::AdminArgs, admin_client, admin_client::AdminClient},
    dialect::HOSTED,
    value::{ByteSize, Period},
};

/// Removes the selected zips. Exit code 1 when there is nothing to remove, or the answer was no.
pub(super) fn rm(cache: &AdminArgs, pattern: String, forget: bool, flags: &ConfirmArgs) -> anyhow::Result<u8> {
    let pattern = Some(pattern);
    let shown = ShownZips { pattern: pattern.clone(), unused: None };
    remove(cache, flags, FAILED, Some(shown), |plan| RemoveArchives {
        pattern: pattern.clone(),
        dry_run: plan.is_none(),
        plan,
        forget,
    })
}

/// Removes quarantined files and unused zips. Exit code 1 when the answer was no.
pub(super) fn gc(cache: &AdminArgs, unused: Option<Period>, flags: &ConfirmArgs) -> anyhow::Result<u8> {
    let shown = unused.map(|unused| ShownZips { pattern: None, unused: Some(unused.0) });
    remove(cache, flags, 0, shown, |plan| CollectGarbage { pattern: None, dry_run: plan.is_none(), plan, unused })
}

/// The zips that are listed before they are removed.
struct ShownZips {
    pattern: Option<String>,
    /// Only those that were not used for this long and are not kept.
    unused: Option<Duration>,
}

impl ShownZips {
    fn contain(&self, zip: &ArchiveRow, planned_at: Timestamp) -> bool {
        let age = Duration::try_from(planned_at.duration_since(zip.used_at)).unwrap_or_default();
        let is_old = self.unused.is_none_or(|unused| !zip.kept && age >= unused);
        // What is published on the mirror is no part of its cache.
        is_old && zip.stored_at <= planned_at && zip.upstream != HOSTED
    }

    /// Lists them, by name. None of them is held here.
    async fn list(
        &self,
        client: &AdminClient,
        planned_at: Timestamp,
        mut each: impl FnMut(&ArchiveRow) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let request = ListArchives { pattern: self.pattern.clone(), ..ListArchives::default() };
        let listed = |zip: ArchiveRow| if self.contain(&zip, planned_at) { each(&zip) } else { Ok(()) };
        client.subscribe(&request, listed).await
    }
}

/// Runs the request that `request` makes of a plan: first without one, as a dry run, then with the plan of the dry run.
/// The cache may change while the user reads: what is stored in between is not removed.
fn remove<C: Call<Answer = RemovalReport>>(
    cache: &AdminArgs,
    flags: &ConfirmArgs,
    exit_code_if_empty: u8,
    shown: Option<ShownZips>,
    request: impl Fn(Option<RemovalPlan>) -> C,
) -> anyhow::Result<u8> {
    admin_client::run_at(cache, async |client| {
        let mut report = client.call(&request(None)).await?;
        let counts = report.zips + report.documents + report.forgotten + report.marks;
        let is_empty = counts == 0 && report.bytes == 0 && !report.spreads;
        let planned_at = report.plan.planned_at;
        if flags.json {
            let mut array = ZipArray::new();
            if let Some(shown) = shown.filter(|_| report.zips > 0) {
                shown.list(client, planned_at, |zip| array.add(zip)).await?;
            }
            let removes = !is_empty && !flags.dry_run;
            if removes && !flags.yes && !confirm("remove them?")? {
                return Ok(FAILED);
            }
            if removes {
                report = client.call(&request(Some(report.plan))).await?;
            }
            array.finish(&json_rest(&report, removes));
            return Ok(if is_empty { exit_code_if_empty } else { 0 });
        }
        if is_empty {
            print("there is nothing to remove\n");
            return Ok(exit_code_if_empty);
        }
        let mut table = Table::new();
        if let Some(shown) = shown.filter(|_| report.zips > 0) {
            let each = |zip: &ArchiveRow| {
                table.add(zip);
                Ok(())
            };
            shown.list(client, planned_at, each).await?;
        }
        let mut out = PrintBuffer::default();
        table.write(|line| out.add(line));
        out.add(&describe(&report));
        out.flush();
        if flags.dry_run {
            return Ok(0);
        }
        if !flags.yes && !confirm("remove them?")? {
            return Ok(FAILED);
        }
        client.call(&request(Some(report.plan))).await?;
        print("removed\n");
        Ok(0)
    })
}

/// What follows the zips in the JSON: what else was found, and whether all of it was removed.
fn json_rest(report: &RemovalReport, removed: bool) -> Value {
    let RemovalReport { documents, forgotten, marks, bytes, spreads, .. } = report;
    json!({
        "documents": documents, "forgotten": forgotten, "marks": marks, "bytes": bytes, "removed": removed, "spreads": spreads,
    })
}

fn describe(report: &RemovalReport) -> String {
    let RemovalReport { zips, documents, forgotten, marks, bytes, .. } = report;
    let mut text = format!("{zips} zips, {documents} release documents, {} on disk", ByteSize(*bytes));
    if *forgotten > 0 {
        text += &format!("; {forgotten} pins");
    }
    if *marks > 0 {
        text += &format!("; {marks} marks of zips that are not stored");
    }
    if report.spreads {
        text += "; the other mirrors of the bucket remove what they have of it, too";
    }
    text + "\n"
}
