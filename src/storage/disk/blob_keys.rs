//! The keys of blobs: removes a key, sets keep marks, and keeps sidecar and index row of a blob in agreement.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    panic::resume_unwind,
    sync::Arc,
    thread,
};

use parking_lot::{RwLock, RwLockReadGuard};

use super::{
    blob_metas::BlobMetas,
    blobs::Blobs,
    budget::{Budget, StoredKind, allocated_bytes},
    health::{DiskArea, DiskHealth},
    index::{self, Index, IndexRow},
    layout::Layout,
    pending_updates::PendingUpdates,
    sidecar::{self, Sidecar},
    space::Space,
    stage::{self, StagedFile},
};
use crate::entry::{Digest, Key};

/// Keys per step of a removal: admissions wait for one step at most.
const REMOVAL_BATCH_KEYS: usize = 2048;
/// Threads of a removal: an unlink waits for the device where it discards the blocks at once.
const REMOVAL_THREADS: usize = 8;
/// Blobs for which a thread is worth its start.
const MIN_BLOBS_PER_THREAD: usize = 16;

/// The keys of blobs. All methods block.
///
/// Lock order in the disk tier: `marking`, eviction, a digest's lock, the flush, the pins journal, the index. Eviction
/// only tries the locks of digests, so holding one while asking for space is safe.
pub(super) struct BlobKeys {
    layout: Arc<Layout>,
    index: Arc<Index>,
    budget: Arc<Budget>,
    updates: Arc<PendingUpdates>,
    blobs: Arc<Blobs>,
    metas: Arc<BlobMetas>,
    space: Arc<Space>,
    health: Arc<DiskHealth>,
    /// Held shared while an admission moves a key to another blob, exclusively while keep marks change: a mark written in
    /// between would write the key to its old blob's sidecar again.
    marking: RwLock<()>,
}

/// Keys that could not be removed from their blob.
struct FailedRemoval<'b, 'k> {
    keys: &'b [&'k Key],
    cause: io::Error,
}

/// Whether a row agrees with its sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowRepair {
    /// The row now agrees with the sidecar, or the blob is no longer stored.
    Done,
    /// There is no usable sidecar.
    DamagedSidecar,
}

/// Shared access to the keep marks, for the time of an admission.
pub(super) type MarksGuard<'a> = RwLockReadGuard<'a, ()>;

/// The parts that the keys of blobs are built on.
pub(super) struct BlobKeysParts {
    pub(super) layout: Arc<Layout>,
    pub(super) index: Arc<Index>,
    pub(super) budget: Arc<Budget>,
    pub(super) updates: Arc<PendingUpdates>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) metas: Arc<BlobMetas>,
    pub(super) space: Arc<Space>,
    pub(super) health: Arc<DiskHealth>,
}

impl BlobKeys {
    pub(super) fn new(parts: BlobKeysParts) -> Self {
        let BlobKeysParts { layout, index, budget, updates, blobs, metas, space, health } = parts;
        Self { layout, index, budget, updates, blobs, metas, space, health, marking: RwLock::default() }
    }

    /// Keeps the keep marks unchanged while the guard lives.
    pub(super) fn freeze_marks(&self) -> MarksGuard<'_> {
        self.marking.read()
    }

    /// Removes keys and their keep marks; a blob is removed with its last key. Many keys take few writes of the index.
    ///
    /// # Errors
    /// The first one; a key that cannot be removed does not stop the removal of the others.
    pub(super) fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        let mut outcome = Ok(());
        for batch in self.in_order_of_blobs(keys)?.chunks(REMOVAL_BATCH_KEYS) {
            outcome = outcome.and(self.remove_batch(batch));
        }
        self.space.resize_index_reservation();
        if let Err(error) = &outcome {
            self.health.record_failure(DiskArea::Blobs, error);
        }
        outcome
    }

    /// The keys in the order of their rows in the index: a batch then changes few of its pages, and has all keys of a blob.
    fn in_order_of_blobs(&self, keys: &[Key]) -> io::Result<Vec<Key>> {
        let blobs = self.index.read(|txn| index::find_blobs(txn, keys))?;
        let stored: HashSet<&Key> = blobs.values().flatten().copied().collect();
        let others = keys.iter().filter(|key| !stored.contains(key));
        Ok(blobs.values().flatten().copied().chain(others).cloned().collect())
    }

    fn remove_batch(&self, keys: &[Key]) -> io::Result<()> {
        let _marking = self.marking.write();
        let blobs = self.index.read(|txn| index::find_blobs(txn, keys))?;
        let blobs: Vec<_> = blobs.into_iter().collect();
        let share = blobs.len().div_ceil(REMOVAL_THREADS).max(MIN_BLOBS_PER_THREAD);
        let failed: Vec<_> = thread::scope(|scope| {
            let parts = blobs.chunks(share).map(|part| scope.spawn(|| self.take_from_blobs(part)));
            let parts: Vec<_> = parts.collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        });
        let stored: BTreeSet<&Key> = failed.iter().flat_map(|failed| failed.keys).copied().collect();
        self.blobs.purge_unlinked_rows()?;
        self.remove_marks(keys.iter().filter(|key| !stored.contains(key)))?;
        failed.into_iter().try_for_each(|failed| Err(failed.cause))
    }

    /// As [`BlobKeys::take_keys`], for several blobs; returns those that failed.
    fn take_from_blobs<'b, 'k>(&self, blobs: &'b [(Digest, Vec<&'k Key>)]) -> Vec<FailedRemoval<'b, 'k>> {
        let take = |(digest, keys): &'b (Digest, Vec<&'k Key>)| match self.take_keys(digest, keys) {
            Ok(()) => None,
            Err(cause) => Some(FailedRemoval { keys, cause }),
        };
        blobs.iter().filter_map(take).collect()
    }

    /// Removes a key from a blob; the blob is removed with its last key. The caller holds the marks.
    pub(super) fn detach(&self, digest: &Digest, key: &Key) -> io::Result<()> {
        self.take_keys(digest, &[key])?;
        self.blobs.purge_unlinked_rows()
    }

    /// Removes keys from a blob, and its files with the last key. The caller holds the marks and calls
    /// [`Blobs::purge_unlinked_rows`] afterwards.
    fn take_keys(&self, digest: &Digest, keys: &[&Key]) -> io::Result<()> {
        let _lock = self.blobs.lock(digest);
        let Some(mut row) = self.blobs.row(digest)? else { return Ok(()) };
        row.keys.retain(|indexed| !keys.contains(&&indexed.key));
        if row.keys.is_empty() {
            return self.blobs.unlink(digest, &row).map(drop);
        }
        let mut sidecar = Sidecar::read(&self.layout.sidecar(digest))?;
        sidecar.retain(|key| !keys.contains(&key));
        self.rewrite_sidecar(digest, row, &mut sidecar)?;
        self.metas.invalidate(keys.iter().copied());
        Ok(())
    }

    /// Sets or clears a key's keep mark; false if nothing is stored under the key. Clearing also removes the mark of a
    /// key that is not stored.
    pub(super) fn set_kept(&self, key: &Key, kept: bool) -> io::Result<bool> {
        let _marking = self.marking.write();
        let Some(digest) = self.index.read(|txn| index::find_blob(txn, key))? else {
            return if kept { Ok(false) } else { self.remove_marks([key]).map(|()| false) };
        };
        let _lock = self.blobs.lock(&digest);
        let Some(row) = self.blobs.row(&digest)? else { return Ok(false) };
        let mut sidecar = Sidecar::read(&self.layout.sidecar(&digest))?;
        // A kill may have left the sidecar changed and the row not.
        let row_differs = row.keys.iter().any(|indexed| indexed.key == *key && indexed.kept != kept);
        if sidecar.set_kept(key, kept) || row_differs {
            self.rewrite_sidecar(&digest, row, &mut sidecar)?;
        }
        Ok(true)
    }

    /// The kept keys that are not stored, in order.
    pub(super) fn kept_missing(&self) -> io::Result<Vec<Key>> {
        self.index.read(index::kept_missing_keys)
    }

    /// Removes the keep marks of keys that are not stored; leaves those of stored keys.
    pub(super) fn clear_marks(&self, keys: &[Key]) -> io::Result<()> {
        for batch in keys.chunks(REMOVAL_BATCH_KEYS) {
            let _marking = self.marking.write();
            let blobs = self.index.read(|txn| index::find_blobs(txn, batch))?;
            let stored: BTreeSet<_> = blobs.into_values().flatten().collect();
            self.remove_marks(batch.iter().filter(|key| !stored.contains(key)))?;
        }
        Ok(())
    }

    fn remove_marks<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> io::Result<()> {
        let kept = self.index.read(|txn| index::kept_among(txn, keys))?;
        if !kept.is_empty() {
            self.index.write(|txn| index::remove_kept_keys(txn, &kept))?;
        }
        Ok(())
    }

    /// Replaces a blob's sidecar and makes its row agree. The caller holds the digest's lock.
    fn rewrite_sidecar(&self, digest: &Digest, mut row: IndexRow, sidecar: &mut Sidecar) -> io::Result<()> {
        for key in self.index.read(|txn| index::keys_of_other_blobs(txn, digest, sidecar.keys()))? {
            sidecar.remove(&key);
        }
        let text = sidecar.to_bytes()?;
        let reservation = self.space.reserve(allocated_bytes(text.len() as u64))?;
        let staged = StagedFile::write(self.layout.next_staging_path(), &[&text])?;
        let folder = self.layout.shard(digest.0[0]);
        stage::publish(&folder, vec![(staged, self.layout.sidecar(digest))], |_| {})?;
        let old_cost = row.cost;
        row.cost = allocated_bytes(row.len) + reservation.bytes();
        row.keys = sidecar.indexed_keys();
        let written = self.index.write(|txn| index::put_blob(txn, digest, &row, None));
        self.blobs.record_kept(digest, &row);
        if written.is_err() {
            self.index.require_rescan();
        }
        drop(self.budget.release(StoredKind::Blob, old_cost - allocated_bytes(row.len)));
        reservation.commit(StoredKind::Blob);
        written.map(drop)
    }

    /// Makes a row agree with its sidecar, which a kill may have left newer.
    pub(super) fn repair_row(&self, digest: &Digest) -> io::Result<RowRepair> {
        let _marking = self.marking.write();
        let _lock = self.blobs.lock(digest);
        // A blob that is no longer stored is not damaged.
        let Some(old) = self.blobs.row(digest)? else { return Ok(RowRepair::Done) };
        let Some(mut row) = self.row_from_sidecar(digest)? else { return Ok(RowRepair::DamagedSidecar) };
        row.last_use = old.last_use;
        row.hit_stats = old.hit_stats;
        let keys = row.keys.iter().map(|indexed| &indexed.key);
        let moved = self.index.read(|txn| index::keys_of_other_blobs(txn, digest, keys))?;
        row.keys.retain(|indexed| !moved.contains(&indexed.key));
        self.index.write(|txn| index::put_blob(txn, digest, &row, None))?;
        self.blobs.record_kept(digest, &row);
        // The bytes are on disk already, even beyond the limit.
        self.budget.account_existing(row.cost.saturating_sub(old.cost)).commit(StoredKind::Blob);
        drop(self.budget.release(StoredKind::Blob, old.cost.saturating_sub(row.cost)));
        self.metas.invalidate(old.keys.iter().chain(&row.keys).map(|indexed| &indexed.key));
        Ok(RowRepair::Done)
    }

    /// True if a row and its sidecar record the same keys.
    pub(super) fn row_agrees(&self, digest: &Digest, row: &IndexRow) -> bool {
        Sidecar::read(&self.layout.sidecar(digest)).is_ok_and(|sidecar| sidecar.indexed_keys() == row.keys)
    }

    /// The row that a blob's sidecar describes; `None` without a usable sidecar.
    pub(super) fn row_from_sidecar(&self, digest: &Digest) -> io::Result<Option<IndexRow>> {
        sidecar::row_from_sidecar(&self.layout, digest, self.updates.now())
    }
}
