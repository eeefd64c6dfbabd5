//! A cache in front of the index: recently used keys are looked up without a read transaction.

use crate::{
    entry::{Key, Verified},
    storage::{Generation, Generations},
    value::bounded_cache::BoundedCache,
};

/// What an entry needs beside its key and its value, in bytes.
const LOOKUP_OVERHEAD_BYTES: usize = 256;

/// A bounded map from keys to what the index and the sidecars record of them.
///
/// A lookup may overlap with a change of the same key. What it found is therefore only cached if the key was not
/// invalidated since the lookup began.
pub(super) struct LookupCache<V> {
    cache: BoundedCache<Key, V>,
    weigh: Box<dyn Fn(&V) -> usize + Send + Sync>,
    generations: Generations,
}

impl<V: Clone + Send + Sync + 'static> LookupCache<V> {
    /// Creates a cache of at most `capacity` bytes. `weigh` estimates the bytes of a value.
    pub(super) fn new(capacity: u64, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        Self { cache: BoundedCache::new(capacity), weigh: Box::new(weigh), generations: Generations::default() }
    }

    pub(super) fn get(&self, key: &Key) -> Option<V> {
        self.cache.get(key)
    }

    /// The generation that [`LookupCache::insert`] needs; take it before the lookup in the index begins.
    pub(super) fn snapshot(&self, key: &Key) -> Generation {
        self.generations.snapshot(key)
    }

    /// Caches what a lookup found, unless the key was invalidated since `before`.
    pub(super) fn insert(&self, key: &Key, value: V, before: &Generation) {
        let weight = key.as_str().len() + (self.weigh)(&value) + LOOKUP_OVERHEAD_BYTES;
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        before.run_if_current(|| self.cache.insert_weighed(key.clone(), value, weight));
    }

    /// Drops keys. Call it after their change is in the index.
    pub(super) fn invalidate<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            self.generations.bump_with(key, || self.cache.invalidate(key));
        }
    }
}

/// Estimates the bytes of memory that the facts of an entry take.
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
