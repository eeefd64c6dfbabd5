//! Integrity of blobs: hashes them and quarantines the damaged ones.

use std::{fs, io, sync::Arc};

use tracing::warn;

use super::{
    blob::BlobFile,
    blob_keys::{BlobKeys, RowRepair},
    blobs::Blobs,
    budget::{Budget, StoredKind, allocated_bytes},
    index::IndexRow,
    layout::Layout,
    quarantine::Quarantine,
    quiet_read,
    sidecar::Sidecar,
    skipped::is_damage,
    space::Space,
    stage,
};
use crate::entry::Digest;

/// Verifies and quarantines blobs. All methods block.
pub(super) struct Repair {
    layout: Arc<Layout>,
    budget: Arc<Budget>,
    blobs: Arc<Blobs>,
    keys: Arc<BlobKeys>,
    space: Arc<Space>,
    quarantine: Arc<Quarantine>,
}

/// What checking a stored blob or document finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is intact.
    Intact,
    /// It was damaged, or its file was missing. What there was of it is quarantined.
    Quarantined,
    /// It is no longer stored: it was evicted or removed.
    Gone,
}

impl Repair {
    pub(super) fn new(
        layout: Arc<Layout>,
        budget: Arc<Budget>,
        blobs: Arc<Blobs>,
        keys: Arc<BlobKeys>,
        space: Arc<Space>,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        Self { layout, budget, blobs, keys, space, quarantine }
    }

    /// Moves a damaged blob to the quarantine folder; readers keep its file. `still_damaged` is called under the blob's
    /// lock: an admission of the same bytes may have repaired the blob. [`Integrity::Gone`] when there is no such blob.
    ///
    /// # Errors
    /// The file system's error, or that of `still_damaged`.
    pub(super) fn quarantine(
        &self,
        digest: &Digest,
        reason: &str,
        still_damaged: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<Integrity> {
        let _lock = self.blobs.lock(digest);
        let Some(row) = self.blobs.row(digest)? else { return Ok(Integrity::Gone) };
        if !still_damaged()? {
            return Ok(Integrity::Intact);
        }
        warn!(%digest, keys = row.keys.len(), reason, "a damaged blob is quarantined");
        let reader = self.blobs.retire_file(digest);
        let path = self.layout.blob(digest);
        let len = fs::metadata(&path).map(|stat| stat.len());
        stage::remove_file(&self.layout.sidecar(digest))?;
        self.blobs.mark_unlinked(digest);
        let mut reservation = self.budget.release(StoredKind::Blob, row.cost);
        // A file that another program has unlinked takes its space until its last reader closes it.
        reservation.shrink(allocated_bytes(len.unwrap_or(row.len)));
        self.quarantine.take(&path, reservation, reader.as_ref())?;
        self.blobs.purge_unlinked_rows()?;
        self.space.resize_index_reservation();
        Ok(Integrity::Quarantined)
    }

    /// As [`Repair::quarantine`], for a blob that was found damaged through `file`.
    pub(super) fn quarantine_file(&self, digest: &Digest, reason: &str, file: &Arc<BlobFile>) -> io::Result<Integrity> {
        let is_same = || self.blobs.opened(digest).is_some_and(|open| Arc::ptr_eq(&open, file));
        self.quarantine(digest, reason, || Ok(is_same()))
    }

    /// As [`Repair::quarantine`], for a blob whose file is missing: removes its row.
    pub(super) fn quarantine_missing(&self, digest: &Digest) -> io::Result<Integrity> {
        let path = self.layout.blob(digest);
        self.quarantine(digest, "its file is missing", || path.try_exists().map(|exists| !exists))
    }

    /// As [`Repair::quarantine`], for a blob whose sidecar cannot be read.
    pub(super) fn quarantine_without_sidecar(&self, digest: &Digest) -> io::Result<Integrity> {
        let path = self.layout.sidecar(digest);
        let is_damaged = || Ok(Sidecar::read(&path).is_err_and(|error| is_damage(&error)));
        self.quarantine(digest, "its sidecar is missing or damaged", is_damaged)
    }

    /// Hashes one blob and quarantines it if it is damaged.
    ///
    /// # Errors
    /// When it cannot be read: its bytes may be as they were.
    pub(super) fn check(&self, digest: &Digest) -> io::Result<Integrity> {
        let Some(row) = self.blobs.row(digest)? else { return Ok(Integrity::Gone) };
        self.check_row(digest, &row)
    }

    /// As [`Repair::check`], for a blob that had this row a moment ago: it may be evicted while it is hashed.
    pub(super) fn check_row(&self, digest: &Digest, row: &IndexRow) -> io::Result<Integrity> {
        if !self.keys.row_agrees(digest, row) && self.keys.repair_row(digest)? == RowRepair::DamagedSidecar {
            // The sidecar was read without the blob's lock: an admission may have repaired it.
            let is_damaged = || self.keys.row_from_sidecar(digest).map(|row| row.is_none());
            return self.quarantine(digest, "its sidecar is missing or damaged", is_damaged);
        }
        let path = self.layout.blob(digest);
        let reason = match quiet_read::hash(&path) {
            Ok(found) if found.digest == *digest => return self.record_intact(digest),
            Ok(found) if found.len != row.len => "its length is wrong",
            Ok(_) => "its bytes do not match its digest",
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.quarantine_missing(digest),
            // Its bytes may be as they were: only content that differs is damage.
            Err(error) => return Err(error),
        };
        // Read again under the blob's lock: an admission may have repaired it.
        self.quarantine(digest, reason, || match quiet_read::hash(&path) {
            Ok(found) => Ok(found.digest != *digest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        })
    }

    /// Records that a blob was hashed and matched, if it is still stored.
    fn record_intact(&self, digest: &Digest) -> io::Result<Integrity> {
        let _lock = self.blobs.lock(digest);
        if self.blobs.row(digest)?.is_none() {
            return Ok(Integrity::Gone);
        }
        self.blobs.mark_verified(digest);
        Ok(Integrity::Intact)
    }
}
