//! `srm-mirror cache stats`.

use std::fmt::Write as _;

use super::{print, table::size};
use crate::{
    admin_api::{ReadStats, Stats},
    cli::{CacheArgs, admin_client, escape_terminal_lines},
};

pub(super) fn run(cache: &CacheArgs, json: bool) -> anyhow::Result<u8> {
    let stats = admin_client::run(cache.load()?, async |client| client.call(&ReadStats {}).await)?;
    if json {
        print(&format!("{}\n", serde_json::to_string(&stats)?));
    } else {
        print(&table(&stats));
    }
    Ok(0)
}

/// What uses the space, and what it has answered.
fn table(stats: &Stats) -> String {
    let mut out = String::new();
    let Stats { memory, disk, .. } = stats;
    let mut tier = |name: &str, bytes: u64, limit: u64, objects: u64, answers: String| {
        let _ = writeln!(out, "{name:8}{} of {}, {objects} objects; {answers}", size(bytes), size(limit));
    };
    tier("disk", disk.bytes, disk.limit, disk.objects, answers(disk.hits, disk.served));
    tier("memory", memory.bytes, memory.limit, memory.objects, answers(memory.hits, memory.served));
    let areas = [("zips", disk.zips), ("documents", disk.documents), ("quarantine", disk.quarantine)];
    let areas = areas.map(|(name, bytes)| format!("{name} {}", size(bytes)));
    let _ = writeln!(out, "        {}", areas.join(", "));
    for (name, sum) in &stats.upstreams {
        let answers = answers(sum.hits, sum.served);
        let _ = writeln!(out, "{name:8}{} in {} zips; {answers}", size(sum.bytes), sum.zips);
    }
    for (ranking, title) in [(&stats.top, "largest"), (&stats.busiest, "most used")] {
        if !ranking.is_empty() {
            let _ = writeln!(out, "the {title} of {} packages:", stats.packages);
        }
        for package in ranking {
            let sum = &package.sum;
            let answers = answers(sum.hits, sum.served);
            let name = format!("{}:{}", package.upstream, package.package);
            let _ = writeln!(out, "  {:>10}  {name} ({} zips; {answers})", size(sum.bytes), sum.zips);
        }
    }
    escape_terminal_lines(&out)
}

fn answers(hits: u64, served: u64) -> String {
    format!("{hits} hits, {} served", size(served))
}
