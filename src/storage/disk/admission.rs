//! Admission: a spool becomes a blob. A kill between any two steps leaves either nothing or the whole object.

use std::{io, sync::Arc};

use super::{
    DISK_TIER,
    blob::{BlobFile, release_on_close},
    blob_keys::BlobKeys,
    blob_metas::BlobMetas,
    blobs::Blobs,
    budget::{Budget, StoredKind, allocated_bytes},
    health::{DiskArea, DiskHealth},
    index::{self, Index, IndexRow, PinState},
    layout::Layout,
    pending_updates::PendingUpdates,
    sidecar::Sidecar,
    skipped::SkippedFiles,
    space::Space,
    spool::Spool,
    stage::{self, StagedFile},
    upload_queue::{self, UploadQueue},
};
use crate::sendfile::FileBacked as _;
use crate::{
    entry::{Digest, Key, Meta},
    storage::{Object, ObjectContent},
};

/// The steps of an admission, in order. The object is visible after the last one and not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdmissionStep {
    /// The bytes are durable in the spool folder.
    BlobSynced,
    /// The new sidecar is durable in the spool folder.
    SidecarSynced,
    /// The blob has its final name: without a sidecar the next start removes it.
    BlobNamed,
    /// The sidecar has its final name: from here on the next start adopts the blob.
    SidecarNamed,
    /// Both names are durable.
    FolderSynced,
    /// The index has the row.
    Indexed,
}

/// Admits spools. All methods block.
pub(super) struct Admission {
    layout: Arc<Layout>,
    index: Arc<Index>,
    budget: Arc<Budget>,
    updates: Arc<PendingUpdates>,
    blobs: Arc<Blobs>,
    keys: Arc<BlobKeys>,
    metas: Arc<BlobMetas>,
    space: Arc<Space>,
    health: Arc<DiskHealth>,
    skipped: Arc<SkippedFiles>,
    uploads: Arc<UploadQueue>,
}

/// The parts that admission is built on.
pub(super) struct AdmissionParts {
    pub(super) layout: Arc<Layout>,
    pub(super) index: Arc<Index>,
    pub(super) budget: Arc<Budget>,
    pub(super) updates: Arc<PendingUpdates>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) keys: Arc<BlobKeys>,
    pub(super) metas: Arc<BlobMetas>,
    pub(super) space: Arc<Space>,
    pub(super) health: Arc<DiskHealth>,
    pub(super) skipped: Arc<SkippedFiles>,
    pub(super) uploads: Arc<UploadQueue>,
}

/// The state that a failed admission goes back to.
struct Undo<'a> {
    digest: &'a Digest,
    /// The row of the blob before the admission.
    old_row: Option<&'a IndexRow>,
    /// The retired file of the blob, if it is being read.
    reader: Option<Arc<BlobFile>>,
}

impl Admission {
    pub(super) fn new(parts: AdmissionParts) -> Self {
        let AdmissionParts { layout, index, budget, updates, blobs, keys, metas, space, health, skipped, uploads } =
            parts;
        Self { layout, index, budget, updates, blobs, keys, metas, space, health, skipped, uploads }
    }

    /// Admits a spool under a key, and queues it for its upload where `upload` says so; calls `after_step` after each step.
    pub(super) fn run(
        &self,
        key: &Key,
        spool: Spool,
        meta: Meta,
        upload: Option<PinState>,
        after_step: impl FnMut(AdmissionStep),
    ) -> io::Result<Object> {
        let admitted = self.admit(key, spool, Arc::new(meta), upload, after_step);
        self.space.resize_index_reservation();
        self.health.record(&[DiskArea::Blobs, DiskArea::Spool, DiskArea::Staging, DiskArea::Index], admitted)
    }

    fn admit(
        &self,
        key: &Key,
        spool: Spool,
        meta: Arc<Meta>,
        upload: Option<PinState>,
        mut after_step: impl FnMut(AdmissionStep),
    ) -> io::Result<Object> {
        let digest = meta.digest;
        if spool.len() != meta.len {
            let error = "the spool does not have the length that its metadata gives";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let blob = StagedFile::sync(spool.path(), spool.file().file())?;
        let file = spool.into_file();
        after_step(AdmissionStep::BlobSynced);

        let marks = self.keys.freeze_marks();
        let lock = self.blobs.lock(&digest);
        let old_row = self.blobs.row(&digest)?;
        let sidecar = self.sidecar_with(key, &meta, old_row.as_ref())?;
        let text = sidecar.to_bytes()?;
        let blob_cost = allocated_bytes(meta.len);
        let sidecar_cost = allocated_bytes(text.len() as u64);
        // Stored bytes stay only if they are verified; otherwise the new bytes replace them.
        let keeps_old_blob = old_row.is_some() && self.blobs.is_verified_with_len(&digest, meta.len);
        let sidecar_reservation = if keeps_old_blob {
            Some(self.space.reserve(sidecar_cost)?)
        } else {
            let cost = blob_cost + sidecar_cost;
            file.with_reservation(|held| held.as_mut().map_or(Ok(()), |held| self.space.resize(held, cost)))?;
            None
        };
        let staged = StagedFile::write(self.layout.next_staging_path(), &[&text])?;
        after_step(AdmissionStep::SidecarSynced);

        let mut files = vec![(staged, self.layout.sidecar(&digest))];
        let mut reader = None;
        if keeps_old_blob {
            // The new copy may have readers: its bytes count until they close it.
            drop(blob);
        } else {
            reader = self.blobs.retire_file(&digest);
            files.insert(0, (blob, self.layout.blob(&digest)));
        }
        let mut renamed = 0;
        let steps: &[AdmissionStep] = if keeps_old_blob {
            &[AdmissionStep::SidecarNamed]
        } else {
            &[AdmissionStep::BlobNamed, AdmissionStep::SidecarNamed]
        };
        let published = stage::publish(&self.layout.shard(digest.0[0]), files, |count| {
            renamed = count;
            after_step(steps[count - 1]);
        });
        if published.is_ok() {
            after_step(AdmissionStep::FolderSynced);
        }
        let keys = sidecar.indexed_keys();
        let upload = upload.map(|pin| upload_queue::entry_of(key, digest, pin));
        let new_row = IndexRow::new(meta.len, blob_cost + sidecar_cost, self.updates.now(), keys);
        let indexed = published.and_then(|()| {
            // Not before: the row of unlinked files must not look like one of stored files when the admission fails.
            self.blobs.mark_linked(&digest);
            self.index.write(|txn| {
                upload.iter().try_for_each(|upload| index::put_upload(txn, upload))?;
                index::put_blob(txn, &digest, &new_row, Some(key))
            })
        });
        let replaced = match indexed {
            Ok(replaced) => replaced,
            Err(error) => {
                if renamed > 0 {
                    self.undo(Undo { digest: &digest, old_row: old_row.as_ref(), reader });
                }
                return Err(error);
            }
        };
        after_step(AdmissionStep::Indexed);
        self.blobs.record_kept(&digest, &new_row);
        upload.iter().for_each(|upload| self.uploads.protect(upload, new_row.cost));

        if let Some(row) = &old_row {
            let freed = if keeps_old_blob { row.cost - allocated_bytes(row.len) } else { row.cost };
            release_on_close(reader, self.budget.release(StoredKind::Blob, freed));
        }
        let reservation = if keeps_old_blob { sidecar_reservation } else { file.with_reservation(Option::take) };
        reservation.into_iter().for_each(|reservation| reservation.commit(StoredKind::Blob));
        let old_keys = replaced.row.iter().flat_map(|old| &old.keys);
        self.metas.invalidate(old_keys.chain(&new_row.keys).map(|indexed| &indexed.key));
        self.metas.cache_admitted(key, Arc::clone(&meta));
        self.blobs.mark_admitted(&digest, old_row.is_none(), (!keeps_old_blob).then_some(&file));
        drop(lock);
        if let Some(old_blob) = replaced.moved_from {
            self.keys.detach(&old_blob, key)?;
        }
        // Held until the key has left its old blob: a concurrent keep mark would rewrite that sidecar with the key.
        drop(marks);
        let file = if keeps_old_blob { self.blobs.open(&digest)?.unwrap_or(file) } else { file };
        let usage = file.usage().cloned();
        Ok(Object { meta, content: ObjectContent::Disk(file), tier: DISK_TIER, usage })
    }

    /// The blob's sidecar with `key` added. The keep mark belongs to the key: it outlives damage and moves to a new
    /// packing. The caller holds the digest's lock and the marks.
    fn sidecar_with(&self, key: &Key, meta: &Meta, old_row: Option<&IndexRow>) -> io::Result<Sidecar> {
        let mut sidecar = Sidecar::default();
        if let Some(row) = old_row {
            sidecar = Sidecar::read(&self.layout.sidecar(&meta.digest)).unwrap_or_default();
            sidecar.retain(|key| row.contains_key(key));
        }
        let kept = self.index.read(|txn| index::is_kept_key(txn, key))?;
        sidecar.put(key, meta.clone(), kept);
        Ok(sidecar)
    }

    /// Removes the files that a failed admission has renamed: the old row no longer describes them. The caller holds the
    /// digest's lock.
    fn undo(&self, Undo { digest, old_row, reader }: Undo<'_>) {
        for path in [self.layout.blob(digest), self.layout.sidecar(digest)] {
            if let Err(cause) = stage::remove_file(&path) {
                self.skipped.record(&path, &cause);
                self.index.require_rescan();
            }
        }
        if let Some(row) = old_row {
            self.blobs.mark_unlinked(digest);
            let reader = reader.or_else(|| self.blobs.retire_file(digest));
            release_on_close(reader, self.budget.release(StoredKind::Blob, row.cost));
        } else {
            // The failed write may have left a row all the same.
            self.blobs.mark_not_admitted(digest);
        }
        // The next eviction removes rows that stay behind.
        let _ = self.blobs.purge_unlinked_rows();
    }
}
