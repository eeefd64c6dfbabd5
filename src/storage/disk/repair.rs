//! Integrity of blobs: hashes them and quarantines the damaged ones.

use std::{fs, io, sync::Arc};

use tracing::warn;

use super::{
    blob::BlobFile,
    blob_keys::{BlobKeys, RowRepair},
    blobs::Blobs,
    budget::{Budget, StoredKind, allocated_bytes},
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

/// The result of checking a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobCheck {
    /// The blob is intact, or no longer stored.
    Intact,
    /// The blob was damaged and is quarantined.
    Quarantined,
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
    /// lock: an admission of the same bytes may have repaired the blob.
    pub(super) fn quarantine(
        &self,
        digest: &Digest,
        reason: &str,
        still_damaged: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        let _lock = self.blobs.lock(digest);
        let Some(row) = self.blobs.row(digest)? else { return Ok(()) };
        if !still_damaged() {
            return Ok(());
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
        Ok(())
    }

    /// As [`Repair::quarantine`], for a blob that was found damaged through `file`.
    pub(super) fn quarantine_file(&self, digest: &Digest, reason: &str, file: &Arc<BlobFile>) -> io::Result<()> {
        self.quarantine(digest, reason, || self.blobs.opened(digest).is_some_and(|open| Arc::ptr_eq(&open, file)))
    }

    /// As [`Repair::quarantine`], for a blob whose file is missing: removes its row.
    pub(super) fn quarantine_missing(&self, digest: &Digest) -> io::Result<()> {
        let path = self.layout.blob(digest);
        self.quarantine(digest, "its file is missing", || !path.exists())
    }

    /// As [`Repair::quarantine`], for a blob whose sidecar cannot be read.
    pub(super) fn quarantine_without_sidecar(&self, digest: &Digest) -> io::Result<()> {
        let path = self.layout.sidecar(digest);
        let is_damaged = || Sidecar::read(&path).is_err_and(|error| is_damage(&error));
        self.quarantine(digest, "its sidecar is missing or damaged", is_damaged)
    }

    /// Hashes one blob and quarantines it if it is damaged.
    pub(super) fn check(&self, digest: &Digest) -> io::Result<BlobCheck> {
        let Some(row) = self.blobs.row(digest)? else { return Ok(BlobCheck::Intact) };
        if !self.keys.row_agrees(digest, &row) && self.keys.repair_row(digest)? == RowRepair::DamagedSidecar {
            // The sidecar was read without the blob's lock: an admission may have repaired it.
            let is_damaged = || matches!(self.keys.row_from_sidecar(digest), Ok(None));
            self.quarantine(digest, "its sidecar is missing or damaged", is_damaged)?;
            return Ok(BlobCheck::Quarantined);
        }
        let path = self.layout.blob(digest);
        let reason = match quiet_read::hash(&path) {
            Ok(found) if found.digest == *digest => {
                self.blobs.mark_verified(digest);
                return Ok(BlobCheck::Intact);
            }
            Ok(found) if found.len != row.len => "its length is wrong",
            Ok(_) => "its bytes do not match its digest",
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.quarantine_missing(digest)?;
                return Ok(BlobCheck::Quarantined);
            }
            // Its bytes may be as they were: only content that differs is damage.
            Err(error) => return Err(error),
        };
        // Read again under the blob's lock: an admission may have repaired it.
        let is_damaged = || quiet_read::hash(&path).is_ok_and(|found| found.digest != *digest);
        self.quarantine(digest, reason, is_damaged)?;
        Ok(BlobCheck::Quarantined)
    }
}
