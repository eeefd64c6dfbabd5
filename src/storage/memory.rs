//! The memory tier: small archives and release documents, each in an LRU cache limited in bytes.

use std::io;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Digest, Document, Key},
    storage::{Object, ObjectContent, TierUsage},
    value::{ByteSize, memory_budget::MemoryBudget},
};

/// The tier's name in `Cache-Status`.
const MEMORY_TIER: &str = "memory";
/// Estimated bytes of an entry beside its body: key, metadata, the cache's own records.
const ENTRY_OVERHEAD_BYTES: usize = 1024;

/// Smallest `memory.limit`: the caches of a fixed size, and room for work.
pub const MIN_MEMORY_LIMIT: ByteSize = ByteSize::mib(256);

/// The `[memory]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory for everything that clients and upstreams cause. Default: a quarter of the machine's, or of
    /// the control group's; at least [`MIN_MEMORY_LIMIT`] and at most 4 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<ByteSize>,
    /// Memory for release documents.
    pub documents: ByteSize,
    /// Memory for small archives.
    pub archives: ByteSize,
    /// Largest archive that is kept in memory.
    pub archive_max: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { limit: None, documents: ByteSize::mib(64), archives: ByteSize::mib(256), archive_max: ByteSize::mib(1) }
    }
}

/// Small archives in memory.
pub struct Memory {
    cache: Cache<Key, Object>,
    limit: u64,
    archive_max: u64,
    budget: MemoryBudget,
}

impl Memory {
    /// A memory tier of at most `config.archives` bytes. What clients still read of it after its eviction is counted in
    /// `budget`, too.
    pub fn new(config: &Config, budget: MemoryBudget) -> Self {
        let weigh = |key: &Key, object: &Object| weight(key, usize::try_from(object.meta.len).unwrap_or(usize::MAX));
        let limit = config.archives.0;
        let cache = Cache::builder().max_capacity(limit).weigher(weigh).build();
        Self { cache, limit, archive_max: config.archive_max.0, budget }
    }

    /// The archive of a key. Never blocks.
    pub fn get(&self, key: &Key) -> Option<Object> {
        self.cache.get(key)
    }

    /// Reads an archive of at most `archive_max` bytes into memory, for [`Memory::insert`]; `None` for a larger one, and
    /// while the budget is taken.
    ///
    /// # Errors
    /// When the archive is on disk and cannot be read.
    pub async fn load(&self, object: &Object) -> io::Result<Option<Object>> {
        let Some(len) = usize::try_from(object.meta.len).ok().filter(|_| object.meta.len <= self.archive_max) else {
            return Ok(None);
        };
        let mut share = self.budget.share();
        if share.try_grow_to(object.meta.len).is_err() {
            return Ok(None);
        }
        let bytes = share.hold(object.read(0, len).await?);
        let Object { meta, usage, .. } = object.clone();
        Ok(Some(Object { meta, content: ObjectContent::Memory(bytes), tier: MEMORY_TIER, usage }))
    }

    /// Stores an archive that [`Memory::load`] returned.
    pub fn insert(&self, key: &Key, object: Object) {
        self.cache.insert(key.clone(), object);
    }

    /// Removes the archive of a key; handles on it stay readable.
    pub fn remove(&self, key: &Key) {
        self.cache.invalidate(key);
    }

    /// Removes the archives of all keys with this digest. Iterates over all entries: only for damaged blobs.
    pub fn remove_blob(&self, digest: &Digest) {
        for (key, object) in &self.cache {
            if object.meta.digest == *digest {
                self.cache.invalidate(&*key);
            }
        }
    }

    /// How full the tier is.
    pub fn usage(&self) -> TierUsage {
        TierUsage { bytes: self.cache.weighted_size(), limit: self.limit, objects: self.cache.entry_count() }
    }
}

/// Release documents in memory.
pub struct MemoryDocuments {
    cache: Cache<Key, Document>,
}

impl MemoryDocuments {
    /// A cache of at most `config.documents` bytes.
    pub fn new(config: &Config) -> Self {
        let weigh = |key: &Key, document: &Document| weight(key, document.body.len());
        Self { cache: Cache::builder().max_capacity(config.documents.0).weigher(weigh).build() }
    }

    /// The document of a key.
    pub fn get(&self, key: &Key) -> Option<Document> {
        self.cache.get(key)
    }

    /// Stores a document, replacing an earlier one. A document larger than the whole cache is not stored.
    pub fn put(&self, key: &Key, document: Document) {
        self.cache.insert(key.clone(), document);
    }

    /// Stores a document if the key has none.
    pub fn put_if_absent(&self, key: &Key, document: &Document) {
        self.cache.entry_by_ref(key).or_insert_with(|| document.clone());
    }

    /// Removes the document of a key.
    pub fn remove(&self, key: &Key) {
        self.cache.invalidate(key);
    }
}

fn weight(key: &Key, len: usize) -> u32 {
    let sum = len.saturating_add(key.as_str().len()).saturating_add(ENTRY_OVERHEAD_BYTES);
    u32::try_from(sum).unwrap_or(u32::MAX)
}
