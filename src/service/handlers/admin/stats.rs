//! The figures of the cache.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use super::{AdminError, inventory::INDEX_UNREADABLE};
use crate::{
    admin_api::{
        CredentialStats, DiskStats, MemoryStats, PackageStats, QueueStats, RefusedCredential, Stats, StatsSum,
    },
    entry::Digest,
    peer::ClientTable,
    registry::{
        CredentialStatus, HitStats, InventoryEntry, PlaceQueue, Registry, TierStats,
        inventory::{ALL_SHARDS, Selection, StoredArchive},
    },
};

/// Most packages in each of the two rankings.
const MAX_RANKED_PACKAGES: usize = 10;

impl StatsSum {
    fn add(&mut self, item: &StoredArchive) {
        let TierStats { hits, bytes } = item.entry.hit_stats.total();
        self.zips += 1;
        self.bytes += item.entry.len;
        self.hits += hits;
        self.served += bytes;
    }
}

/// Sums over all stored zips.
#[derive(Default)]
struct StoredSums {
    upstreams: BTreeMap<String, StatsSum>,
    packages: BTreeMap<(Arc<str>, String), StatsSum>,
    hit_stats: HitStats,
    /// The blob of the last entry.
    last: Option<Digest>,
}

impl StoredSums {
    fn add(&mut self, entry: InventoryEntry) {
        // Keys of one blob follow each other and share its counters.
        if self.last.replace(entry.digest) != Some(entry.digest) {
            self.hit_stats.add(entry.hit_stats);
        }
        let Some(item) = StoredArchive::of(entry) else { return };
        self.upstreams.entry(item.package.upstream.to_string()).or_default().add(&item);
        self.packages.entry((item.package.upstream.clone(), item.package.name.to_string())).or_default().add(&item);
    }
}

/// Counts what is stored now: by tier, by upstream, by package.
pub(super) async fn stats(registry: &Arc<Registry>, clients: &ClientTable) -> Result<Stats, AdminError> {
    let usage = registry.inventory().usage();
    let sums =
        registry.inventory().fold(ALL_SHARDS, &Selection::default(), StoredSums::default(), StoredSums::add).await;
    let StoredSums { upstreams, packages, hit_stats, .. } =
        sums.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let mut packages: Vec<PackageStats> = packages
        .into_iter()
        .map(|((upstream, package), sum)| PackageStats { sum, upstream: upstream.to_string(), package })
        .collect();
    let count = packages.len();
    packages.sort_by_key(|package| Reverse(package.sum.bytes));
    let top = packages.iter().take(MAX_RANKED_PACKAGES).cloned().collect();
    packages.retain(|package| package.sum.hits > 0);
    packages.sort_by_key(|package| Reverse(package.sum.hits));
    packages.truncate(MAX_RANKED_PACKAGES);
    let mut credentials = Vec::new();
    let mut queues = Vec::new();
    for upstream in registry.upstreams().report() {
        let name = &upstream.name;
        credentials.extend(upstream.credentials.into_iter().map(|status| credential(name, status)));
        queues.extend(upstream.gate.queues.into_iter().map(|waiting| queue(name, waiting)));
    }
    Ok(Stats {
        memory: MemoryStats {
            bytes: usage.memory.bytes,
            limit: usage.memory.limit,
            objects: usage.memory.objects,
            hits: hit_stats.memory.hits,
            served: hit_stats.memory.bytes,
        },
        disk: DiskStats {
            bytes: usage.disk.bytes,
            limit: usage.disk.limit,
            objects: usage.disk.objects,
            zips: usage.disk_areas.blobs,
            documents: usage.disk_areas.documents,
            quarantine: usage.disk_areas.quarantine,
            hits: hit_stats.disk.hits,
            served: hit_stats.disk.bytes,
        },
        upstreams,
        packages: count,
        top,
        busiest: packages,
        downloads: registry.inventory().fills_running(),
        credentials,
        queues,
        refused: clients.refused().into_iter().map(|(limit, count)| (limit.to_owned(), count)).collect(),
    })
}

pub(super) fn queue(upstream: &str, queue: PlaceQueue) -> QueueStats {
    QueueStats { upstream: upstream.to_owned(), places: queue.kind.name().to_owned(), waiting: queue.waiting }
}

pub(super) fn credential(upstream: &str, status: CredentialStatus) -> CredentialStats {
    let refused = status.refusals.into_iter().map(|refusal| RefusedCredential {
        owner: refusal.owner,
        reason: refusal.reason.as_str().to_owned(),
        since: refusal.since,
    });
    CredentialStats {
        upstream: upstream.to_owned(),
        credential: status.label,
        refused: refused.collect(),
        remaining: status.quota.remaining,
        reset: status.quota.reset,
        paused_s: status.quota.wait.map(|wait| wait.as_secs()),
    }
}
