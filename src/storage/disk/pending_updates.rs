//! Updates that are in memory and not yet in the index: usage, and renewed document metadata. A hit writes nothing to
//! disk; the next flush writes these.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    entry::{Digest, DocumentMeta},
    storage::usage::{PendingUsage, UsageCounters, wall_clock_micros},
};

/// Usage and renewals until the next flush, and the clock of the order of use.
#[derive(Debug, Default)]
pub(super) struct PendingUpdates {
    clock: AtomicU64,
    /// Microseconds by which the clock was ahead of the wall clock at start.
    clock_lead: AtomicU64,
    /// The usage counters of open and of recently used blobs. A holder of an `Arc` counts without this lock.
    blobs: Mutex<HashMap<Digest, Arc<UsageCounters>>>,
    documents: Mutex<PendingDocuments>,
}

#[derive(Clone, Debug, Default)]
struct PendingDocuments {
    usage: HashMap<Digest, PendingUsage>,
    renewals: HashMap<Digest, Arc<DocumentMeta>>,
}

/// A copy of all updates, for one flush.
#[derive(Debug, Default)]
pub(super) struct UpdateSnapshot {
    pub(super) blobs: HashMap<Digest, PendingUsage>,
    pub(super) documents: HashMap<Digest, PendingUsage>,
    pub(super) renewals: HashMap<Digest, Arc<DocumentMeta>>,
}

impl UpdateSnapshot {
    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.documents.is_empty() && self.renewals.is_empty()
    }
}

impl PendingUpdates {
    /// Makes the clock continue after `last_use`.
    pub(super) fn resume_clock(&self, last_use: u64) {
        self.clock.fetch_max(last_use, Ordering::SeqCst);
        self.clock_lead.store(last_use.saturating_sub(wall_clock_micros()), Ordering::SeqCst);
    }

    /// The next time of the clock: microseconds since 1970, strictly increasing.
    pub(super) fn now(&self) -> u64 {
        let wall = wall_clock_micros();
        let next = |last: u64| Some(wall.max(last + 1));
        self.clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).map_or(wall, |last| wall.max(last + 1))
    }

    /// The usage counters of a blob.
    pub(super) fn counters(&self, digest: &Digest) -> Arc<UsageCounters> {
        let new = || Arc::new(UsageCounters::new(self.clock_lead.load(Ordering::SeqCst)));
        self.blobs.lock().entry(*digest).or_insert_with(new).clone()
    }

    /// True if a blob was used since the last flush.
    pub(super) fn is_used(&self, digest: &Digest) -> bool {
        self.blobs.lock().get(digest).is_some_and(|usage| usage.pending().is_some())
    }

    /// Drops the usage of a removed blob.
    pub(super) fn forget_blob(&self, digest: &Digest) {
        self.blobs.lock().remove(digest);
    }

    /// The pending usage of blobs. Drops counters that are empty and not held elsewhere.
    pub(super) fn blob_usage(&self) -> HashMap<Digest, PendingUsage> {
        let mut pending = HashMap::new();
        self.blobs.lock().retain(|digest, usage| match usage.pending() {
            Some(usage) => pending.insert(*digest, usage).is_none(),
            // The count cannot rise while the lock is held.
            None => Arc::strong_count(usage) > 1,
        });
        pending
    }

    /// Records a use of a document.
    pub(super) fn record_document_use(&self, id: Digest) {
        let usage = PendingUsage { last_use: self.now(), ..PendingUsage::default() };
        self.documents.lock().usage.insert(id, usage);
    }

    /// Records renewed metadata of a document; returns the number of pending renewals.
    pub(super) fn put_renewal(&self, id: Digest, meta: Arc<DocumentMeta>) -> usize {
        let mut documents = self.documents.lock();
        documents.renewals.insert(id, meta);
        documents.renewals.len()
    }

    /// The pending renewal of a document.
    pub(super) fn renewal(&self, id: &Digest) -> Option<Arc<DocumentMeta>> {
        self.documents.lock().renewals.get(id).cloned()
    }

    /// Drops the renewal of a document that was replaced.
    pub(super) fn forget_renewal(&self, id: &Digest) {
        self.documents.lock().renewals.remove(id);
    }

    /// Drops all updates of a removed document.
    pub(super) fn forget_document(&self, id: &Digest) {
        let mut documents = self.documents.lock();
        documents.renewals.remove(id);
        documents.usage.remove(id);
    }

    /// A copy of all updates. They stay pending and visible until [`PendingUpdates::mark_flushed`].
    pub(super) fn snapshot(&self) -> UpdateSnapshot {
        let blobs = self.blob_usage();
        let PendingDocuments { usage, renewals } = self.documents.lock().clone();
        UpdateSnapshot { blobs, documents: usage, renewals }
    }

    /// Removes flushed updates; later ones stay pending.
    pub(super) fn mark_flushed(&self, flushed: &UpdateSnapshot) {
        {
            let blobs = self.blobs.lock();
            for (digest, usage) in &flushed.blobs {
                // Counters of a blob that was removed and stored again never contained this usage.
                if let Some(counters) = blobs.get(digest) {
                    counters.mark_flushed(usage);
                }
            }
        }
        let mut documents = self.documents.lock();
        documents.usage.retain(|id, usage| flushed.documents.get(id) != Some(usage));
        let renewals = mem::take(&mut documents.renewals).into_iter();
        documents.renewals = renewals.filter(|(id, meta)| flushed.renewals.get(id) != Some(meta)).collect();
    }
}
