//! Pins that are durable in the journal and not yet in the index, because it could not be written.

use std::{collections::BTreeMap, io, ops::Bound};

use parking_lot::Mutex;

use crate::{entry::Key, storage::disk::index::PinPosition};

/// Most pins that wait for the index.
const MAX_UNINDEXED_PINS: usize = 20_000;

/// The positions of the last lines of keys; `None` for a removed pin.
#[derive(Default)]
pub(super) struct UnindexedPins(Mutex<BTreeMap<Key, Option<PinPosition>>>);

/// What the index lacks of some keys.
pub(super) struct UnindexedKeys(BTreeMap<Key, Option<PinPosition>>);

impl UnindexedPins {
    /// What the index lacks about a key.
    pub(super) fn get(&self, key: &Key) -> Option<Option<PinPosition>> {
        self.0.lock().get(key).copied()
    }

    pub(super) fn extend(&self, positions: Vec<(Key, Option<PinPosition>)>) {
        self.0.lock().extend(positions);
    }

    /// # Errors
    /// When `more` pins would be too many.
    pub(super) fn check_room(&self, more: usize) -> io::Result<()> {
        if self.0.lock().len() + more > MAX_UNINDEXED_PINS {
            return Err(io::Error::other("too many pins wait for the index, which cannot be written"));
        }
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Vec<(Key, Option<PinPosition>)> {
        self.0.lock().iter().map(|(key, position)| (key.clone(), *position)).collect()
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(super) fn behind(&self, after: &str) -> UnindexedKeys {
        let unindexed = self.0.lock();
        let range = unindexed.range((Bound::Excluded(Key::new(after)), Bound::Unbounded));
        UnindexedKeys(range.map(|(key, position)| (key.clone(), *position)).collect())
    }

    pub(super) fn with_prefix(&self, prefix: &str) -> UnindexedKeys {
        let unindexed = self.0.lock();
        let from = Key::new(prefix);
        let range = unindexed.range((Bound::Included(&from), Bound::Unbounded));
        let matching = range.take_while(|(key, _)| key.as_str().starts_with(prefix));
        UnindexedKeys(matching.map(|(key, position)| (key.clone(), *position)).collect())
    }
}

impl UnindexedKeys {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those up to `last`; all without it.
    pub(super) fn until(mut self, last: Option<&Key>) -> Self {
        self.0.retain(|key, _| last.is_none_or(|last| key <= last));
        self
    }

    /// The keys that the index has, as they are with what it lacks; in order.
    pub(super) fn merge(self, indexed: Vec<Key>) -> Vec<Key> {
        if self.0.is_empty() {
            return indexed;
        }
        let mut keys: Vec<Key> = indexed.into_iter().filter(|key| !self.0.contains_key(key)).collect();
        keys.extend(self.0.into_iter().filter_map(|(key, position)| position.map(|_| key)));
        keys.sort_unstable();
        keys
    }
}
