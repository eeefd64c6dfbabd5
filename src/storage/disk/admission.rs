//! Admission: a spool becomes a blob. A kill between any two steps leaves either nothing or the whole object.

use std::{io, sync::Arc};

use super::{
    DISK_TIER,
    blob::{BlobFile, release_on_close},
    blob_keys::BlobKeys,
    blob_metas::BlobMetas,
    blobs::Blobs,
    budget::{Budget, Reservation, StoredKind, allocated_bytes},
    health::{DiskArea, DiskHealth},
    index::{self, Index, IndexRow, PinState, QueuedUpload, ReplacedBlob},
    layout::Layout,
    pending_updates::PendingUpdates,
    sidecar::Sidecar,
    skipped::SkippedFiles,
    space::Space,
    spool::Spool,
    stage::{self, StagedFile},
    upload_queue::UploadQueue,
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

/// Which file a blob has after an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdmittedBytes {
    /// That of an earlier admission of the same bytes, which is verified.
    Earlier,
    /// The spool. It replaces an earlier file that is not verified.
    Spooled,
}

/// The sidecar of an admission, durable in the spool folder, and what the admission is to change.
struct StagedSidecar {
    sidecar: StagedFile,
    /// The bytes of the sidecar; `None` where the spool's reservation has them.
    reservation: Option<Reservation>,
    bytes: AdmittedBytes,
    /// The row of the blob before the admission.
    old_row: Option<IndexRow>,
    /// The row of the blob after the admission.
    row: IndexRow,
}

/// What renaming the files of an admission did.
struct NamedFiles {
    outcome: io::Result<()>,
    /// Number of files that have their final names.
    renamed: usize,
    /// The retired file of the blob, if it is being read.
    reader: Option<Arc<BlobFile>>,
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
        let StagedSidecar { sidecar, reservation, bytes, old_row, row } = self.stage_sidecar(key, &meta, &file)?;
        after_step(AdmissionStep::SidecarSynced);
        let NamedFiles { outcome, renamed, reader } = self.name_files(&digest, bytes, blob, sidecar, &mut after_step);
        let upload = upload.map(|pin| QueuedUpload { key: key.clone(), digest, pin });
        let replaced = match outcome.and_then(|()| self.write_row(key, &digest, &row, upload.as_ref())) {
            Ok(replaced) => replaced,
            Err(error) => {
                if renamed > 0 {
                    self.undo(Undo { digest: &digest, old_row: old_row.as_ref(), reader });
                }
                return Err(error);
            }
        };
        after_step(AdmissionStep::Indexed);
        self.blobs.record_kept(&digest, &row);
        upload.iter().for_each(|upload| self.uploads.protect(upload, row.cost));
        if let Some(old) = &old_row {
            let freed = match bytes {
                AdmittedBytes::Earlier => old.cost - allocated_bytes(old.len),
                AdmittedBytes::Spooled => old.cost,
            };
            release_on_close(reader, self.budget.release(StoredKind::Blob, freed));
        }
        let reservation = match bytes {
            AdmittedBytes::Earlier => reservation,
            AdmittedBytes::Spooled => file.with_reservation(Option::take),
        };
        reservation.into_iter().for_each(|reservation| reservation.commit(StoredKind::Blob));
        let old_keys = replaced.row.iter().flat_map(|old| &old.keys);
        self.metas.invalidate(old_keys.chain(&row.keys).map(|indexed| &indexed.key));
        self.metas.cache_admitted(key, Arc::clone(&meta));
        self.blobs.mark_admitted(&digest, old_row.is_none(), (bytes == AdmittedBytes::Spooled).then_some(&file));
        drop(lock);
        if let Some(old_blob) = replaced.moved_from {
            self.keys.detach(&old_blob, key)?;
        }
        // Held until the key has left its old blob: a concurrent keep mark would rewrite that sidecar with the key.
        drop(marks);
        let file = match bytes {
            AdmittedBytes::Earlier => self.blobs.open(&digest)?.unwrap_or(file),
            AdmittedBytes::Spooled => file,
        };
        let usage = file.usage().cloned();
        Ok(Object { meta, content: ObjectContent::Disk(file), tier: DISK_TIER, usage })
    }

    /// Writes the sidecar in the spool folder and reserves what the admission adds to the disk: the sidecar, or both files
    /// in the reservation of `file`, the spool's. The caller holds the digest's lock and the marks.
    fn stage_sidecar(&self, key: &Key, meta: &Meta, file: &BlobFile) -> io::Result<StagedSidecar> {
        let digest = meta.digest;
        let old_row = self.blobs.row(&digest)?;
        let sidecar = self.sidecar_with(key, meta, old_row.as_ref())?;
        let text = sidecar.to_bytes()?;
        let sidecar_cost = allocated_bytes(text.len() as u64);
        let cost = allocated_bytes(meta.len) + sidecar_cost;
        let is_stored = old_row.is_some() && self.blobs.is_verified_with_len(&digest, meta.len);
        let bytes = if is_stored { AdmittedBytes::Earlier } else { AdmittedBytes::Spooled };
        let reservation = match bytes {
            AdmittedBytes::Earlier => Some(self.space.reserve(sidecar_cost)?),
            AdmittedBytes::Spooled => {
                file.with_reservation(|held| held.as_mut().map_or(Ok(()), |held| self.space.resize(held, cost)))?;
                None
            }
        };
        let staged = StagedFile::write(self.layout.next_staging_path(), &[&text])?;
        let row = IndexRow::new(meta.len, cost, self.updates.now(), sidecar.indexed_keys());
        Ok(StagedSidecar { sidecar: staged, reservation, bytes, old_row, row })
    }

    /// Gives the staged files their final names. The caller holds the digest's lock.
    fn name_files(
        &self,
        digest: &Digest,
        bytes: AdmittedBytes,
        blob: StagedFile,
        sidecar: StagedFile,
        after_step: &mut impl FnMut(AdmissionStep),
    ) -> NamedFiles {
        let mut files = vec![(sidecar, self.layout.sidecar(digest))];
        let mut steps = vec![AdmissionStep::SidecarNamed];
        let mut reader = None;
        match bytes {
            // Removes the spool. It may have readers: its bytes count until they close it.
            AdmittedBytes::Earlier => drop(blob),
            AdmittedBytes::Spooled => {
                reader = self.blobs.retire_file(digest);
                files.insert(0, (blob, self.layout.blob(digest)));
                steps.insert(0, AdmissionStep::BlobNamed);
            }
        }
        let mut renamed = 0;
        let outcome = stage::publish(&self.layout.shard(digest.0[0]), files, |count| {
            renamed = count;
            after_step(steps[count - 1]);
        });
        if outcome.is_ok() {
            after_step(AdmissionStep::FolderSynced);
        }
        NamedFiles { outcome, renamed, reader }
    }

    /// Writes the row of a blob whose files have their final names, and its entry in the queue of uploads.
    fn write_row(
        &self,
        key: &Key,
        digest: &Digest,
        row: &IndexRow,
        upload: Option<&QueuedUpload>,
    ) -> io::Result<ReplacedBlob> {
        // Not before: the row of unlinked files must not look like one of stored files when the admission fails.
        self.blobs.mark_linked(digest);
        self.index.write(|txn| {
            upload.into_iter().try_for_each(|upload| index::put_upload(txn, upload))?;
            index::put_blob(txn, digest, row, Some(key))
        })
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
