//! What has happened since the index was last written: uses, and renewed documents. A hit writes nothing to disk.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use super::store::lock;
use crate::{
    entry::{Digest, DocumentMeta},
    storage::usage::{PendingUsage, UsageCounters, wall},
};

/// Uses and renewals that wait for the next flush.
#[derive(Debug, Default)]
pub(super) struct PendingUpdates {
    clock: AtomicU64,
    /// How far the clock is ahead of the wall clock since the start.
    ahead: AtomicU64,
    /// Where the uses of open and of hot blobs are noted. Who has one notes a use without asking here.
    uses: Mutex<HashMap<Digest, Arc<UsageCounters>>>,
    waiting: Mutex<Pending>,
}

/// What waits of documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) documents: HashMap<Digest, PendingUsage>,
    pub(super) renewals: HashMap<Digest, Arc<DocumentMeta>>,
}

/// A copy of all that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) blobs: HashMap<Digest, PendingUsage>,
    pub(super) documents: HashMap<Digest, PendingUsage>,
    pub(super) renewals: HashMap<Digest, Arc<DocumentMeta>>,
}

impl PendingUpdates {
    /// Lets the clock go on after `last`.
    pub(super) fn resume(&self, last: u64) {
        self.clock.fetch_max(last, Ordering::SeqCst);
        self.ahead.store(last.saturating_sub(wall()), Ordering::SeqCst);
    }

    /// The next moment: microseconds since 1970, but never the same twice and never going back.
    pub(super) fn now(&self) -> u64 {
        let wall = wall();
        let next = |last: u64| Some(wall.max(last + 1));
        self.clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).map_or(wall, |last| wall.max(last + 1))
    }

    /// Where the uses of a blob are noted.
    pub(super) fn of(&self, digest: &Digest) -> Arc<UsageCounters> {
        let new = || Arc::new(UsageCounters::new(self.ahead.load(Ordering::SeqCst)));
        lock(&self.uses).entry(*digest).or_insert_with(new).clone()
    }

    /// True when a blob was used since the index was last written.
    pub(super) fn is_used(&self, digest: &Digest) -> bool {
        lock(&self.uses).get(digest).is_some_and(|uses| uses.noted().is_some())
    }

    /// Forgets the uses of a blob that is gone.
    pub(super) fn forget(&self, digest: &Digest) {
        lock(&self.uses).remove(digest);
    }

    /// The uses of blobs that wait. What waits for nothing and is open nowhere is forgotten.
    pub(super) fn noted(&self) -> HashMap<Digest, PendingUsage> {
        let mut noted = HashMap::new();
        lock(&self.uses).retain(|digest, uses| match uses.noted() {
            Some(waits) => noted.insert(*digest, waits).is_none(),
            // Nobody else can come by it while the lock is held.
            None => Arc::strong_count(uses) > 1,
        });
        noted
    }

    pub(super) fn use_document(&self, id: Digest) {
        let now = PendingUsage { last: self.now(), ..PendingUsage::default() };
        self.lock().documents.insert(id, now);
    }

    /// Works on what waits of documents.
    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        lock(&self.waiting)
    }

    /// A copy of what waits; it goes on waiting, and stays visible, until [`PendingUpdates::written`].
    pub(super) fn waiting(&self) -> Waiting {
        let blobs = self.noted();
        let Pending { documents, renewals } = self.lock().clone();
        Waiting { blobs, documents, renewals }
    }

    /// Takes away what was written, unless something newer has come since.
    pub(super) fn written(&self, done: &Waiting) {
        {
            let uses = lock(&self.uses);
            for (digest, noted) in &done.blobs {
                // One that has gone and come again has counted nothing of this.
                if let Some(uses) = uses.get(digest) {
                    uses.written(noted);
                }
            }
        }
        let mut waiting = self.lock();
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
