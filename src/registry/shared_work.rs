//! A bounded cache whose values are made once for concurrent callers, and whose code is compiled once for all types.
//!
//! The code of such a cache takes some 75 KB of the executable for each set of types: here values and errors are behind
//! pointers, and every key is a digest. [`moka::future::Cache`] itself is for what most requests look up.

use std::{any::Any, future::Future, marker::PhantomData, sync::Arc};

use futures_util::future::BoxFuture;
use moka::future::Cache;

use crate::entry::Digest;

type Erased = Arc<dyn Any + Send + Sync>;

/// A map that evicts what is used least when its weight exceeds its capacity.
pub(crate) struct SharedWorkCache<V, E> {
    entries: Cache<Digest, WeighedWork>,
    types: PhantomData<fn() -> (V, E)>,
}

#[derive(Clone)]
struct WeighedWork {
    value: Erased,
    weight: u32,
}

impl<V: Clone + Send + Sync + 'static, E: Send + Sync + 'static> SharedWorkCache<V, E> {
    /// An empty cache; `capacity` is in the unit of the weights.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { entries: entries(capacity), types: PhantomData }
    }

    /// The value of a key. Where there is none, `make` makes it and returns it with its weight; concurrent callers share one
    /// call of `make`.
    ///
    /// # Errors
    /// The error of `make`. `None` never happens: a cache has one type of values and one of errors.
    pub(crate) async fn get_or_make(
        &self,
        key: Digest,
        make: impl Future<Output = Result<(V, u32), E>> + Send,
    ) -> Result<V, Option<Arc<E>>> {
        let make = async {
            match make.await {
                Ok((value, weight)) => Ok(WeighedWork { value: Arc::new(value), weight }),
                Err(error) => Err(Arc::new(error) as Erased),
            }
        };
        match get_or_make(&self.entries, key, Box::pin(make)).await {
            Ok(value) => value.downcast_ref().cloned().ok_or(None),
            Err(error) => Err(error.downcast().ok()),
        }
    }

    #[cfg(test)]
    pub(crate) async fn count(&self) -> u64 {
        self.entries.run_pending_tasks().await;
        self.entries.entry_count()
    }
}

fn entries(capacity: u64) -> Cache<Digest, WeighedWork> {
    Cache::builder().max_capacity(capacity).weigher(|_, work: &WeighedWork| work.weight).build()
}

/// The part of [`SharedWorkCache::get_or_make`] that does not depend on the types.
async fn get_or_make(
    entries: &Cache<Digest, WeighedWork>,
    key: Digest,
    make: BoxFuture<'_, Result<WeighedWork, Erased>>,
) -> Result<Erased, Erased> {
    if let Some(found) = entries.get(&key).await {
        return Ok(found.value);
    }
    let made = entries.try_get_with(key, make).await;
    made.map(|work| work.value).map_err(|error| Erased::clone(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_value_is_made_once_for_all_and_an_error_is_not_remembered() {
        let cache: SharedWorkCache<u64, &'static str> = SharedWorkCache::new(10);
        let made = AtomicUsize::new(0);
        let key = Digest::of(b"key");
        let make = || async {
            made.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok((7, 1))
        };
        let found = join_all((0..10).map(|_| cache.get_or_make(key, make()))).await;
        assert!(found.iter().all(|found| found.as_ref().ok() == Some(&7)));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let other = Digest::of(b"other");
        let failed = cache.get_or_make(other, async { Err("no") }).await;
        assert_eq!(failed.expect_err("fails").as_deref(), Some(&"no"));
        assert_eq!(cache.get_or_make(other, async { Ok((8, 1)) }).await.ok(), Some(8));
        cache.get_or_make(Digest::of(b"heavy"), async { Ok((9, 11)) }).await.expect("made");
        assert_eq!(cache.count().await, 2);
    }
}
