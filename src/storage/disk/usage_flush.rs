//! The flush: writes pending usage and renewed document metadata to the index.

use std::{io, sync::Arc};

use parking_lot::Mutex;

use super::{
    health::{DiskArea, DiskHealth},
    index::{self, BLOBS, DOCUMENTS, Index},
    pending_updates::PendingUpdates,
};

/// Writes pending updates to the index.
pub(super) struct UsageFlush {
    index: Arc<Index>,
    updates: Arc<PendingUpdates>,
    health: Arc<DiskHealth>,
    /// Held while flushing: two concurrent flushes would count the same usage twice.
    flushing: Mutex<()>,
}

impl UsageFlush {
    pub(super) fn new(index: Arc<Index>, updates: Arc<PendingUpdates>, health: Arc<DiskHealth>) -> Self {
        Self { index, updates, health, flushing: Mutex::default() }
    }

    /// Writes all pending updates. Blocks.
    pub(super) fn run(&self) -> io::Result<()> {
        let _flushing = self.flushing.lock();
        let pending = self.updates.snapshot();
        if pending.is_empty() {
            return Ok(());
        }
        let renewals = pending.renewals.iter().map(|(id, meta)| Ok((*id, serde_json::to_vec(&**meta)?)));
        let renewals = renewals.collect::<io::Result<Vec<_>>>()?;
        let written = self.index.write(|txn| {
            BLOBS.apply_usage(txn, &pending.blobs)?;
            DOCUMENTS.apply_usage(txn, &pending.documents)?;
            for (id, meta) in &renewals {
                // A renewal of a document that was removed since would stay in the index for ever.
                if DOCUMENTS.get_in_write(txn, id)?.is_some() {
                    index::set_renewal(txn, id, Some(meta))?;
                }
            }
            Ok(())
        });
        if written.is_ok() {
            self.updates.mark_flushed(&pending);
        }
        self.health.record(&[DiskArea::Index], written)
    }
}
