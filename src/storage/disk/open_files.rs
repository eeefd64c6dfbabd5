//! The blobs that are open: concurrent readers share one file, and eviction knows what is being read.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::blob::BlobFile;
use crate::{entry::Digest, storage::UsageCounters};

/// How many files nobody reads are kept open, so that a hit need not open its file again.
const IDLE: usize = 128;

/// The list of open blobs.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<Digest, Weak<BlobFile>>,
    /// The files opened last, oldest first.
    idle: VecDeque<(Digest, Arc<BlobFile>)>,
}

impl OpenFiles {
    /// The open file of a blob, if it is open.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<BlobFile>> {
        self.lock().open.get(digest).and_then(Weak::upgrade)
    }

    /// Adds a file; a later [`OpenFiles::retire`] takes it out. The caller holds the digest's stripe.
    pub(super) fn add(self: &Arc<Self>, digest: Digest, file: &Arc<BlobFile>, uses: Arc<UsageCounters>) {
        file.list(digest, Arc::downgrade(self), uses);
        let mut state = self.lock();
        state.open.insert(digest, Arc::downgrade(file));
        state.idle.push_back((digest, Arc::clone(file)));
        let surplus = if state.idle.len() > IDLE { state.idle.pop_front() } else { None };
        drop(state);
        // Closing a file takes the lock again.
        drop(surplus);
    }

    /// Adds a newly opened file.
    pub(super) fn open(self: &Arc<Self>, digest: Digest, file: File, uses: Arc<UsageCounters>) -> Arc<BlobFile> {
        let file = Arc::new(BlobFile::new(file, None));
        self.add(digest, &file, uses);
        file
    }

    /// Takes a file out and returns it if somebody is reading it. From here on nobody finds it any more.
    pub(super) fn retire(&self, digest: &Digest) -> Option<Arc<BlobFile>> {
        let mut state = self.lock();
        let at = state.idle.iter().position(|(idle, _)| idle == digest);
        let idle = at.and_then(|at| state.idle.remove(at));
        let file = state.open.remove(digest).and_then(|file| file.upgrade());
        drop(state);
        drop(idle);
        if let Some(file) = &file {
            file.retire();
        }
        file.filter(|file| Arc::strong_count(file) > 1)
    }

    /// True when somebody holds the blob open for reading.
    pub(super) fn is_read(&self, digest: &Digest) -> bool {
        let state = self.lock();
        let idle = state.idle.iter().filter(|(idle, _)| idle == digest).count();
        state.open.get(digest).is_some_and(|file| file.strong_count() > idle)
    }

    /// Forgets a file whose last reader is gone, unless it is open again.
    pub(super) fn sweep(&self, digest: &Digest) {
        let mut state = self.lock();
        if state.open.get(digest).is_some_and(|file| file.strong_count() == 0) {
            state.open.remove(digest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
