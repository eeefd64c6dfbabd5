//! `srm-mirror cache keep` and `unkeep`.

use super::{print, table};
use crate::{
    admin_api::{KeepArchives, KeepReport, ListArchives},
    cli::{FAILED, admin_args::AdminArgs, admin_client},
};

/// Marks the selected zips, or takes the mark away. Exit code 1 when the pattern selects nothing.
pub(super) fn run(cache: &AdminArgs, pattern: String, kept: bool, dry_run: bool, json: bool) -> anyhow::Result<u8> {
    let pattern = Some(pattern);
    admin_client::run_at(cache, async |client| {
        let request = ListArchives { pattern: pattern.clone(), ..ListArchives::default() };
        let found = client.collect(&request).await?;
        let report = client.call(&KeepArchives { pattern, kept, dry_run }).await?;
        if json {
            print(&format!("{}\n", serde_json::to_string(&report)?));
            return Ok(if report.marks == 0 && found.is_empty() { FAILED } else { 0 });
        }
        let KeepReport { zips, marks, .. } = report;
        if marks > 0 {
            let verb = if dry_run { "would be" } else { "are" };
            print(&format!("{marks} marks of zips that are not stored {verb} removed\n"));
        } else if found.is_empty() {
            print("no stored zip matches\n");
            return Ok(FAILED);
        }
        let already = found.iter().filter(|zip| zip.kept == kept).count();
        let changed = zips.iter().filter(|zip| dry_run || zip.kept == kept).count();
        let state = if kept { "kept" } else { "evictable" };
        let verb = if dry_run { format!("would be {state}") } else { format!("are {state} now") };
        print(&format!("{}{} of {} zips {verb}\n", table::zips(&zips), already + changed, found.len()));
        Ok(0)
    })
}
