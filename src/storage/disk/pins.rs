//! The pins of the disk tier: what was first seen under each key.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::Path,
    sync::Arc,
};

use tracing::warn;

use super::{
    LOOKUP_CACHE_BYTES,
    health::{DiskArea, DiskHealth},
    journal::{Journal, PinEvent, SettleError, SettleOutcome},
    lookup_cache::{self, LookupCache},
    space::Space,
};
use crate::{
    blocking::run_blocking_io,
    entry::{Key, Pin},
};

/// Keys in memory while all are visited.
const VISITED_KEYS_STEP: usize = 2000;

/// The pins of the disk tier. Cheap to clone.
#[derive(Clone)]
pub struct DiskPins {
    store: Arc<PinStore>,
}

impl DiskPins {
    pub(super) fn new(store: Arc<PinStore>) -> Self {
        Self { store }
    }

    /// The pin of a key. A pin that was read lately is returned without blocking.
    ///
    /// # Errors
    /// When the journal or the index cannot be read: the pin is then unknown, not absent.
    pub async fn get(&self, key: &Key) -> io::Result<Option<Arc<Pin>>> {
        if let Some(cached) = self.store.cache.get(key) {
            return Ok(cached.into_pin());
        }
        let store = Arc::clone(&self.store);
        let key = key.clone();
        run_blocking_io(move || store.read(&key)).await
    }

    /// Passes the pin of a key to `decide` and appends the events that it returns. No other event is appended in
    /// between; the events are durable when this returns.
    ///
    /// # Errors
    /// `Refused` with the error of `decide`; `Io` when the pin cannot be read or the events could not be made durable.
    /// After `Io` the events may take effect at the next start.
    pub async fn settle<E: Send + 'static>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E> + Send + 'static,
    ) -> Result<(), SettleError<E>> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        crate::blocking::spawn_blocking(move || store.settle(&key, decide)).await.map_err(io::Error::other)?
    }

    /// Removes the pins of keys, many in one write; durable when it returns.
    ///
    /// # Errors
    /// The first one; a pin that cannot be read does not stop the removal of the others.
    pub async fn forget_all(&self, keys: Vec<Key>) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.forget_all(&keys)).await
    }

    /// Calls `visit` with every pinned key, in order. Holds few of them in memory, and no lock.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn visit_keys(&self, mut visit: impl FnMut(Key)) -> io::Result<()> {
        let mut last = String::new();
        loop {
            let step = self.keys_after(&last, VISITED_KEYS_STEP).await?;
            match step.last() {
                Some(key) => key.as_str().clone_into(&mut last),
                None => return Ok(()),
            }
            step.into_iter().for_each(&mut visit);
        }
    }

    /// At most `limit` of the pinned keys that follow `after`, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn keys_after(&self, after: &str, limit: usize) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        let after = after.to_owned();
        run_blocking_io(move || store.journal.keys_after(&after, limit)).await
    }

    /// All pinned keys, in order.
    #[cfg(test)]
    pub(super) async fn keys(&self) -> io::Result<Vec<Key>> {
        let mut keys = Vec::new();
        self.visit_keys(|key| keys.push(key)).await?;
        Ok(keys)
    }

    /// Checks that a pin could be written. Does nothing if the last write succeeded.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn check_writable(&self) -> io::Result<()> {
        if !self.store.journal.is_in_doubt() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.check_writable()).await
    }

    /// The pinned keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn keys_with_prefix(&self, prefix: &str) -> io::Result<Vec<Key>> {
        self.first_keys_with_prefix(prefix, usize::MAX).await
    }

    /// At most `limit` pinned keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn first_keys_with_prefix(&self, prefix: &str, limit: usize) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        let prefix = prefix.to_owned();
        run_blocking_io(move || store.journal.keys_with_prefix(&prefix, limit)).await
    }
}

/// A cached lookup of a key's pin.
#[derive(Clone)]
enum CachedPin {
    Pinned(Arc<Pin>),
    Unpinned,
}

impl CachedPin {
    fn into_pin(self) -> Option<Arc<Pin>> {
        match self {
            Self::Pinned(pin) => Some(pin),
            Self::Unpinned => None,
        }
    }
}

/// The journal of pins with a cache in front. All its methods block.
pub(super) struct PinStore {
    cache: LookupCache<CachedPin>,
    journal: Journal,
    space: Arc<Space>,
    health: Arc<DiskHealth>,
}

impl PinStore {
    pub(super) fn new(journal: Journal, space: Arc<Space>, health: Arc<DiskHealth>) -> Self {
        let weigh = |cached: &CachedPin| match cached {
            CachedPin::Pinned(pin) => lookup_cache::weight(&pin.verified),
            CachedPin::Unpinned => 0,
        };
        Self { cache: LookupCache::new(LOOKUP_CACHE_BYTES, weigh), journal, space, health }
    }

    fn read(&self, key: &Key) -> io::Result<Option<Arc<Pin>>> {
        let before = self.cache.snapshot(key);
        let pin = self.journal.read(key)?.map(Arc::new);
        self.cache.insert(key, pin.clone().map_or(CachedPin::Unpinned, CachedPin::Pinned), &before);
        Ok(pin)
    }

    /// The pinned keys among `keys`, in one pass. Reads only the index.
    pub(super) fn pinned_among<'k>(&self, keys: &BTreeSet<&'k Key>) -> io::Result<HashSet<&'k Key>> {
        self.journal.pinned_among(keys)
    }

    fn forget_all(&self, keys: &[Key]) -> io::Result<()> {
        let written = self.journal.forget_all(keys);
        self.cache.invalidate(keys);
        self.record(written)
    }

    fn settle<E>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E>,
    ) -> Result<(), SettleError<E>> {
        let written = match self.journal.settle(key, decide) {
            Err(SettleError::Refused(refused)) => return Err(SettleError::Refused(refused)),
            Err(SettleError::Io(error)) => Err(error),
            Ok(outcome) => Ok(outcome),
        };
        self.cache.invalidate([key]);
        Ok(self.record(written)?)
    }

    /// Records in the disk's health what a write shows.
    fn record(&self, written: io::Result<SettleOutcome>) -> io::Result<()> {
        match written {
            // Without a write, the health of the disk is unknown.
            Ok(SettleOutcome::Unchanged) => return Ok(()),
            Ok(SettleOutcome::Appended) => self.health.record(&[DiskArea::Pins, DiskArea::Index], Ok(()))?,
            Ok(SettleOutcome::AppendedNotIndexed(cause)) => {
                warn!(%cause, "pins are durable, and the index that finds them cannot be written");
                self.health.record(&[DiskArea::Pins], Ok(()))?;
                self.health.record_failure(DiskArea::Index, &cause);
            }
            Err(error) => return self.health.record(&[DiskArea::Pins], Err(error)),
        }
        self.space.resize_index_reservation();
        Ok(())
    }

    fn check_writable(&self) -> io::Result<()> {
        self.health.record(&[DiskArea::Pins], self.journal.check_writable())
    }

    #[cfg(test)]
    pub(super) fn compact_now(
        &self,
        staging_path: &Path,
        after_step: impl FnMut(super::journal::CompactionStep),
    ) -> io::Result<()> {
        self.journal.compact(staging_path, after_step)
    }

    #[cfg(test)]
    pub(super) fn read_from_journal(&self, key: &Key) -> io::Result<Option<Pin>> {
        self.journal.read(key)
    }

    /// Compacts the journal if that is worthwhile.
    pub(super) fn compact(&self, staging_path: &Path) -> io::Result<()> {
        self.journal.compact_if_worthwhile(staging_path)
    }
}
