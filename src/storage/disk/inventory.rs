//! Administration of stored archives: list, keep, check, clean up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    ops::RangeInclusive,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Disk,
    blobs::Blobs,
    budget::StoredKind,
    index::{self, BLOBS, Index, IndexRow, IndexedKey},
    pending_updates::PendingUpdates,
    pins::PinStore,
    repair::Integrity,
    stage,
};
use crate::{
    blocking::run_blocking_io,
    entry::{Digest, Key, Meta},
    storage::{HitStats, usage::PendingUsage},
};

/// One key and its stored blob. Keys of the same blob share its size on disk and its usage.
#[derive(Clone, Debug)]
pub struct InventoryEntry {
    /// The key.
    pub key: Key,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub len: u64,
    /// Bytes that the blob takes on disk.
    pub cost: u64,
    /// Number of keys of the blob.
    pub keys: usize,
    /// When the bytes were fetched.
    pub stored_at: Timestamp,
    /// The commit that the bytes were made from, if known.
    pub commit: Option<String>,
    /// When the blob was last used.
    pub last_use: Timestamp,
    /// Hits of the blob since it was stored.
    pub hit_stats: HitStats,
    /// Never evicted.
    pub kept: bool,
    /// True if the key is pinned.
    pub pinned: bool,
}

/// The bytes of the disk tier, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Blobs with their sidecars.
    pub blobs: u64,
    /// Documents.
    pub documents: u64,
    /// Quarantined files.
    pub quarantine: u64,
}

/// The administration of a disk tier's archives.
#[derive(Clone, Copy)]
pub struct DiskInventory<'a> {
    disk: &'a Disk,
}

impl<'a> DiskInventory<'a> {
    pub(super) fn new(disk: &'a Disk) -> Self {
        Self { disk }
    }

    /// The stored keys that satisfy `filter`, in order of digests. Reads only the index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn list(&self, filter: impl Fn(&Key) -> bool + Send + 'static) -> io::Result<Vec<InventoryEntry>> {
        self.fold(0..=u8::MAX, filter, Vec::new(), |entries, entry| entries.push(entry)).await
    }

    /// Adds the entry of each stored key that satisfies `filter` to `sum`, in order of digests, and returns the sum. Visits
    /// the blobs whose digest begins with a byte of `shards`. Reads only the index, and holds the rows of one shard in
    /// memory.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn fold<T: Send + 'static>(
        &self,
        shards: RangeInclusive<u8>,
        filter: impl Fn(&Key) -> bool + Send + 'static,
        mut sum: T,
        add: impl Fn(&mut T, InventoryEntry) + Send + 'static,
    ) -> io::Result<T> {
        let listing = self.listing();
        run_blocking_io(move || listing.run(shards, filter, |entry| add(&mut sum, entry)).map(|()| sum)).await
    }

    fn listing(&self) -> Listing {
        Listing {
            index: Arc::clone(&self.disk.index),
            blobs: Arc::clone(&self.disk.blobs),
            updates: Arc::clone(&self.disk.updates),
            pins: Arc::clone(&self.disk.pins),
        }
    }

    /// The metadata of a key, without opening its blob.
    ///
    /// # Errors
    /// When the index or the sidecar cannot be read.
    pub async fn meta(&self, key: &Key) -> io::Result<Option<Arc<Meta>>> {
        let lookup = Arc::clone(&self.disk.lookup);
        let key = key.clone();
        run_blocking_io(move || lookup.meta(&key)).await
    }

    /// True if something is stored under a key, by the index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn contains(&self, key: &Key) -> io::Result<bool> {
        let metas = Arc::clone(&self.disk.metas);
        let key = key.clone();
        run_blocking_io(move || Ok(metas.find_stored(&key)?.is_some())).await
    }

    /// The stored keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn keys_with_prefix(&self, prefix: &str) -> io::Result<Vec<Key>> {
        let index = Arc::clone(&self.disk.index);
        let prefix = prefix.to_owned();
        run_blocking_io(move || index.read(|txn| index::keys_with_prefix(txn, &prefix))).await
    }

    /// At most `limit` stored keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn first_keys_with_prefix(&self, prefix: &str, limit: usize) -> io::Result<Vec<Key>> {
        let index = Arc::clone(&self.disk.index);
        let prefix = prefix.to_owned();
        run_blocking_io(move || index.read(|txn| index::first_keys_with_prefix(txn, &prefix, limit))).await
    }

    /// The entries of `keys`, in order of digests; a key that is not stored is left out. Reads the index rows of these keys
    /// only.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn entries(&self, keys: Vec<Key>) -> io::Result<Vec<InventoryEntry>> {
        let listing = self.listing();
        run_blocking_io(move || {
            let mut entries = Vec::new();
            listing.read(&keys, |entry| entries.push(entry))?;
            Ok(entries)
        })
        .await
    }

    /// Those of `blobs` whose files were written after `at`. Reads the dates of the files: `stored_at` in the metadata
    /// of an imported archive may be earlier.
    ///
    /// # Errors
    /// When the date of a file cannot be read.
    pub async fn written_after(&self, blobs: Vec<Digest>, at: Timestamp) -> io::Result<HashSet<Digest>> {
        let layout = Arc::clone(&self.disk.layout);
        run_blocking_io(move || {
            let mut after = HashSet::new();
            for digest in blobs {
                if stage::written_at(&layout.blob(&digest))?.is_some_and(|written| written > at) {
                    after.insert(digest);
                }
            }
            Ok(after)
        })
        .await
    }

    /// True if a key has a keep mark.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn is_kept(&self, key: &Key) -> io::Result<bool> {
        let index = Arc::clone(&self.disk.index);
        let key = key.clone();
        run_blocking_io(move || index.read(|txn| index::is_kept_key(txn, &key))).await
    }

    /// The kept keys that are not stored, in order: an archive stored under such a key is kept again.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn kept_missing_keys(&self) -> io::Result<Vec<Key>> {
        let keys = Arc::clone(&self.disk.keys);
        run_blocking_io(move || keys.kept_missing()).await
    }

    /// True when nothing is stored, pinned or marked.
    ///
    /// # Errors
    /// When the index or the pins cannot be read.
    pub async fn holds_nothing(&self) -> io::Result<bool> {
        let is_empty = self.disk.usage().objects == 0 && self.disk.pins().keys_after("", 1).await?.is_empty();
        Ok(is_empty && self.disk.documents().keys().await?.is_empty() && self.kept_missing_keys().await?.is_empty())
    }

    /// Sets or clears a key's keep mark, as [`DiskInventory::mark_all`]. Returns false if nothing is stored under the key.
    ///
    /// # Errors
    /// When the mark cannot be made durable.
    pub async fn set_kept(&self, key: &Key, kept: bool) -> io::Result<bool> {
        Ok(self.mark_all(vec![key.clone()], kept).await? == 1)
    }

    /// Sets or clears the keep marks of keys: a kept archive is never evicted. Returns under how many of them something is
    /// stored; a mark without an archive is cleared but not set.
    ///
    /// # Errors
    /// When a mark cannot be made durable.
    pub async fn mark_all(&self, marked: Vec<Key>, kept: bool) -> io::Result<usize> {
        let keys = Arc::clone(&self.disk.keys);
        run_blocking_io(move || {
            let mut stored = 0;
            for key in &marked {
                stored += usize::from(keys.set_kept(key, kept)?);
            }
            Ok(stored)
        })
        .await
    }

    /// Removes the keep marks of keys under which nothing is stored.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub async fn clear_marks(&self, marked: Vec<Key>) -> io::Result<()> {
        let keys = Arc::clone(&self.disk.keys);
        run_blocking_io(move || keys.clear_marks(&marked)).await
    }

    /// Hashes a blob and quarantines it if it is damaged.
    ///
    /// # Errors
    /// When the blob cannot be read or quarantined.
    pub async fn check(&self, digest: &Digest) -> io::Result<Integrity> {
        let repair = Arc::clone(&self.disk.repair);
        let digest = *digest;
        run_blocking_io(move || repair.check(&digest)).await
    }

    /// Removes the quarantined files and evicts what exceeds the limit; returns the number of files removed.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub async fn clean(&self) -> io::Result<usize> {
        let Disk { quarantine, flush, documents, space, .. } = self.disk;
        let quarantine = Arc::clone(quarantine);
        let flush = Arc::clone(flush);
        let documents = Arc::clone(documents);
        let space = Arc::clone(space);
        run_blocking_io(move || {
            let count = quarantine.clear()?;
            flush.run()?;
            documents.trim();
            space.evict_excess();
            Ok(count)
        })
        .await
    }

    /// The bytes of the tier by kind.
    pub fn usage(&self) -> DiskUsage {
        let Disk { budget, quarantine, .. } = self.disk;
        let blobs = budget.committed(StoredKind::Blob);
        let documents = budget.committed(StoredKind::Document);
        DiskUsage { blobs, documents, quarantine: quarantine.bytes() }
    }
}

/// Reads blob rows: all of them in one pass, or those of some keys.
struct Listing {
    index: Arc<Index>,
    blobs: Arc<Blobs>,
    updates: Arc<PendingUpdates>,
    pins: Arc<PinStore>,
}

impl Listing {
    fn run(
        &self,
        shards: RangeInclusive<u8>,
        filter: impl Fn(&Key) -> bool,
        mut add: impl FnMut(InventoryEntry),
    ) -> io::Result<()> {
        let pending_usage = self.updates.blob_usage();
        for first in shards {
            let rows = self.index.read(|txn| BLOBS.shard(txn, first))?;
            self.add_rows(rows, &pending_usage, &filter, &mut add)?;
        }
        Ok(())
    }

    /// Adds the entries of these keys.
    fn read(&self, keys: &[Key], mut add: impl FnMut(InventoryEntry)) -> io::Result<()> {
        let wanted: BTreeSet<&Key> = keys.iter().collect();
        let rows = self.index.read(|txn| {
            let digests = index::find_blobs(txn, keys)?.into_keys();
            digests.map(|digest| Ok((digest, BLOBS.get(txn, &digest)?))).collect()
        })?;
        self.add_rows(rows, &self.updates.blob_usage(), &|key: &Key| wanted.contains(key), &mut add)
    }

    fn add_rows(
        &self,
        rows: Vec<(Digest, Option<IndexRow>)>,
        pending_usage: &HashMap<Digest, PendingUsage>,
        filter: &impl Fn(&Key) -> bool,
        add: &mut impl FnMut(InventoryEntry),
    ) -> io::Result<()> {
        let rows: Vec<_> = rows
            .into_iter()
            .filter_map(|(digest, row)| Some((digest, row.filter(|_| !self.blobs.is_unlinked(&digest))?)))
            .collect();
        let keys = rows.iter().flat_map(|(_, row)| &row.keys).map(|indexed| &indexed.key).filter(|key| filter(key));
        let pinned = self.pins.pinned_among(&keys.collect())?;
        for (digest, row) in &rows {
            let mut hit_stats = row.hit_stats;
            let pending = pending_usage.get(digest).copied().unwrap_or_default();
            hit_stats.add(pending.hit_stats);
            let last_use = i64::try_from(row.last_use.max(pending.last_use)).ok();
            let last_use = last_use.and_then(|micros| Timestamp::from_microsecond(micros).ok()).unwrap_or_default();
            for IndexedKey { key, kept, stored_at, commit } in row.keys.iter().filter(|indexed| filter(&indexed.key)) {
                add(InventoryEntry {
                    key: key.clone(),
                    digest: *digest,
                    len: row.len,
                    cost: row.cost,
                    keys: row.keys.len(),
                    stored_at: *stored_at,
                    commit: commit.clone(),
                    last_use,
                    hit_stats,
                    kept: *kept,
                    pinned: pinned.contains(key),
                });
            }
        }
        Ok(())
    }
}
