//! What lies in the tier, for whoever administrates it: lists, marks, checks and clears.

use std::{io, sync::Arc};

use jiff::Timestamp;

use super::{
    Disk, blocking,
    budget::Kind,
    index::{BLOBS, DOCUMENTS},
    sidecar::Sidecar,
    store::{Store, lock},
};
use crate::entry::{Digest, Key, Meta};

/// One key and the blob that is stored under it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The key.
    pub key: Key,
    /// What is stored about it.
    pub meta: Meta,
    /// Bytes that the blob takes on disk; keys that share a blob share them.
    pub cost: u64,
    /// When the blob was last used.
    pub used: Timestamp,
    /// Never evicted.
    pub kept: bool,
}

/// What the tier's bytes are made of.
#[derive(Clone, Copy, Debug)]
pub struct Sums {
    /// Blobs with their sidecars, bytes.
    pub blobs: u64,
    /// Documents, bytes.
    pub documents: u64,
    /// Damaged files that were set aside, bytes.
    pub quarantine: u64,
}

impl Disk {
    /// Every key that leads to a stored blob, in order of digests. Reads every sidecar.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn inventory(&self) -> io::Result<Vec<Stored>> {
        let store = Arc::clone(&self.store);
        blocking(move || store.inventory()).await
    }

    /// The keys of all documents.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn document_keys(&self) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        let all = (Digest([0; 32]), Digest([0xff; 32]));
        let rows = blocking(move || store.index.read(|txn| DOCUMENTS.range(txn, all.0, all.1))).await?;
        Ok(rows.into_iter().filter_map(|(_, row)| row).flat_map(|row| row.keys).collect())
    }

    /// Marks what is stored under a key as never to be evicted, or as any other; false when nothing is stored.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn keep(&self, key: &Key, kept: bool) -> io::Result<bool> {
        let (store, key) = (Arc::clone(&self.store), key.clone());
        blocking(move || store.keep(&key, kept)).await
    }

    /// Hashes a blob; false when it is not what its name says: then it has been set aside.
    ///
    /// # Errors
    /// When it cannot be read or set aside.
    pub async fn check(&self, digest: &Digest) -> io::Result<bool> {
        let (store, digest) = (Arc::clone(&self.store), *digest);
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
    pub fn sums(&self) -> Sums {
        let Store { budget, quarantine, .. } = &*self.store;
        let (blobs, documents) = (budget.standing(Kind::Blob), budget.standing(Kind::Document));
        Sums { blobs, documents, quarantine: quarantine.bytes() }
    }
}

impl Store {
    fn inventory(&self) -> io::Result<Vec<Stored>> {
        let mut found = Vec::new();
        for first in 0..=u8::MAX {
            let (mut from, mut to) = (Digest([0; 32]), Digest([0xff; 32]));
            (from.0[0], to.0[0]) = (first, first);
            for (digest, row) in self.index.read(|txn| BLOBS.range(txn, from, to))? {
                let Some(row) = row.filter(|_| !self.is_gone(&digest)) else { continue };
                // Evicted or damaged between the two reads: it is not there to be shown.
                let Ok(sidecar) = Sidecar::read(&self.layout.sidecar(&digest)) else { continue };
                let used = self.recent.lock().blobs.get(&digest).copied().unwrap_or(row.used);
                let used = i64::try_from(used).ok().and_then(|used| Timestamp::from_microsecond(used).ok());
                let used = used.unwrap_or_default();
                let entries = sidecar.entries.into_iter().filter(|entry| row.keys.contains(&entry.key));
                found.extend(entries.map(|entry| Stored {
                    key: entry.key,
                    meta: entry.meta,
                    cost: row.cost,
                    used,
                    kept: entry.kept,
                }));
            }
        }
        Ok(found)
    }

    /// Hashes one blob and sets it aside when it is damaged; false in that case. One that is gone is not damaged.
    pub(super) fn check(&self, digest: &Digest) -> io::Result<bool> {
        let Some(row) = self.row(digest)? else { return Ok(true) };
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
