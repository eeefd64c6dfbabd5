//! The sidecar of a blob: for each key that is stored as these bytes, what is stored about it. It is the truth of
//! which the index is a copy.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::index::Name;
use crate::entry::{Key, Meta};

/// The content of `{sha256}.json`.
///
/// The description is per key, not per blob: the same bytes may be public under one key and private under another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sidecar {
    pub(super) entries: Vec<Entry>,
}

/// One key and what is stored about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) meta: Meta,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) kept: bool,
}

impl Sidecar {
    /// Reads a sidecar; [`io::ErrorKind::InvalidData`] when it is not one.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Meta> {
        self.entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.meta)
    }

    /// Puts a key, in place of an earlier entry of the same key.
    pub(super) fn put(&mut self, key: &Key, meta: Meta, kept: bool) {
        self.remove(key);
        self.entries.push(Entry { key: key.clone(), meta, kept });
    }

    /// Marks a key as one that is never evicted, or as any other; true when that changed it.
    pub(super) fn keep(&mut self, key: &Key, kept: bool) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.key == *key && entry.kept != kept);
        entry.map(|entry| entry.kept = kept).is_some()
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.entries.retain(|entry| entry.key != *key);
    }

    /// What the index says of the keys.
    pub(super) fn names(&self) -> Vec<Name> {
        let name = |Entry { key, meta, kept }: &Entry| Name {
            key: key.clone(),
            kept: *kept,
            stored_at: meta.stored_at,
            commit: meta.verified.commit.clone(),
        };
        self.entries.iter().map(name).collect()
    }
}
