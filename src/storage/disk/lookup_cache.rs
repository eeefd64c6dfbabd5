//! Memory in front of the index: hot keys are looked up without touching it.

use std::sync::{Mutex, PoisonError};

use moka::sync::Cache;

use crate::entry::{Key, Verified};

/// A bounded map from keys to what the index and the sidecars say of them.
///
/// A lookup may overlap with a change of the same key. What it found is therefore only kept if nothing has been
/// invalidated since it began.
pub(super) struct LookupCache<V> {
    cache: Cache<Key, V>,
    changes: Mutex<u64>,
}

impl<V: Clone + Send + Sync + 'static> LookupCache<V> {
    /// Of at most `capacity` bytes, as `weigh` estimates them.
    pub(super) fn new(capacity: u64, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        let weigher =
            move |key: &Key, value: &V| u32::try_from(key.as_str().len() + weigh(value) + 256).unwrap_or(u32::MAX);
        Self { cache: Cache::builder().max_capacity(capacity).weigher(weigher).build(), changes: Mutex::new(0) }
    }

    pub(super) fn get(&self, key: &Key) -> Option<V> {
        self.cache.get(key)
    }

    /// To be asked before a lookup begins and given to [`LookupCache::keep`] after it.
    pub(super) fn changes(&self) -> u64 {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a lookup has found.
    pub(super) fn keep(&self, key: &Key, value: V, changes: u64) {
        let now = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == changes {
            self.cache.insert(key.clone(), value);
        }
    }

    /// Forgets keys; called after their change is in the index.
    pub(super) fn invalidate<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut now = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *now += 1;
        keys.into_iter().for_each(|key| self.cache.invalidate(key));
    }
}

/// Bytes of memory that the facts of an entry take, roughly.
pub(super) fn weight(verified: &Verified) -> usize {
    fn of(value: &serde_json::Value) -> usize {
        32 + match value {
            serde_json::Value::String(text) => text.len(),
            serde_json::Value::Array(items) => items.iter().map(of).sum(),
            serde_json::Value::Object(fields) => fields.iter().map(|(name, value)| 48 + name.len() + of(value)).sum(),
            _ => 0,
        }
    }
    of(&verified.facts)
}
