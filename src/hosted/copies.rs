//! The zips of the primary store that a mirror has copies of in its directory: they count against its limits, and the least
//! recently used ones make room for others.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::{durable_files::DurableFiles, layout::HostedLayout};
use crate::entry::Digest;

/// The copies in one directory.
#[derive(Debug)]
pub(super) struct ZipCopies {
    layout: Arc<HostedLayout>,
    files: Arc<DurableFiles>,
    state: Mutex<CopyState>,
    removals: RemovalListener,
}

/// Called with the digest of every zip that was removed.
#[derive(Default)]
struct RemovalListener(OnceLock<Listener>);

type Listener = Box<dyn Fn(&Digest) + Send + Sync>;

impl fmt::Debug for RemovalListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemovalListener").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct CopyState {
    zips: HashMap<Digest, ZipCopy>,
    bytes: u64,
    /// Grows with every use.
    uses: u64,
}

#[derive(Clone, Copy, Debug)]
struct ZipCopy {
    len: u64,
    last_use: u64,
    /// True once the primary store is known to have it.
    is_removable: bool,
}

impl ZipCopies {
    /// Finds the zips in a directory; those that were written first count as used first. Blocks.
    ///
    /// # Errors
    /// When the file system fails.
    pub(super) fn open(layout: &Arc<HostedLayout>, files: &Arc<DurableFiles>) -> io::Result<Self> {
        let mut found = Vec::new();
        layout.each_blob(|digest, path| {
            let stat = path.metadata()?;
            found.push((stat.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, stat.len()));
            Ok(())
        })?;
        found.sort_unstable();
        let copies = Self {
            layout: layout.clone(),
            files: files.clone(),
            state: Mutex::default(),
            removals: RemovalListener::default(),
        };
        found.into_iter().for_each(|(_, digest, len)| copies.add(&digest, len));
        Ok(copies)
    }

    /// Counts a zip that has its name among the blobs.
    pub(super) fn add(&self, digest: &Digest, len: u64) {
        let mut state = self.state.lock();
        state.uses += 1;
        let copy = ZipCopy { len, last_use: state.uses, is_removable: false };
        state.bytes += len;
        if let Some(before) = state.zips.insert(*digest, copy) {
            state.bytes -= before.len;
        }
    }

    /// Records a use.
    pub(super) fn note_use(&self, digest: &Digest) {
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        if let Some(copy) = state.zips.get_mut(digest) {
            copy.last_use = uses;
        }
    }

    /// Records that the primary store has a zip.
    pub(super) fn set_removable(&self, digest: &Digest) {
        if let Some(copy) = self.state.lock().zips.get_mut(digest) {
            copy.is_removable = true;
        }
    }

    /// True for a zip that the primary store has.
    pub(super) fn is_removable(&self, digest: &Digest) -> bool {
        self.state.lock().zips.get(digest).is_some_and(|copy| copy.is_removable)
    }

    /// Removes a zip. Readers keep the file open.
    ///
    /// # Errors
    /// When the file system fails; the zip still counts then.
    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.files.remove(&self.layout.blob(digest))?;
        let mut state = self.state.lock();
        if let Some(copy) = state.zips.remove(digest) {
            state.bytes -= copy.len;
        }
        drop(state);
        self.removals.0.get().into_iter().for_each(|listener| listener(digest));
        Ok(())
    }

    /// Calls `listener` with the digest of every zip that is removed: its bytes are free when the last handle on its
    /// file is closed. Only the first call sets a listener.
    pub(super) fn on_removal(&self, listener: impl Fn(&Digest) + Send + Sync + 'static) {
        let _ = self.removals.0.set(Box::new(listener));
    }

    /// Removes zips that the primary store has, the least recently used first, until this many bytes are free.
    pub(super) fn make_room(&self, bytes: u64) {
        let mut freed: u64 = 0;
        while freed < bytes {
            let oldest = {
                let state = self.state.lock();
                let removable = state.zips.iter().filter(|(_, copy)| copy.is_removable);
                removable.min_by_key(|(_, copy)| copy.last_use).map(|(digest, copy)| (*digest, copy.len))
            };
            let Some((digest, len)) = oldest else { return };
            if self.remove(&digest).is_err() {
                return;
            }
            tracing::debug!(%digest, len, "the copy of a zip makes room for others");
            freed = freed.saturating_add(len);
        }
    }

    /// Bytes of all zips.
    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }
}
