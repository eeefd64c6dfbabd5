//! The open blob files: concurrent readers share one file, and eviction sees which blobs are being read.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::blob::{BlobFile, CloseListener};
use crate::{entry::Digest, storage::UsageCounters};

/// Number of files without readers that stay open, so that a hit need not open them again.
const MAX_IDLE_FILES: usize = 128;

/// The table of open blob files.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    state: Mutex<OpenFileTable>,
}

#[derive(Debug, Default)]
struct OpenFileTable {
    open: HashMap<Digest, Weak<BlobFile>>,
    /// The files used last, least recently used first.
    idle: VecDeque<(Digest, Arc<BlobFile>)>,
}

impl OpenFiles {
    /// The open file of a blob, if it is open; it is the one used last then.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<BlobFile>> {
        let mut state = self.state.lock();
        let file = state.open.get(digest).and_then(Weak::upgrade)?;
        if state.idle.back().is_none_or(|(last, _)| last != digest) {
            // At most `MAX_IDLE_FILES` digests are compared.
            let at = state.idle.iter().position(|(idle, _)| idle == digest);
            let entry = at.and_then(|at| state.idle.remove(at)).unwrap_or_else(|| (*digest, Arc::clone(&file)));
            state.idle.push_back(entry);
        }
        let surplus = if state.idle.len() > MAX_IDLE_FILES { state.idle.pop_front() } else { None };
        drop(state);
        // After unlocking: closing a file takes the lock again.
        drop(surplus);
        Some(file)
    }

    /// Adds a file; [`OpenFiles::retire`] removes it. The caller holds the digest's lock.
    pub(super) fn add(self: &Arc<Self>, digest: Digest, file: &Arc<BlobFile>, usage: Arc<UsageCounters>) {
        let this: Weak<Self> = Arc::downgrade(self);
        file.register(digest, this, usage);
        let mut state = self.state.lock();
        state.open.insert(digest, Arc::downgrade(file));
        state.idle.push_back((digest, Arc::clone(file)));
        let surplus = if state.idle.len() > MAX_IDLE_FILES { state.idle.pop_front() } else { None };
        drop(state);
        // After unlocking: closing a file takes the lock again.
        drop(surplus);
    }

    /// Adds a newly opened file.
    pub(super) fn add_opened(self: &Arc<Self>, digest: Digest, file: File, usage: Arc<UsageCounters>) -> Arc<BlobFile> {
        let file = Arc::new(BlobFile::new(file, None));
        self.add(digest, &file, usage);
        file
    }

    /// Removes a file, so that no lookup returns it any more; returns the file if it is being read.
    pub(super) fn retire(&self, digest: &Digest) -> Option<Arc<BlobFile>> {
        let mut state = self.state.lock();
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

    /// Bytes on disk of the files that have readers.
    pub(super) fn read_bytes(&self) -> u64 {
        let state = self.state.lock();
        let mut idle = HashMap::<&Digest, usize>::new();
        state.idle.iter().for_each(|(digest, _)| *idle.entry(digest).or_default() += 1);
        let is_read = |digest: &Digest, file: &Weak<BlobFile>| {
            file.strong_count() > idle.get(digest).copied().unwrap_or_default()
        };
        let read = state.open.iter().filter(|(digest, file)| is_read(digest, file));
        let read: Vec<_> = read.filter_map(|(_, file)| file.upgrade()).collect();
        // Before the files: closing one takes the lock again.
        drop(idle);
        drop(state);
        read.iter().map(|file| file.allocated_bytes()).sum()
    }

    /// True if a blob's file has readers.
    pub(super) fn is_read(&self, digest: &Digest) -> bool {
        let state = self.state.lock();
        let idle = state.idle.iter().filter(|(idle, _)| idle == digest).count();
        state.open.get(digest).is_some_and(|file| file.strong_count() > idle)
    }
}

impl CloseListener for OpenFiles {
    /// Removes the entry of a closed file, unless the blob is open again.
    fn file_closed(&self, digest: &Digest) {
        let mut state = self.state.lock();
        if state.open.get(digest).is_some_and(|file| file.strong_count() == 0) {
            state.open.remove(digest);
        }
    }
}
