//! Removal of selected zips: read a 256th at a time, by the first byte of their digests, and removed some thousands at a time.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    time::Duration,
};

use jiff::Timestamp;

use super::inventory::{ALL_SHARDS, Inventory, Selection};
use crate::{cache::InventoryEntry, entry::Key};

/// Zips are removed as soon as so many are collected.
const REMOVED_ZIPS_STEP: usize = 1 << 14;

/// Which zips are removed.
pub struct SelectedZips {
    /// The packages and versions.
    pub selection: Selection,
    /// Zips that were stored later stay.
    pub planned_at: Timestamp,
    /// Only zips that were not used for this long before `planned_at` and are not kept; `None`: all.
    pub unused: Option<Duration>,
}

/// Whether [`Inventory::remove_zips`] removes or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalMode {
    /// Only counts what would be removed.
    DryRun,
    /// Removes it.
    Remove,
}

/// What [`Inventory::remove_zips`] has removed, or would remove.
#[derive(Default)]
pub struct ZipRemoval {
    /// The number of zips.
    pub zips: usize,
    /// Bytes on disk that this frees.
    pub bytes: u64,
    /// The keys of selected zips that stay because they were stored after the plan.
    pub newer: HashSet<Key>,
}

/// Why zips are not removed.
#[derive(Debug, thiserror::Error)]
pub enum ZipRemovalError {
    /// The index cannot be read.
    #[error("the index of the cache cannot be read")]
    Index(#[source] io::Error),
    /// A zip cannot be removed.
    #[error("something cannot be removed from the cache")]
    Disk(#[source] io::Error),
}

impl SelectedZips {
    fn contain(&self, entry: &InventoryEntry) -> bool {
        let age = Duration::try_from(self.planned_at.duration_since(entry.last_use)).unwrap_or_default();
        self.unused.is_none_or(|unused| !entry.kept && age >= unused)
    }
}

impl Inventory {
    /// Removes the selected zips, or counts them. Their pins stay.
    ///
    /// # Errors
    /// See [`ZipRemovalError`].
    pub async fn remove_zips(&self, selected: &SelectedZips, mode: RemovalMode) -> Result<ZipRemoval, ZipRemovalError> {
        let mut removal = ZipRemoval::default();
        // Removed together: each removal is one write to the index.
        let mut keys = Vec::new();
        for shard in ALL_SHARDS {
            let entries = self.fold(shard..=shard, &selected.selection, Vec::new(), Vec::push).await;
            let mut entries = entries.map_err(ZipRemovalError::Index)?;
            entries.retain(|entry| selected.contain(entry));
            let imported = self.revisions_written_after(&entries, selected.planned_at).await;
            let imported = imported.map_err(ZipRemovalError::Disk)?;
            let is_newer =
                |entry: &mut InventoryEntry| entry.stored_at > selected.planned_at || imported.contains(&entry.digest);
            let newer = entries.extract_if(.., is_newer);
            removal.newer.extend(newer.map(|entry| entry.key));
            removal.zips += entries.len();
            removal.bytes += freed_bytes(&entries);
            if mode == RemovalMode::Remove {
                keys.extend(entries.into_iter().map(|entry| entry.key));
                if keys.len() >= REMOVED_ZIPS_STEP || shard == *ALL_SHARDS.end() {
                    self.remove_all(&keys).await.map_err(ZipRemovalError::Disk)?;
                    keys.clear();
                }
            }
        }
        Ok(removal)
    }
}

/// Bytes on disk that are freed when these zips are removed: a blob is removed with the last of its keys.
fn freed_bytes(entries: &[InventoryEntry]) -> u64 {
    let mut blobs: BTreeMap<_, (usize, &InventoryEntry)> = BTreeMap::new();
    for entry in entries {
        blobs.entry(entry.digest).or_insert((0, entry)).0 += 1;
    }
    blobs.values().filter(|(count, entry)| *count == entry.keys).map(|(_, entry)| entry.cost).sum()
}
