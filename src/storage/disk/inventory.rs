//! What lies in the tier, for whoever administrates it: lists, marks, checks and clears.

use std::{io, path::Path, sync::Arc};

use jiff::Timestamp;

use super::{
    Disk, blocking,
    budget::Kind,
    index::{self, BLOBS, DOCUMENTS, Name, Row},
    sidecar::Sidecar,
    store::{Store, lock},
};
use crate::{
    entry::{Digest, Key, Meta},
    storage::HitStats,
};

/// One key and the blob that is stored under it. Keys that share a blob share its size on disk and its uses.
#[derive(Clone, Debug)]
pub struct InventoryEntry {
    /// The key.
    pub key: Key,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub len: u64,
    /// Bytes that the blob takes on disk.
    pub cost: u64,
    /// Number of keys that lead to the blob.
    pub keys: usize,
    /// When the bytes were fetched.
    pub stored_at: Timestamp,
    /// The commit they were made from, where that is known.
    pub commit: Option<String>,
    /// When the blob was last used.
    pub used: Timestamp,
    /// What the blob has answered since it was stored.
    pub tally: HitStats,
    /// Never evicted.
    pub kept: bool,
    /// True when it is written down what was first seen under the key.
    pub pinned: bool,
}

/// What the tier's bytes are made of.
#[derive(Clone, Copy, Debug)]
pub struct DiskUsage {
    /// Blobs with their sidecars, bytes.
    pub blobs: u64,
    /// Documents, bytes.
    pub documents: u64,
    /// Damaged files that were set aside, bytes.
    pub quarantine: u64,
}

impl Disk {
    /// Every key that leads to a stored blob and that `wanted` takes, in order of digests. Reads the index alone.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn inventory(&self, wanted: impl Fn(&Key) -> bool + Send + 'static) -> io::Result<Vec<InventoryEntry>> {
        let store = Arc::clone(&self.store);
        blocking(move || store.inventory(wanted)).await
    }

    /// What is stored about a key, without opening its blob.
    ///
    /// # Errors
    /// When index or sidecar cannot be read.
    pub async fn describe(&self, key: &Key) -> io::Result<Option<Arc<Meta>>> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.load(&key)).await
    }

    /// True when something is stored under a key, as far as the index knows.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn holds(&self, key: &Key) -> io::Result<bool> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || {
            Ok(store.index.read(|txn| index::find(txn, &key))?.is_some_and(|digest| !store.is_gone(&digest)))
        })
        .await
    }

    /// The keys of all documents.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn document_keys(&self) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        let all = (Digest([0; 32]), Digest([0xff; 32]));
        let rows = blocking(move || store.index.read(|txn| DOCUMENTS.range(txn, all.0, all.1))).await?;
        Ok(rows.into_iter().filter_map(|(_, row)| row).flat_map(|row| row.names).map(|name| name.key).collect())
    }

    /// Marks what is stored under a key as never to be evicted, or as any other; false when nothing is stored.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn keep(&self, key: &Key, kept: bool) -> io::Result<bool> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.keep(&key, kept)).await
    }

    /// Hashes a blob; false when it is not what its name says: then it has been set aside.
    ///
    /// # Errors
    /// When it cannot be read or set aside.
    pub async fn check(&self, digest: &Digest) -> io::Result<bool> {
        let store = Arc::clone(&self.store);
        let digest = *digest;
        blocking(move || store.check(&digest)).await
    }

    /// Removes the damaged files that were set aside, and evicts what exceeds the limit; the number of files.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub async fn clean(&self) -> io::Result<usize> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let count = store.quarantine.clear()?;
            store.flush()?;
            store.trim_documents();
            let over = store.budget.total().saturating_sub(store.budget.limit());
            if over > 0 {
                store.evict(over);
            }
            Ok(count)
        })
        .await
    }

    /// What the bytes are made of.
    pub fn sums(&self) -> DiskUsage {
        let Store { budget, quarantine, .. } = &*self.store;
        let blobs = budget.standing(Kind::Blob);
        let documents = budget.standing(Kind::Document);
        DiskUsage { blobs, documents, quarantine: quarantine.bytes() }
    }
}

impl Store {
    fn inventory(&self, wanted: impl Fn(&Key) -> bool) -> io::Result<Vec<InventoryEntry>> {
        let mut found = Vec::new();
        let pinned = self.pinned()?;
        let recent = self.recent.noted();
        for first in 0..=u8::MAX {
            let mut from = Digest([0; 32]);
            let mut to = Digest([0xff; 32]);
            (from.0[0], to.0[0]) = (first, first);
            for (digest, row) in self.index.read(|txn| BLOBS.range(txn, from, to))? {
                let Some(row) = row.filter(|_| !self.is_gone(&digest)) else { continue };
                let Row { len, cost, used, names, mut tally } = row;
                let noted = recent.get(&digest).copied().unwrap_or_default();
                tally.add(noted.tally);
                let used = i64::try_from(used.max(noted.last)).ok();
                let used = used.and_then(|used| Timestamp::from_microsecond(used).ok()).unwrap_or_default();
                let keys = names.len();
                let names = names.into_iter().filter(|name| wanted(&name.key));
                found.extend(names.map(|Name { key, kept, stored_at, commit }| {
                    let pinned = pinned.binary_search(&key).is_ok();
                    InventoryEntry { key, digest, len, cost, keys, stored_at, commit, used, tally, kept, pinned }
                }));
            }
        }
        Ok(found)
    }

    /// Hashes one blob and sets it aside when it is damaged; false in that case. One that is gone is not damaged.
    pub(super) fn check(&self, digest: &Digest) -> io::Result<bool> {
        let Some(row) = self.row(digest)? else { return Ok(true) };
        let path = self.layout.sidecar(digest);
        if !is_whole(&path, &row) && !self.believe_sidecar(digest)? {
            // It was read without the blob's lock: somebody may have healed it.
            return self
                .set_aside(digest, "its sidecar is missing or damaged", || self.adopt(digest).is_none())
                .map(|()| false);
        }
        let Some(file) = self.open_blob(digest)? else { return self.missing(digest).map(|()| false) };
        if !file.fits(row.len) {
            return self.set_file_aside(digest, "its length is wrong", &file).map(|()| false);
        }
        if file.hash().is_ok_and(|found| found == *digest) {
            lock(&self.sound).insert(*digest);
            return Ok(true);
        }
        self.set_file_aside(digest, "its bytes do not have its digest", &file).map(|()| false)
    }
}

/// True when a sidecar says of every key what its row says.
fn is_whole(path: &Path, row: &Row) -> bool {
    Sidecar::read(path).is_ok_and(|sidecar| sidecar.names() == row.names)
}
