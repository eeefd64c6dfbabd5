//! The sidecar of a blob: for each key that is stored as these bytes, what is stored about it. It is the truth of
//! which the index is a copy.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

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
    pub(super) fn put(&mut self, key: &Key, meta: Meta) {
        self.remove(key);
        self.entries.push(Entry { key: key.clone(), meta });
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.entries.retain(|entry| entry.key != *key);
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.entries.iter().map(|entry| entry.key.clone()).collect()
    }
}
