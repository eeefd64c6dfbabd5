//! Bounded caches, compiled once for each type of key.
//!
//! The code of a cache takes some 70 KB of the executable for each pair of types. Here the values are behind pointers, so
//! that only the type of the key counts; [`moka::sync::Cache`] is for what most requests look up.

use std::{any::Any, fmt, hash::Hash, marker::PhantomData, sync::Arc};

use moka::sync::Cache;

/// A map that forgets what is used least when its weight exceeds its capacity.
#[derive(Clone)]
pub(crate) struct BoundedCache<K, V> {
    entries: Cache<K, WeighedValue>,
    values: PhantomData<fn() -> V>,
}

#[derive(Clone)]
struct WeighedValue {
    value: Arc<dyn Any + Send + Sync>,
    weight: u32,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> BoundedCache<K, V> {
    /// Creates a cache; `capacity` is in the unit of the weights.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { entries: entries(capacity), values: PhantomData }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key)?.value.downcast_ref().cloned()
    }

    /// Inserts a value that counts as one.
    pub(crate) fn insert(&self, key: K, value: V) {
        self.insert_weighed(key, value, 1);
    }

    /// Inserts a value with its weight.
    pub(crate) fn insert_weighed(&self, key: K, value: V, weight: u32) {
        self.entries.insert(key, WeighedValue { value: Arc::new(value), weight });
    }

    pub(crate) fn invalidate(&self, key: &K) {
        self.entries.invalidate(key);
    }

    /// As [`BoundedCache::invalidate`], and drops the value before it returns.
    pub(crate) fn discard(&self, key: &K) {
        self.entries.invalidate(key);
        self.entries.run_pending_tasks();
    }
}

impl<K, V> fmt::Debug for BoundedCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedCache").finish_non_exhaustive()
    }
}

fn entries<K: Hash + Eq + Send + Sync + 'static>(capacity: u64) -> Cache<K, WeighedValue> {
    Cache::builder().max_capacity(capacity).weigher(|_, weighed: &WeighedValue| weighed.weight).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_holds_what_its_capacity_allows() {
        let cache: BoundedCache<String, u64> = BoundedCache::new(10);
        cache.insert("a".into(), 1);
        cache.insert("a".into(), 2);
        assert_eq!((cache.get(&"a".into()), cache.get(&"b".into())), (Some(2), None));
        cache.invalidate(&"a".into());
        assert_eq!(cache.get(&"a".into()), None);
        cache.insert_weighed("heavy".into(), 1, 11);
        for n in 0..100 {
            cache.insert(n.to_string(), n);
        }
        cache.entries.run_pending_tasks();
        assert_eq!(cache.get(&"heavy".into()), None);
        assert!(cache.entries.entry_count() <= 10);
    }
}
