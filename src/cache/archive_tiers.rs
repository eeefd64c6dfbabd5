//! The tiers that hold archives: memory in front of disk.

use std::{io, sync::Arc};

use jiff::Timestamp;

use crate::{
    blocking::{run_blocking_io, spawn_blocking},
    entry::{Digest, Key, Meta},
    observe::CacheMetrics,
    origin::FetchError,
    storage::{
        Generation, Generations, Object, ObjectContent, TierUsage,
        disk::{Disk, Integrity, InventoryEntry, PinState, Spool, SpoolError},
        memory::{self, Memory},
    },
    value::memory_budget::MemoryBudget,
};

/// Complete archives, in memory and on disk.
pub struct ArchiveTiers {
    memory: Memory,
    disk: Arc<Disk>,
    /// Bumped by every change of what is stored of a package, documents included: responses depend on it.
    generations: Generations,
    /// Bumped only when a key leads to another archive or to none. Separate, because revalidated documents must not keep
    /// archives out of memory.
    removals: Generations,
}

impl ArchiveTiers {
    pub(super) fn new(
        memory: &memory::Config,
        budget: &MemoryBudget,
        disk: Arc<Disk>,
        generations: Generations,
    ) -> Self {
        Self { memory: Memory::new(memory, budget.clone()), disk, generations, removals: Generations::default() }
    }

    /// What memory holds under a key.
    pub(super) fn in_memory(&self, key: &Key) -> Option<Object> {
        self.memory.get(key)
    }

    /// Looks a key up for a client, memory first, and copies a small archive into memory. A tier that fails counts as a
    /// miss.
    pub(super) async fn lookup(&self, key: &Key) -> Option<Object> {
        if let Some(object) = self.memory.get(key) {
            object.record_use();
            return Some(object);
        }
        let before = self.removals.snapshot(key);
        match self.disk.get(key).await {
            Ok(Some(object)) => {
                object.record_use();
                self.promote(key, &object, &before).await;
                Some(object)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%key, %error, "the disk tier cannot be read");
                None
            }
        }
    }

    /// Copies a small archive into memory, unless the key's package had an archive removed since `before`.
    async fn promote(&self, key: &Key, object: &Object, before: &Generation) {
        match self.memory.load(object).await {
            Ok(Some(object)) => before.run_if_current(|| self.memory.insert(key, object)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%key, %error, "an archive cannot be copied into memory"),
        }
    }

    /// What is stored under a key, without counting a use or changing the order of eviction.
    ///
    /// # Errors
    /// When the disk tier cannot be read.
    pub async fn peek(&self, key: &Key) -> io::Result<Option<Object>> {
        let object = match self.memory.get(key) {
            Some(object) => Some(object),
            None => self.disk.get(key).await?,
        };
        Ok(object.map(|object| Object { usage: None, ..object }))
    }

    /// True when the archive of a key is on disk and can be read; a copy in memory does not count.
    pub async fn is_on_disk(&self, key: &Key) -> bool {
        // An unreadable archive counts as absent, so that an import replaces it.
        self.disk.get(key).await.is_ok_and(|object| object.is_some())
    }

    /// True when the index has the key. Opens no file; false when the index cannot be read.
    pub(super) async fn is_indexed(&self, key: &Key) -> bool {
        self.disk.inventory().contains(key).await.unwrap_or(false)
    }

    /// Opens a spool for a body, whose length is `len` if that is known; `None`, logged, when the disk has no room for it
    /// or fails.
    pub(super) async fn open_spool(&self, len: Option<u64>) -> Option<Spool> {
        let disk = self.disk.clone();
        match spawn_blocking(move || disk.spool(len)).await {
            Ok(Ok(spool)) => Some(spool),
            Ok(Err(SpoolError::NoSpace)) => {
                tracing::warn!(len, "no room on disk for a download");
                None
            }
            Ok(Err(SpoolError::Io(error))) => {
                tracing::warn!(%error, "cannot open a spool");
                None
            }
            Err(_) => None,
        }
    }

    /// The counters of the cache.
    pub fn metrics(&self) -> &CacheMetrics {
        self.disk.metrics()
    }

    /// False while writes to the disk fail for another reason than want of room.
    pub(super) fn is_writable(&self) -> bool {
        self.disk.is_writable()
    }

    /// Makes a fetched archive visible under its key. The waiting clients have it already, so an error is only logged.
    /// With `upload`, it is queued for its upload.
    pub(super) async fn admit(&self, key: &Key, spool: Spool, meta: Meta, upload: Option<PinState>) {
        let before = self.removals.snapshot(key);
        match self.disk.admit_and_queue(key, spool, meta, upload).await {
            Ok(object) => {
                self.promote(key, &object, &before).await;
                // The key may have led to another packing of the same content.
                self.generations.bump(key);
            }
            Err(error) => tracing::warn!(%key, %error, "a complete archive is not admitted"),
        }
    }

    /// Removes the revisions under `prefix` that were stored before `started`, except that of `key`, to which their keep
    /// mark passes. What cannot be removed, logged, stays until it is evicted.
    pub(super) async fn supersede(&self, key: &Key, prefix: &str, started: Timestamp) {
        if let Err(error) = self.remove_older_revisions(key, prefix, started).await {
            tracing::warn!(%key, %error, "older revisions cannot be removed");
        }
    }

    async fn remove_older_revisions(&self, key: &Key, prefix: &str, started: Timestamp) -> io::Result<()> {
        for other in self.revisions(prefix).await?.into_iter().filter(|other| other != key) {
            let meta = self.disk.inventory().meta(&other).await?;
            if meta.is_none_or(|meta| meta.stored_at > started) {
                continue;
            }
            if self.disk.inventory().is_kept(&other).await? {
                self.disk.inventory().set_kept(key, true).await?;
            }
            self.remove_all(std::slice::from_ref(&other)).await?;
            tracing::debug!(key = %other, "an older revision is removed");
        }
        Ok(())
    }

    /// The keys of the stored revisions under `prefix`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn revisions(&self, prefix: &str) -> io::Result<Vec<Key>> {
        let mut keys = self.disk.inventory().keys_with_prefix(prefix).await?;
        // With a slash behind the prefix, it is the revision of another version.
        keys.retain(|key| !key.as_str()[prefix.len()..].contains('/'));
        Ok(keys)
    }

    /// Makes an imported archive visible under its key, in place of the one stored before. With `upload`, it is queued for
    /// its upload.
    ///
    /// # Errors
    /// When it cannot be made durable; then what was stored before stays.
    pub(super) async fn replace(
        &self,
        key: &Key,
        spool: Spool,
        meta: Meta,
        upload: Option<PinState>,
    ) -> io::Result<()> {
        self.disk.admit_and_queue(key, spool, meta, upload).await?;
        self.drop_from_memory(key);
        Ok(())
    }

    /// Writes an archive to disk that only memory holds: the disk tier may have evicted it.
    ///
    /// # Errors
    /// `Refused` when the disk has no room for it or fails.
    pub(super) async fn ensure_on_disk(&self, key: &Key, object: &Object) -> Result<(), FetchError> {
        let ObjectContent::Memory(bytes) = &object.content else { return Ok(()) };
        if self.is_indexed(key).await {
            return Ok(());
        }
        let mut spool = self.open_spool(Some(object.meta.len)).await.ok_or_else(not_storable)?;
        let bytes = bytes.clone();
        let written = run_blocking_io(move || spool.append(&[bytes]).map(|()| spool)).await;
        let spool = written.map_err(|_| not_storable())?;
        let admitted = self.disk.admit(key, spool, (*object.meta).clone()).await;
        admitted.map(drop).map_err(|error| {
            tracing::warn!(%key, %error, "an archive in memory cannot be written to disk");
            not_storable()
        })
    }

    /// Removes the archives of keys from both tiers; their readers keep them.
    ///
    /// # Errors
    /// The first one, when a file cannot be removed; the other keys are removed all the same.
    pub(super) async fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        let removed = self.disk.remove_all(keys.to_vec()).await;
        keys.iter().for_each(|key| self.drop_from_memory(key));
        removed
    }

    fn drop_from_memory(&self, key: &Key) {
        self.removals.bump_with(key, || self.memory.remove(key));
        self.generations.bump(key);
    }

    /// Quarantines an archive that a reader found damaged; the next request fetches it again.
    pub async fn quarantine(&self, object: &Object) {
        let digest = &object.meta.digest;
        if let Err(error) = self.disk.quarantine(object, "a reader found it damaged").await {
            tracing::warn!(%digest, %error, "a damaged blob cannot be quarantined");
        }
        self.drop_blob_from_memory(digest);
    }

    /// Hashes a blob; a damaged one is quarantined and dropped from memory.
    ///
    /// # Errors
    /// When the blob cannot be read.
    pub async fn check_blob(&self, digest: &Digest) -> io::Result<Integrity> {
        let found = self.disk.inventory().check(digest).await?;
        if found == Integrity::Quarantined {
            self.drop_blob_from_memory(digest);
        }
        Ok(found)
    }

    /// Ends the generations of all packages, because a blob can be stored under any key.
    fn drop_blob_from_memory(&self, digest: &Digest) {
        self.removals.bump_all();
        self.memory.remove_blob(digest);
        self.generations.bump_all();
    }

    /// Every stored archive whose key `selects` accepts.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn inventory(&self, selects: impl Fn(&Key) -> bool + Send + 'static) -> io::Result<Vec<InventoryEntry>> {
        self.disk.inventory().list(selects).await
    }

    /// What the memory tier holds.
    pub(super) fn memory_usage(&self) -> TierUsage {
        self.memory.usage()
    }
}

/// The error of a caller that wants an archive stored, where it cannot be.
pub(super) fn not_storable() -> FetchError {
    FetchError::Refused("the archive cannot be stored: the disk has no room for it or fails".into())
}

#[cfg(test)]
impl ArchiveTiers {
    /// Drops the copy in memory, as an eviction does.
    pub(super) fn evict_from_memory(&self, key: &Key) {
        self.memory.remove(key);
    }
}
