//! Holds the zips of a store in their places while a backup reads them.

use std::sync::Arc;

use super::HostedStore;

/// Keeps every zip of a store in its place until it is dropped. Dropping it blocks.
#[derive(Debug)]
pub(super) struct ZipHold(Arc<HostedStore>);

impl ZipHold {
    /// Begins to hold the zips.
    pub(super) fn begin(store: &Arc<HostedStore>) -> Self {
        // A change under way has removed its zips by then, or holds them.
        let _changing = store.changing.lock();
        store.held.begin();
        Self(store.clone())
    }
}

impl Drop for ZipHold {
    fn drop(&mut self) {
        let store = &self.0;
        let _changing = store.changing.lock();
        for digest in store.held.end() {
            // The next start removes one that stays.
            let _ = store.remove_zip(&digest);
        }
        let stored = store.copies.as_ref().map(|copies| copies.bytes());
        let held = store.held.bytes();
        store.space.set_stored(stored.unwrap_or_else(|| store.index.read().bytes() + held));
    }
}
