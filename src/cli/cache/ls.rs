//! `srm-mirror cache ls`.

use clap::{ValueEnum, builder::PossibleValue};
use serde_json::json;

use super::{print, table::Table};
use crate::{
    admin_api::{FailedPublicationRow, InventoryOrder, ListArchives, ListFailedPublications},
    cli::{admin_args::AdminArgs, admin_client, escape_terminal},
    dialect::HOSTED,
};

/// Most failed publications below a table.
const MAX_PRINTED_FAILED: usize = 20;
/// Bytes that are collected before they are printed.
const PRINT_BUFFER_BYTES: usize = 64 << 10;

impl ValueEnum for InventoryOrder {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Name, Self::Size, Self::Age, Self::Used, Self::Hits]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Name => ("name", "Upstream, package, version"),
            Self::Size => ("size", "Largest first"),
            Self::Age => ("age", "Oldest first"),
            Self::Used => ("used", "Least recently used first"),
            Self::Hits => ("hits", "Most hits first"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Lists the selected zips, then the selected publications that failed, at most `limit` of each. The JSON is printed as it
/// comes; a table is held until its widths are known.
pub(super) fn run(
    cache: &AdminArgs,
    pattern: Option<String>,
    sort: InventoryOrder,
    limit: Option<usize>,
    json: bool,
) -> anyhow::Result<u8> {
    let failed_request = ListFailedPublications { pattern: pattern.clone() };
    let request = ListArchives { pattern, sort, limit, findings: json };
    let mut table = Table::new();
    let mut failed = Vec::new();
    let mut out = PrintBuffer::default();
    admin_client::run_at(cache, async |client| {
        if json {
            let each = |line: &[u8]| {
                out.add(&cache.labelled(std::str::from_utf8(line)?));
                out.add("\n");
                Ok(())
            };
            client.subscribe_raw(&request, each).await?;
        } else {
            let each = |archive| {
                table.add(&archive);
                Ok(())
            };
            client.subscribe(&request, each).await?;
        }
        // A mirror of an earlier version has no such list.
        failed = client.call(&failed_request).await.map(|answer| answer.failed).unwrap_or_default();
        Ok(())
    })?;
    table.write(|line| out.add(line));
    failed.truncate(limit.unwrap_or(usize::MAX));
    let printed = if json { failed.len() } else { failed.len().min(MAX_PRINTED_FAILED) };
    for publication in &failed[..printed] {
        out.add(&if json { cache.labelled(&json_line(publication)).into_owned() } else { text_line(publication) });
    }
    if printed < failed.len() {
        out.add(&format!("failed  {} more; --json lists them\n", failed.len() - printed));
    }
    out.flush();
    Ok(0)
}

/// The fields are those of `registry detail`.
fn json_line(publication: &FailedPublicationRow) -> String {
    let FailedPublicationRow { package, version, by, at, reason } = publication;
    let line = json!({
        "upstream": HOSTED, "package": package, "failed_version": version, "failed_at": at, "by": by, "reason": reason
    });
    format!("{line}\n")
}

fn text_line(publication: &FailedPublicationRow) -> String {
    let FailedPublicationRow { package, version, by, at, reason } = publication;
    escape_terminal(&format!("failed  {HOSTED}:{package}@{version}  {at:.0}  {by}: {reason}")) + "\n"
}

/// Text on its way to standard output.
#[derive(Default)]
pub(super) struct PrintBuffer(String);

impl PrintBuffer {
    pub(super) fn add(&mut self, text: &str) {
        self.0 += text;
        if self.0.len() >= PRINT_BUFFER_BYTES {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        print(&std::mem::take(&mut self.0));
    }
}
