//! Zips that a backup may still read: zips that no version keeps any more are removed when the last backup has ended.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::HostedStore;
use crate::entry::Digest;

/// The zips that are not removed at present.
#[derive(Debug, Default)]
pub(super) struct HeldZips(Mutex<HeldState>);

#[derive(Debug, Default)]
struct HeldState {
    holders: usize,
    /// Zips that no version keeps any more, and whose removal waits; with their lengths in bytes.
    unused: HashMap<Digest, u64>,
}

/// Keeps every zip of a store in its place until it is dropped. Dropping it blocks.
#[derive(Debug)]
pub(super) struct ZipHold(Arc<HostedStore>);

impl HeldZips {
    /// Returns the zips of `unused` that can be removed now; the others are removed later. A version keeps those of `used`
    /// again.
    pub(super) fn removable_now<'d>(
        &self,
        unused: Vec<(Digest, u64)>,
        used: impl Iterator<Item = &'d Digest>,
    ) -> Vec<Digest> {
        let mut state = self.0.lock();
        if state.holders == 0 {
            return unused.into_iter().map(|(digest, _)| digest).collect();
        }
        for digest in used {
            state.unused.remove(digest);
        }
        state.unused.extend(unused);
        Vec::new()
    }

    /// True for a zip that is to be removed later.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.0.lock().unused.contains_key(digest)
    }

    /// Bytes of the zips that are to be removed later.
    pub(super) fn bytes(&self) -> u64 {
        self.0.lock().unused.values().sum()
    }
}

impl ZipHold {
    /// Begins to hold the zips.
    pub(super) fn begin(store: &Arc<HostedStore>) -> Self {
        // A change under way has removed its zips by then, or holds them.
        let _changing = store.changing.lock();
        store.held.0.lock().holders += 1;
        Self(store.clone())
    }
}

impl Drop for ZipHold {
    fn drop(&mut self) {
        let store = &self.0;
        let _changing = store.changing.lock();
        let unused = {
            let mut state = store.held.0.lock();
            state.holders -= 1;
            if state.holders > 0 {
                return;
            }
            std::mem::take(&mut state.unused)
        };
        for digest in unused.keys() {
            // The next start removes one that stays.
            let _ = store.remove_zip(digest);
        }
        let copied = store.copies.as_ref().map(|copies| copies.bytes());
        store.space.set_stored(copied.unwrap_or_else(|| store.index.read().bytes()));
    }
}
