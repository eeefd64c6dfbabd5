//! `srm-mirror cache keep` and `unkeep`.

use serde_json::json;

use super::{ls::PrintBuffer, print, table::Table, zip_array::ZipArray};
use crate::{
    admin_api::{ArchiveRow, KeepArchives, KeepReport, ListArchives},
    cli::{FAILED, admin_args::AdminArgs, admin_client},
};

/// What becomes of the keep marks of the selected zips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepMark {
    /// They are set: the zips are never evicted.
    Set,
    /// They are removed.
    Removed,
}

/// Sets or removes the marks of the selected zips. Exit code 1 when the pattern selects nothing, and no other mirror could
/// have it.
pub(super) fn run(cache: &AdminArgs, pattern: String, mark: KeepMark, dry_run: bool, json: bool) -> anyhow::Result<u8> {
    let kept = mark == KeepMark::Set;
    let pattern = Some(pattern);
    admin_client::run_at(cache, async |client| {
        let mut array = ZipArray::new();
        let mut table = Table::new();
        // Only zips whose mark changes; as they are afterwards, except in a dry run.
        let each = |zip: ArchiveRow| {
            if zip.kept == kept {
                return Ok(());
            }
            let zip = if dry_run { zip } else { ArchiveRow { kept, ..zip } };
            if json {
                return array.add(&zip);
            }
            table.add(&zip);
            Ok(())
        };
        client.subscribe(&ListArchives { pattern: pattern.clone(), ..ListArchives::default() }, each).await?;
        let report = client.call(&KeepArchives { pattern, kept, dry_run }).await?;
        let KeepReport { zips, marked, marks, spreads, .. } = report;
        let is_empty = zips == 0 && marks == 0 && !spreads;
        if json {
            array.finish(&json!({"kept": kept, "marks": marks, "dry_run": dry_run, "spreads": spreads}));
            return Ok(if is_empty { FAILED } else { 0 });
        }
        if marks > 0 {
            let verb = if dry_run { "would be" } else { "are" };
            print(&format!("{marks} marks of zips that are not stored {verb} removed\n"));
        } else if is_empty {
            print("no stored zip matches\n");
            return Ok(FAILED);
        }
        let mut out = PrintBuffer::default();
        table.write(|line| out.add(line));
        let state = if kept { "kept" } else { "evictable" };
        let verb = if dry_run { format!("would be {state}") } else { format!("are {state} now") };
        let others = if spreads { "; the other mirrors of the bucket mark what they have, too" } else { "" };
        out.add(&format!("{marked} of {zips} zips {verb}{others}\n"));
        out.flush();
        Ok(0)
    })
}
