//! The memory tier: small archives and release documents, each in a cache weighed in bytes.

use std::io;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::{
    entry::{Digest, Document, Key},
    origin::BoxFuture,
    storage::{Content, Object, Tier, Usage},
    value::ByteSize,
};

/// The tier's name.
const NAME: &str = "memory";
/// What an entry weighs beside its bytes, roughly: key, description, the cache's own records.
const OVERHEAD: usize = 1024;

/// The `[memory]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory for release documents.
    pub documents: ByteSize,
    /// Memory for small archives.
    pub archives: ByteSize,
    /// Largest archive that is kept in memory.
    pub archive_max: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { documents: ByteSize::mib(64), archives: ByteSize::mib(256), archive_max: ByteSize::mib(1) }
    }
}

/// Small archives in memory.
pub struct Memory {
    cache: Cache<Key, Object>,
    limit: u64,
    archive_max: u64,
}

impl Memory {
    /// A memory tier of at most `config.archives` bytes.
    pub fn new(config: &Config) -> Self {
        let weigh = |key: &Key, object: &Object| weight(key, usize::try_from(object.meta.len).unwrap_or(usize::MAX));
        let limit = config.archives.0;
        let cache = Cache::builder().max_capacity(limit).weigher(weigh).build();
        Self { cache, limit, archive_max: config.archive_max.0 }
    }

    /// [`Tier::get`] for the hit path: memory needs no future.
    pub fn find(&self, key: &Key) -> Option<Object> {
        self.cache.get(key)
    }

    /// Reads an archive of at most `archive_max` bytes into memory, for [`Memory::insert`]; `None` for a larger one.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub async fn load(&self, object: &Object) -> io::Result<Option<Object>> {
        let Some(len) = usize::try_from(object.meta.len).ok().filter(|_| object.meta.len <= self.archive_max) else {
            return Ok(None);
        };
        let bytes = object.read(0, len).await?;
        let Object { meta, uses, .. } = object.clone();
        Ok(Some(Object { meta, content: Content::Memory(bytes), tier: NAME, uses }))
    }

    /// Caches an archive that [`Memory::load`] has read.
    pub fn insert(&self, key: &Key, object: Object) {
        self.cache.insert(key.clone(), object);
    }

    /// Forgets a key.
    pub fn forget_key(&self, key: &Key) {
        self.cache.invalidate(key);
    }

    /// Forgets all keys of a blob. Walks over everything: for blobs that turn out to be damaged.
    pub fn forget(&self, digest: &Digest) {
        for (key, object) in &self.cache {
            if object.meta.digest == *digest {
                self.cache.invalidate(&*key);
            }
        }
    }
}

impl Tier for Memory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, io::Result<Option<Object>>> {
        Box::pin(std::future::ready(Ok(self.cache.get(key))))
    }

    /// Takes an archive of at most `archive_max` bytes; the bytes of one on disk are read.
    fn put<'a>(&'a self, key: &'a Key, object: &'a Object) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            if let Some(object) = self.load(object).await? {
                self.insert(key, object);
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, io::Result<()>> {
        self.cache.invalidate(key);
        Box::pin(std::future::ready(Ok(())))
    }

    fn usage(&self) -> Usage {
        Usage { bytes: self.cache.weighted_size(), limit: self.limit, objects: self.cache.entry_count() }
    }
}

/// Release documents in memory.
pub struct Documents {
    cache: Cache<Key, Document>,
}

impl Documents {
    /// A cache of at most `config.documents` bytes.
    pub fn new(config: &Config) -> Self {
        let weigh = |key: &Key, document: &Document| weight(key, document.body.len());
        Self { cache: Cache::builder().max_capacity(config.documents.0).weigher(weigh).build() }
    }

    /// The document of a key.
    pub fn get(&self, key: &Key) -> Option<Document> {
        self.cache.get(key)
    }

    /// Keeps a document in place of an earlier one; one that is larger than the whole cache is not kept.
    pub fn put(&self, key: &Key, document: Document) {
        self.cache.insert(key.clone(), document);
    }

    /// Keeps a document unless there is one.
    pub fn put_where_none_is(&self, key: &Key, document: &Document) {
        self.cache.entry_by_ref(key).or_insert_with(|| document.clone());
    }

    /// Forgets a document.
    pub fn remove(&self, key: &Key) {
        self.cache.invalidate(key);
    }

    /// Bytes in use, roughly.
    pub fn bytes(&self) -> u64 {
        self.cache.weighted_size()
    }
}

fn weight(key: &Key, len: usize) -> u32 {
    let sum = len.saturating_add(key.as_str().len()).saturating_add(OVERHEAD);
    u32::try_from(sum).unwrap_or(u32::MAX)
}
