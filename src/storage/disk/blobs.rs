//! The stored blobs: their files, their index rows, and what memory records about them.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tracing::{debug, warn};

use super::{
    blob::{BlobFile, release_on_close},
    blob_metas::{BlobMetas, UnlinkedBlobs},
    budget::{Budget, StoredKind},
    digest_locks::DigestLocks,
    index::{self, BLOBS, Index, IndexRow},
    layout::Layout,
    open_files::OpenFiles,
    pending_updates::PendingUpdates,
    stage,
    upload_queue::UploadQueue,
};
use crate::entry::Digest;

/// Rows per write of a purge.
const PURGE_BATCH_ROWS: usize = 4096;

/// The stored blobs. All methods block.
///
/// Files are unlinked first and rows removed after: a kill in between leaves rows without files, which the next start
/// removes, and eviction works on a disk that is too full to write the index. Until [`Blobs::purge_unlinked_rows`] such
/// blobs are in `unlinked` and count as absent.
pub(super) struct Blobs {
    layout: Arc<Layout>,
    index: Arc<Index>,
    budget: Arc<Budget>,
    updates: Arc<PendingUpdates>,
    open_files: Arc<OpenFiles>,
    locks: DigestLocks,
    metas: Arc<BlobMetas>,
    unlinked: Arc<UnlinkedBlobs>,
    uploads: Arc<UploadQueue>,
    /// Blobs that were hashed since the start and matched their digest.
    verified: Mutex<HashSet<Digest>>,
    /// Blobs that are never evicted, and the cost of each in bytes.
    kept: Mutex<HashMap<Digest, u64>>,
    /// Number of stored blobs.
    count: AtomicU64,
}

/// Blobs that an eviction pass spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    /// Blobs that are read, and blobs used since the last flush: their place in the order of use is out of date.
    ReadOrUsed,
    /// Blobs that are read: unlinking them frees no bytes at once.
    Read,
}

impl Blobs {
    pub(super) fn new(
        layout: Arc<Layout>,
        index: Arc<Index>,
        budget: Arc<Budget>,
        updates: Arc<PendingUpdates>,
        unlinked: Arc<UnlinkedBlobs>,
        metas: Arc<BlobMetas>,
        uploads: Arc<UploadQueue>,
    ) -> Self {
        Self {
            layout,
            index,
            budget,
            updates,
            open_files: Arc::default(),
            locks: DigestLocks::default(),
            metas,
            unlinked,
            uploads,
            verified: Mutex::default(),
            kept: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// Loads the keep marks, the number of blobs and their bytes from the index.
    pub(super) fn load(&self) -> io::Result<()> {
        *self.kept.lock() = self.index.read(index::kept_blobs)?.into_iter().collect();
        let totals = self.index.read(|txn| BLOBS.totals(txn))?;
        self.budget.account_existing(totals.bytes).commit(StoredKind::Blob);
        self.count.store(totals.rows, Ordering::SeqCst);
        Ok(())
    }

    /// Number of stored blobs.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Locks a digest: one thread at a time publishes, opens or removes its files.
    pub(super) fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        self.locks.lock(digest)
    }

    /// The row of a blob whose files exist. The caller holds the digest's lock.
    pub(super) fn row(&self, digest: &Digest) -> io::Result<Option<IndexRow>> {
        // In this order: `purge_unlinked_rows` takes no digest lock, removes the row first and the `unlinked` entry after.
        // In the reverse order a row of unlinked files could look like one of existing files, and its bytes would be
        // released twice.
        if self.unlinked.contains(digest) {
            return Ok(None);
        }
        self.index.read(|txn| BLOBS.get(txn, digest))
    }

    /// True if a blob's files are unlinked and its row is still in the index.
    pub(super) fn is_unlinked(&self, digest: &Digest) -> bool {
        self.unlinked.contains(digest)
    }

    /// The open file of a blob, if it is open.
    pub(super) fn opened(&self, digest: &Digest) -> Option<Arc<BlobFile>> {
        self.open_files.get(digest)
    }

    /// Opens a blob for reading; `None` if its file is missing.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Option<Arc<BlobFile>>> {
        let _lock = self.lock(digest);
        if let Some(file) = self.open_files.get(digest) {
            return Ok(Some(file));
        }
        match File::open(self.layout.blob(digest)) {
            Ok(file) => {
                let file = self.open_files.add_opened(*digest, file, self.updates.counters(digest));
                if self.verified.lock().contains(digest) {
                    file.set_verified();
                }
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records that a blob's bytes match its digest.
    pub(super) fn mark_verified(&self, digest: &Digest) {
        self.verified.lock().insert(*digest);
    }

    /// True if the blob was verified since the start and still has its length.
    pub(super) fn is_verified_with_len(&self, digest: &Digest, len: u64) -> bool {
        self.verified.lock().contains(digest)
            && fs::metadata(self.layout.blob(digest)).is_ok_and(|stat| stat.len() == len)
    }

    /// Removes a blob's file from the open files, so that no lookup returns it; returns it if it is being read.
    pub(super) fn retire_file(&self, digest: &Digest) -> Option<Arc<BlobFile>> {
        self.open_files.retire(digest)
    }

    /// Records that the bytes of a blob are in place, before its row is written.
    pub(super) fn mark_linked(&self, digest: &Digest) {
        self.unlinked.remove(digest);
    }

    /// Records that an admission is complete: `file` is the blob's file, or `None` if an earlier copy stays.
    pub(super) fn mark_admitted(&self, digest: &Digest, is_new: bool, file: Option<&Arc<BlobFile>>) {
        if is_new {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        self.mark_verified(digest);
        if let Some(file) = file {
            file.set_verified();
            self.open_files.add(*digest, file, self.updates.counters(digest));
        }
    }

    /// Records whether a blob's row protects it from eviction.
    pub(super) fn record_kept(&self, digest: &Digest, row: &IndexRow) {
        let mut kept = self.kept.lock();
        if row.is_kept() {
            kept.insert(*digest, row.cost);
        } else {
            kept.remove(digest);
        }
    }

    /// Unlinks a blob's files and returns the bytes that this frees at once; a read blob frees its bytes when its last
    /// reader closes it. The caller holds the digest's lock and calls [`Blobs::purge_unlinked_rows`] afterwards.
    pub(super) fn unlink(&self, digest: &Digest, row: &IndexRow) -> io::Result<u64> {
        let reader = self.retire_file(digest);
        stage::remove_file(&self.layout.blob(digest))?;
        stage::remove_file(&self.layout.sidecar(digest))?;
        self.mark_unlinked(digest);
        let freed = if reader.is_some() { 0 } else { row.cost };
        release_on_close(reader, self.budget.release(StoredKind::Blob, row.cost));
        Ok(freed)
    }

    /// Records that the files of a stored blob are unlinked.
    pub(super) fn mark_unlinked(&self, digest: &Digest) {
        self.unlinked.insert(digest, self.updates.now());
        self.verified.lock().remove(digest);
        self.kept.lock().remove(digest);
        self.updates.forget_blob(digest);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Records that a failed admission of a new blob was undone. Its row may have been written all the same.
    pub(super) fn mark_not_admitted(&self, digest: &Digest) {
        self.verified.lock().remove(digest);
        self.unlinked.insert(digest, self.updates.now());
    }

    /// Removes the rows of all unlinked blobs.
    pub(super) fn purge_unlinked_rows(&self) -> io::Result<()> {
        let unlinked = self.unlinked.snapshot();
        if unlinked.is_empty() {
            return Ok(());
        }
        let unlinked: Vec<_> = unlinked.into_iter().collect();
        for batch in unlinked.chunks(PURGE_BATCH_ROWS) {
            let removed = self.index.write(|txn| {
                // An admission of the same blob since then has removed it from `unlinked` first.
                let still = batch.iter().filter(|(digest, at)| self.unlinked.is_unlinked_since(digest, *at));
                index::remove_blobs(txn, &still.map(|(digest, _)| *digest).collect::<Vec<_>>())
            })?;
            self.metas.invalidate(removed.iter().flat_map(|row| &row.keys).map(|indexed| &indexed.key));
            self.unlinked.remove_all(batch);
        }
        Ok(())
    }

    /// Bytes that evicting all evictable blobs would free: those without a keep mark, a reader and a waiting upload. A blob
    /// with several of these is subtracted several times, so the result may be too low.
    pub(super) fn evictable_bytes(&self) -> u64 {
        let kept: u64 = self.kept.lock().values().sum();
        let spared = kept.saturating_add(self.open_files.read_bytes()).saturating_add(self.uploads.bytes());
        self.budget.committed(StoredKind::Blob).saturating_sub(spared)
    }

    /// Unlinks blobs, least recently used first, until `bytes` are unlinked; returns the bytes freed at once. Skips kept
    /// blobs, those that wait for their upload, and blobs whose lock is held. The caller calls
    /// [`Blobs::purge_unlinked_rows`] afterwards.
    pub(super) fn evict(&self, bytes: u64, spare: Spare) -> u64 {
        let mut victims = Vec::new();
        let mut sum = 0;
        let selected = self.index.read(|txn| {
            BLOBS.visit_by_use(txn, |digest, cost| {
                if sum < bytes && self.is_evictable(&digest, spare) {
                    sum += cost;
                    victims.push(digest);
                }
                sum < bytes
            })
        });
        if let Err(cause) = selected {
            warn!(%cause, "blobs cannot be selected for eviction");
        }
        let mut freed = 0;
        for digest in victims {
            let Some(_lock) = self.locks.try_lock(&digest) else { continue };
            match self.row(&digest).and_then(|row| row.map(|row| self.unlink(&digest, &row)).transpose()) {
                Ok(Some(bytes)) => {
                    debug!(%digest, bytes, "a blob was evicted");
                    freed += bytes;
                }
                Ok(None) => {}
                Err(cause) => warn!(%digest, %cause, "a blob cannot be evicted"),
            }
        }
        freed
    }

    fn is_evictable(&self, digest: &Digest, spare: Spare) -> bool {
        let spared = match spare {
            Spare::ReadOrUsed => self.updates.is_used(digest) || self.open_files.is_read(digest),
            Spare::Read => self.open_files.is_read(digest),
        };
        !spared
            && !self.unlinked.contains(digest)
            && !self.kept.lock().contains_key(digest)
            && !self.uploads.protects(digest)
    }

    /// Number of blobs that are never evicted.
    #[cfg(test)]
    pub(super) fn kept_count(&self) -> usize {
        self.kept.lock().len()
    }
}
