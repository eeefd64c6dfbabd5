//! The sidecar of a blob: the metadata of each key that is stored as these bytes. The sidecars are authoritative; the
//! index is a copy that can be rebuilt from them.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    budget::allocated_bytes,
    index::{IndexRow, IndexedKey},
    layout::Layout,
    skipped::is_damage,
};
use crate::entry::{Digest, Key, Meta};

/// The content of `{sha256}.json`.
///
/// Metadata is per key, not per blob: the same bytes may be public under one key and private under another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sidecar {
    entries: Vec<SidecarEntry>,
}

/// One key and its metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SidecarEntry {
    key: Key,
    meta: Meta,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    kept: bool,
}

impl Sidecar {
    /// Reads a sidecar; [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] if it does not parse.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    pub(super) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Meta> {
        self.entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.meta)
    }

    /// The keys, in the order in which they were stored.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.iter().map(|entry| &entry.key)
    }

    /// Stores a key, replacing an earlier entry of the same key.
    pub(super) fn put(&mut self, key: &Key, meta: Meta, kept: bool) {
        self.remove(key);
        self.entries.push(SidecarEntry { key: key.clone(), meta, kept });
    }

    /// Sets or clears a key's keep mark; true if that changed it.
    pub(super) fn set_kept(&mut self, key: &Key, kept: bool) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.key == *key && entry.kept != kept);
        entry.map(|entry| entry.kept = kept).is_some()
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.retain(|other| other != key);
    }

    /// Removes the keys that do not satisfy `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.entries.retain(|entry| keep(&entry.key));
    }

    /// The keys as an index row records them.
    pub(super) fn indexed_keys(&self) -> Vec<IndexedKey> {
        let indexed = |SidecarEntry { key, meta, kept }: &SidecarEntry| IndexedKey {
            key: key.clone(),
            kept: *kept,
            stored_at: meta.stored_at,
            commit: meta.verified.commit.clone(),
        };
        self.entries.iter().map(indexed).collect()
    }

    /// True if every entry describes a blob of this digest and length, and there is at least one.
    fn describes(&self, digest: &Digest, len: u64) -> bool {
        let fits = |entry: &SidecarEntry| entry.meta.digest == *digest && entry.meta.len == len;
        !self.entries.is_empty() && self.entries.iter().all(fits)
    }
}

/// An index row for a stored blob, made from its sidecar; `None` unless both files exist and the sidecar gives the blob's
/// digest and length. Does not hash the blob.
///
/// # Errors
/// When the disk fails: then nothing is known about the blob.
pub(super) fn row_from_sidecar(layout: &Layout, digest: &Digest, last_use: u64) -> io::Result<Option<IndexRow>> {
    match read_row(layout, digest, last_use) {
        Err(error) if is_damage(&error) => Ok(None),
        row => row,
    }
}

fn read_row(layout: &Layout, digest: &Digest, last_use: u64) -> io::Result<Option<IndexRow>> {
    let path = layout.sidecar(digest);
    let sidecar = Sidecar::read(&path)?;
    let len = fs::metadata(layout.blob(digest))?.len();
    if !sidecar.describes(digest, len) {
        return Ok(None);
    }
    let cost = allocated_bytes(len) + allocated_bytes(fs::metadata(&path)?.len());
    Ok(Some(IndexRow::new(len, cost, last_use, sidecar.indexed_keys())))
}
