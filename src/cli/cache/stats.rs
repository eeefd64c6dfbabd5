//! `srm-mirror cache stats`.

use std::fmt::Write as _;

use super::print;
use crate::{
    admin_api::{CredentialStats, QueueStats, ReadStats, Stats},
    cli::{admin_args::AdminArgs, admin_client, escape_terminal_lines},
    value::text::size,
};

pub(super) fn run(cache: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    let stats = admin_client::run_at(cache, async |client| client.call(&ReadStats {}).await)?;
    if json {
        print(&format!("{}\n", cache.labelled(&serde_json::to_string(&stats)?)));
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
    for credential in &stats.credentials {
        let _ = writeln!(out, "{}", credential_line(credential));
    }
    for QueueStats { upstream, places, waiting } in &stats.queues {
        let _ = writeln!(out, "{upstream}: {waiting} requests wait for a place for {places}");
    }
    for (limit, count) in &stats.refused {
        let _ = writeln!(out, "clients.{limit}: {count} refused since the start");
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

/// `github: credential GITHUB_TOKEN in use; 4999 requests left until …`
pub(in crate::cli) fn credential_line(credential: &CredentialStats) -> String {
    format!("{}: credential {} {}", credential.upstream, credential.credential, credential.describe())
}

fn answers(hits: u64, served: u64) -> String {
    format!("{hits} hits, {} served", size(served))
}
