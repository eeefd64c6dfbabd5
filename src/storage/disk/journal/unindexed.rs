//! Pins that are durable in the journal and not yet in the index, because it could not be written.

use std::{collections::BTreeMap, io, ops::Bound};

use parking_lot::Mutex;

use crate::{entry::Key, storage::disk::index::PinUpdate};

/// Most pins that wait for the index.
const MAX_UNINDEXED_PINS: usize = 20_000;

/// The updates that the index lacks, one per key: that of the key's last line.
#[derive(Default)]
pub(super) struct UnindexedPins(Mutex<BTreeMap<Key, PinUpdate>>);

/// The updates that the index lacks in a range of keys.
pub(super) struct UnindexedRange(BTreeMap<Key, PinUpdate>);

impl UnindexedPins {
    /// The update that the index lacks about a key; `None` if the index is up to date.
    pub(super) fn get(&self, key: &Key) -> Option<PinUpdate> {
        self.0.lock().get(key).copied()
    }

    pub(super) fn extend(&self, updates: Vec<(Key, PinUpdate)>) {
        self.0.lock().extend(updates);
    }

    /// Checks that `more` updates can be added.
    ///
    /// # Errors
    /// When they would be too many.
    pub(super) fn check_room(&self, more: usize) -> io::Result<()> {
        if self.0.lock().len() + more > MAX_UNINDEXED_PINS {
            return Err(io::Error::other("too many pins wait for the index, which cannot be written"));
        }
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Vec<(Key, PinUpdate)> {
        self.0.lock().iter().map(|(key, update)| (key.clone(), *update)).collect()
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The updates of the keys behind `after`.
    pub(super) fn behind(&self, after: &str) -> UnindexedRange {
        let unindexed = self.0.lock();
        let range = unindexed.range((Bound::Excluded(Key::new(after)), Bound::Unbounded));
        UnindexedRange(range.map(|(key, update)| (key.clone(), *update)).collect())
    }

    /// The updates of the keys that begin with `prefix`.
    pub(super) fn with_prefix(&self, prefix: &str) -> UnindexedRange {
        let unindexed = self.0.lock();
        let from = Key::new(prefix);
        let range = unindexed.range((Bound::Included(&from), Bound::Unbounded));
        let matching = range.take_while(|(key, _)| key.as_str().starts_with(prefix));
        UnindexedRange(matching.map(|(key, update)| (key.clone(), *update)).collect())
    }
}

impl UnindexedRange {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Leaves out the keys behind `last`; none without it.
    pub(super) fn until(mut self, last: Option<&Key>) -> Self {
        self.0.retain(|key, _| last.is_none_or(|last| key <= last));
        self
    }

    /// The pinned keys of the range, in order: `indexed`, which the index has, changed by the updates that it lacks.
    pub(super) fn merge(self, indexed: Vec<Key>) -> Vec<Key> {
        if self.0.is_empty() {
            return indexed;
        }
        let mut keys: Vec<Key> = indexed.into_iter().filter(|key| !self.0.contains_key(key)).collect();
        let pinned = self.0.into_iter().filter(|(_, update)| matches!(update, PinUpdate::Pinned(_)));
        keys.extend(pinned.map(|(key, _)| key));
        keys.sort_unstable();
        keys
    }
}
