//! Metadata of stored archives by key, from the index and the sidecars, with a cache in front.

use std::{collections::HashMap, io, sync::Arc};

use parking_lot::Mutex;

use super::{
    LOOKUP_CACHE_BYTES,
    index::{self, Index},
    layout::Layout,
    lookup_cache::{self, LookupCache},
    sidecar::Sidecar,
    skipped::is_damage,
};
use crate::entry::{Digest, Key, Meta};

/// The result of a lookup.
pub(super) enum MetaLookup {
    Found(Arc<Meta>),
    Absent,
    /// The key's blob has no readable sidecar.
    DamagedSidecar(Digest),
}

/// The metadata of each key. All methods but [`BlobMetas::cached`] block.
pub(super) struct BlobMetas {
    layout: Arc<Layout>,
    index: Arc<Index>,
    unlinked: Arc<UnlinkedBlobs>,
    cache: LookupCache<Arc<Meta>>,
}

impl BlobMetas {
    pub(super) fn new(layout: Arc<Layout>, index: Arc<Index>, unlinked: Arc<UnlinkedBlobs>) -> Self {
        let weigh = |meta: &Arc<Meta>| lookup_cache::weight(&meta.verified);
        Self { layout, index, unlinked, cache: LookupCache::new(LOOKUP_CACHE_BYTES, weigh) }
    }

    /// The metadata of a key that was looked up lately.
    pub(super) fn cached(&self, key: &Key) -> Option<Arc<Meta>> {
        self.cache.get(key)
    }

    /// The metadata of a key, from its blob's sidecar.
    pub(super) fn read(&self, key: &Key) -> io::Result<MetaLookup> {
        let before = self.cache.snapshot(key);
        let Some(digest) = self.find_stored(key)? else { return Ok(MetaLookup::Absent) };
        match Sidecar::read(&self.layout.sidecar(&digest)) {
            Ok(sidecar) => {
                let Some(meta) = sidecar.get(key).filter(|meta| meta.digest == digest) else {
                    return Ok(MetaLookup::Absent);
                };
                let meta = Arc::new(meta.clone());
                self.cache.insert(key, Arc::clone(&meta), &before);
                Ok(MetaLookup::Found(meta))
            }
            Err(error) if is_damage(&error) => Ok(MetaLookup::DamagedSidecar(digest)),
            Err(error) => Err(error),
        }
    }

    /// The blob of a key, by the index, unless its files are unlinked.
    pub(super) fn find_stored(&self, key: &Key) -> io::Result<Option<Digest>> {
        let digest = self.index.read(|txn| index::find_blob(txn, key))?;
        Ok(digest.filter(|digest| !self.unlinked.contains(digest)))
    }

    /// Caches the metadata of a key that was just admitted. The caller holds the blob's lock.
    pub(super) fn cache_admitted(&self, key: &Key, meta: Arc<Meta>) {
        let now = self.cache.snapshot(key);
        self.cache.insert(key, meta, &now);
    }

    /// Drops keys from the cache. Call it after their change is in the index.
    pub(super) fn invalidate<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) {
        self.cache.invalidate(keys);
    }
}

/// Blobs whose files are unlinked while their rows are still in the index, each with the time of unlinking.
#[derive(Default)]
pub(super) struct UnlinkedBlobs(Mutex<HashMap<Digest, u64>>);

impl UnlinkedBlobs {
    pub(super) fn insert(&self, digest: &Digest, at: u64) {
        self.0.lock().insert(*digest, at);
    }

    /// Removes a blob that is stored again: its row stays.
    pub(super) fn remove(&self, digest: &Digest) {
        self.0.lock().remove(digest);
    }

    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.0.lock().contains_key(digest)
    }

    /// True if the blob was unlinked at `at` and not stored again since.
    pub(super) fn is_unlinked_since(&self, digest: &Digest, at: u64) -> bool {
        self.0.lock().get(digest) == Some(&at)
    }

    pub(super) fn snapshot(&self) -> HashMap<Digest, u64> {
        self.0.lock().clone()
    }

    /// Removes the blobs of a snapshot whose rows are gone; a blob unlinked again since stays.
    pub(super) fn remove_all(&self, purged: &[(Digest, u64)]) {
        let mut unlinked = self.0.lock();
        for (digest, at) in purged {
            if unlinked.get(digest) == Some(at) {
                unlinked.remove(digest);
            }
        }
    }
}
