//! `srm-mirror cache ls`.

use clap::{ValueEnum, builder::PossibleValue};

use super::{print, table::Table};
use crate::{
    admin_api::{InventoryOrder, ListArchives},
    cli::{admin_args::AdminArgs, admin_client},
};

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

/// Lists the selected zips. The JSON is printed as it comes; a table is held until its widths are known.
pub(super) fn run(
    cache: &AdminArgs,
    pattern: Option<String>,
    sort: InventoryOrder,
    limit: Option<usize>,
    json: bool,
) -> anyhow::Result<u8> {
    let request = ListArchives { pattern, sort, limit, findings: json };
    let mut table = Table::new();
    let mut out = PrintBuffer(String::new());
    admin_client::run_at(cache, async |client| {
        if !json {
            let each = |archive| {
                table.add(&archive);
                Ok(())
            };
            return client.subscribe(&request, each).await;
        }
        let each = |line: &[u8]| {
            out.add(std::str::from_utf8(line)?);
            out.add("\n");
            Ok(())
        };
        client.subscribe_raw(&request, each).await
    })?;
    table.write(|line| out.add(line));
    out.flush();
    Ok(0)
}

/// Text on its way to standard output.
struct PrintBuffer(String);

impl PrintBuffer {
    fn add(&mut self, text: &str) {
        self.0 += text;
        if self.0.len() >= PRINT_BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        print(&std::mem::take(&mut self.0));
    }
}
