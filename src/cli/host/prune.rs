//! `srm-mirror host prune`.

use std::num::NonZeroUsize;

use crate::{
    admin_api::{PruneEvent, PruneHosted, PrunedZip},
    cli::{FAILED, admin_args::AdminArgs, admin_client, escape_terminal, print},
    value::{Period, text::size},
};

/// What is pruned.
pub(super) struct PruneFlags {
    pub(super) pattern: Option<String>,
    pub(super) keep_last: NonZeroUsize,
    pub(super) younger_than: Period,
    pub(super) dry_run: bool,
}

/// Prunes, or shows what would be pruned. Exit code 1 when something cannot be pruned.
pub(super) fn run(mirror: &AdminArgs, flags: PruneFlags, json: bool) -> anyhow::Result<u8> {
    let PruneFlags { pattern, keep_last, younger_than, dry_run } = flags;
    let request = PruneHosted { pattern, keep_last: keep_last.get(), younger_than, dry_run };
    let mut totals = PruneTotals::default();
    admin_client::run_at(mirror, async |client| {
        let each = |event: PruneEvent| {
            totals.add(&event);
            print(&if json { format!("{}\n", serde_json::to_string(&event)?) } else { line(&event) });
            Ok(())
        };
        client.subscribe(&request, each).await
    })?;
    if !json {
        print(&totals.text(dry_run));
    }
    Ok(if totals.failed == 0 { 0 } else { FAILED })
}

#[derive(Default)]
struct PruneTotals {
    versions: u64,
    earlier: u64,
    bytes: u64,
    failed: u64,
}

impl PruneTotals {
    fn add(&mut self, event: &PruneEvent) {
        match event {
            PruneEvent::Version(zip) => {
                self.versions += 1;
                self.bytes += zip.size;
            }
            PruneEvent::EarlierZip(zip) => {
                self.earlier += 1;
                self.bytes += zip.size;
            }
            PruneEvent::Failed { .. } => self.failed += 1,
        }
    }

    fn text(&self, dry_run: bool) -> String {
        let Self { versions, earlier, bytes, failed } = self;
        let verb = if dry_run { "would be pruned" } else { "pruned" };
        let failed = if *failed == 0 { String::new() } else { format!("; {failed} cannot be") };
        format!("{versions} versions and {earlier} earlier zips ({}) {verb}{failed}\n", size(*bytes))
    }
}

fn line(event: &PruneEvent) -> String {
    let text = match event {
        PruneEvent::Version(zip) => format!("version  {}", row(zip)),
        PruneEvent::EarlierZip(zip) => format!("earlier  {}  {}", row(zip), zip.sha256),
        PruneEvent::Failed { package, version, message } => format!("failed   {package}@{version}: {message}"),
    };
    escape_terminal(&text) + "\n"
}

fn row(zip: &PrunedZip) -> String {
    let PrunedZip { package, version, published_at, .. } = zip;
    format!("{package}@{version}  {published_at:.0}  {}", size(zip.size))
}
