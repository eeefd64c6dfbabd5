//! Lookups: from a key to a verified, open blob.

use std::{io, sync::Arc};

use super::{
    DISK_TIER,
    blob::BlobFile,
    blob_metas::{BlobMetas, MetaLookup},
    blobs::Blobs,
    repair::Repair,
};
use crate::{
    blocking::run_blocking_io,
    entry::{Digest, Key, Meta},
    storage::{Object, ObjectContent},
};

/// Looks up archives. A damaged blob is quarantined and reported as absent.
pub(super) struct Lookup {
    metas: Arc<BlobMetas>,
    blobs: Arc<Blobs>,
    repair: Arc<Repair>,
}

impl Lookup {
    pub(super) fn new(metas: Arc<BlobMetas>, blobs: Arc<Blobs>, repair: Arc<Repair>) -> Self {
        Self { metas, blobs, repair }
    }

    /// The archive of a key. Does not block if the metadata is cached and the blob is open and verified.
    ///
    /// # Errors
    /// When the disk fails. Nothing is quarantined then: the bytes may be as they were.
    pub(super) async fn get(self: &Arc<Self>, key: &Key) -> io::Result<Option<Object>> {
        let meta = match self.metas.cached(key) {
            Some(meta) => meta,
            None => {
                let this = Arc::clone(self);
                let key = key.clone();
                let Some(meta) = run_blocking_io(move || this.meta(&key)).await? else { return Ok(None) };
                meta
            }
        };
        let digest = meta.digest;
        let file = match self.blobs.opened(&digest) {
            Some(file) => file,
            None => {
                let this = Arc::clone(self);
                let Some(file) = run_blocking_io(move || this.open(&digest)).await? else { return Ok(None) };
                file
            }
        };
        let was_verified = file.is_verified();
        let reason = if !file.is_linked_with_len(meta.len) {
            "its length is wrong"
        } else if !file.verify(digest).await? {
            "its bytes do not match its digest"
        } else {
            if !was_verified {
                self.blobs.mark_verified(&digest);
            }
            let usage = file.usage().cloned();
            return Ok(Some(Object { meta, content: ObjectContent::Disk(file), tier: DISK_TIER, usage }));
        };
        let repair = Arc::clone(&self.repair);
        run_blocking_io(move || repair.quarantine_file(&digest, reason, &file)).await?;
        Ok(None)
    }

    /// The metadata of a key. Blocks.
    pub(super) fn meta(&self, key: &Key) -> io::Result<Option<Arc<Meta>>> {
        match self.metas.read(key)? {
            MetaLookup::Found(meta) => Ok(Some(meta)),
            MetaLookup::Absent => Ok(None),
            MetaLookup::DamagedSidecar(digest) => {
                self.repair.quarantine_without_sidecar(&digest)?;
                Ok(None)
            }
        }
    }

    /// Opens a blob; `None` if its file is missing. Blocks.
    fn open(&self, digest: &Digest) -> io::Result<Option<Arc<BlobFile>>> {
        let file = self.blobs.open(digest)?;
        if file.is_none() {
            self.repair.quarantine_missing(digest)?;
        }
        Ok(file)
    }
}
