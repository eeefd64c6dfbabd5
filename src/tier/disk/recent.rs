//! What has happened since the index was last written: uses, and renewed documents. A hit writes nothing to disk.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;

use crate::entry::{Digest, DocumentMeta};

/// Uses and renewals that wait for the next flush.
#[derive(Debug, Default)]
pub(super) struct Recent {
    clock: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// What waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    pub(super) blobs: HashMap<Digest, u64>,
    pub(super) documents: HashMap<Digest, u64>,
    pub(super) renewals: HashMap<Digest, Arc<DocumentMeta>>,
}

impl Recent {
    /// Lets the clock go on after `last`.
    pub(super) fn resume(&self, last: u64) {
        self.clock.fetch_max(last, Ordering::SeqCst);
    }

    /// The next moment: microseconds since 1970, but never the same twice and never going back.
    pub(super) fn now(&self) -> u64 {
        let wall = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
        let next = |last: u64| Some(wall.max(last + 1));
        self.clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).map_or(wall, |last| wall.max(last + 1))
    }

    pub(super) fn use_blob(&self, digest: Digest) {
        let now = self.now();
        self.lock().blobs.insert(digest, now);
    }

    pub(super) fn use_document(&self, id: Digest) {
        let now = self.now();
        self.lock().documents.insert(id, now);
    }

    /// Works on what waits.
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of what waits; it goes on waiting, and stays visible, until [`Recent::written`].
    pub(super) fn waiting(&self) -> Waiting {
        self.lock().clone()
    }

    /// Takes away what was written, unless something newer has come since.
    pub(super) fn written(&self, done: &Waiting) {
        let mut waiting = self.lock();
        waiting.blobs.retain(|id, used| done.blobs.get(id) != Some(used));
        waiting.documents.retain(|id, used| done.documents.get(id) != Some(used));
        let kept = mem::take(&mut waiting.renewals).into_iter();
        waiting.renewals = kept.filter(|(id, meta)| done.renewals.get(id) != Some(meta)).collect();
    }
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.documents.is_empty() && self.renewals.is_empty()
    }
}
