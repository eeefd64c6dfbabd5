//! Removal of what is stored: by pattern, and of what is damaged or unused. The zips are read a 256th at a time, by the
//! first byte of their digests, and removed some thousands at a time.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    AdminError, blocking,
    inventory::{INDEX_UNREADABLE, missing_kept_keys, required_selection, selection, unmark},
};
use crate::{
    admin_api::{CollectGarbage, RemovalPlan, RemovalReport, RemoveArchives},
    entry::Key,
    registry::{
        InventoryEntry, Registry, RemovedBy,
        inventory::{ALL_SHARDS, Selection},
    },
};

/// Zips that are removed at once, where so many are selected.
const REMOVED_AT_ONCE: usize = 1 << 14;

fn removal_failed(error: impl std::fmt::Display) -> AdminError {
    AdminError::storage("something cannot be removed from the cache", error)
}

/// Removes the selected zips and, where whole packages are selected, their documents.
pub(super) async fn remove(registry: &Arc<Registry>, request: RemoveArchives) -> Result<RemovalReport, AdminError> {
    let RemoveArchives { pattern, dry_run, plan, forget } = request;
    let selection = required_selection(pattern.as_deref())?;
    let planned_at = plan.as_ref().map_or_else(|| registry.now(), |plan| plan.planned_at);
    let inventory = registry.inventory();
    let documents = inventory.document_keys(&selection).await.map_err(removal_failed)?;
    let mut marks = missing_kept_keys(registry, &selection).await?;
    if let Some(plan) = &plan {
        marks.retain(|key| plan.marks.contains(key));
    }
    if !dry_run {
        unmark(registry, &marks).await?;
    }
    let selected = SelectedZips { selection, planned_at, unused: None };
    let ZipRemoval { zips, bytes, newer } = remove_zips(registry, &selected, dry_run).await?;
    let mut forgotten = 0;
    if forget {
        // Forgetting the pin of a zip removes it, too.
        let forgotten_of =
            inventory.forget_pins(&selected.selection, &newer, (!dry_run).then_some(RemovedBy::Operator)).await;
        forgotten = forgotten_of.map_err(removal_failed)?;
    }
    if !dry_run {
        inventory.remove_documents(&documents, RemovedBy::Operator).await.map_err(removal_failed)?;
        spread(registry, pattern.unwrap_or_default(), forget).await?;
    }
    Ok(RemovalReport {
        zips,
        bytes,
        documents: documents.len(),
        forgotten,
        marks: marks.len(),
        quarantine: 0,
        plan: RemovalPlan { planned_at, marks },
        dry_run,
        spreads: registry.transfer().removals().is_some(),
    })
}

/// Tells the other mirrors of the bucket what was removed, at once or when the bucket can be used.
async fn spread(registry: &Registry, pattern: String, forget: bool) -> Result<(), AdminError> {
    const FAILED: &str = "it is removed here; the other mirrors cannot be told";
    let Some(removals) = registry.transfer().removals().cloned() else { return Ok(()) };
    let recorded = blocking(FAILED, move || removals.record(&pattern, forget)).await?;
    recorded.map_err(|error| AdminError::storage(FAILED, error))
}

/// Removes quarantined files, and the selected zips that were not used for a period and are not kept.
pub(super) async fn collect_garbage(
    registry: &Arc<Registry>,
    request: CollectGarbage,
) -> Result<RemovalReport, AdminError> {
    let CollectGarbage { pattern, dry_run, plan, unused } = request;
    let selection = selection(pattern.as_deref())?;
    let planned_at = plan.map_or_else(|| registry.now(), |plan| plan.planned_at);
    let mut removed = ZipRemoval::default();
    if let Some(unused) = unused {
        let selected = SelectedZips { selection, planned_at, unused: Some(unused.0) };
        removed = remove_zips(registry, &selected, dry_run).await?;
    }
    let quarantine = registry.inventory().usage().disk_areas.quarantine;
    if !dry_run {
        registry.inventory().clear_quarantine().await.map_err(removal_failed)?;
    }
    Ok(RemovalReport {
        zips: removed.zips,
        bytes: removed.bytes + quarantine,
        documents: 0,
        forgotten: 0,
        marks: 0,
        quarantine,
        plan: RemovalPlan { planned_at, marks: Default::default() },
        dry_run,
        spreads: false,
    })
}

/// Which zips are removed.
struct SelectedZips {
    selection: Selection,
    /// Those that were stored later stay.
    planned_at: Timestamp,
    /// Only those that were not used for this long before `planned_at` and are not kept.
    unused: Option<Duration>,
}

impl SelectedZips {
    fn contain(&self, entry: &InventoryEntry) -> bool {
        let age = Duration::try_from(self.planned_at.duration_since(entry.last_use)).unwrap_or_default();
        self.unused.is_none_or(|unused| !entry.kept && age >= unused)
    }
}

/// What [`remove_zips`] has done.
#[derive(Default)]
struct ZipRemoval {
    zips: usize,
    /// Bytes on disk.
    bytes: u64,
    /// The keys of zips that were stored after the plan.
    newer: HashSet<Key>,
}

async fn remove_zips(registry: &Registry, selected: &SelectedZips, dry_run: bool) -> Result<ZipRemoval, AdminError> {
    let mut removal = ZipRemoval::default();
    // Removed together: each removal is one write to the index.
    let mut keys = Vec::new();
    for shard in ALL_SHARDS {
        let entries = registry.inventory().fold(shard..=shard, &selected.selection, Vec::new(), Vec::push).await;
        let mut entries = entries.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
        entries.retain(|entry| selected.contain(entry));
        let newer = entries.extract_if(.., |entry| entry.stored_at > selected.planned_at);
        removal.newer.extend(newer.map(|entry| entry.key));
        removal.zips += entries.len();
        removal.bytes += freed_bytes(&entries);
        if !dry_run {
            keys.extend(entries.into_iter().map(|entry| entry.key));
            if keys.len() >= REMOVED_AT_ONCE || shard == *ALL_SHARDS.end() {
                registry.inventory().remove_all(&keys).await.map_err(removal_failed)?;
                keys.clear();
            }
        }
    }
    Ok(removal)
}

/// Bytes on disk that are freed when these zips are removed: a blob is removed with the last of its keys.
fn freed_bytes(entries: &[InventoryEntry]) -> u64 {
    let mut blobs: BTreeMap<_, (usize, &InventoryEntry)> = BTreeMap::new();
    for entry in entries {
        blobs.entry(entry.digest).or_insert((0, entry)).0 += 1;
    }
    blobs.values().filter(|(count, entry)| *count == entry.keys).map(|(_, entry)| entry.cost).sum()
}
