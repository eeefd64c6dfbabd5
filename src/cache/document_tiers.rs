//! The tiers that hold documents: memory in front of disk.

use std::{io, sync::Arc};

use super::{RemovedDocument, import_error::ImportError};
use crate::{
    clock::Clock,
    entry::{Digest, Document, DocumentMeta, Key},
    storage::{
        Generations,
        disk::{Disk, Integrity},
        memory::{self, MemoryDocuments},
    },
};

/// Documents of any age, in memory and on disk.
pub struct DocumentTiers {
    memory: MemoryDocuments,
    disk: Arc<Disk>,
    generations: Generations,
    clock: Clock,
}

/// What [`DocumentTiers::check`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentCheck {
    /// It is intact on disk.
    Intact,
    /// It was damaged or missing, and was written again from memory.
    Repaired,
    /// It was damaged, and is quarantined, or it was missing.
    Damaged,
    /// It is no longer on disk: it was evicted or removed.
    Gone,
}

/// What [`DocumentTiers::import`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentImport {
    /// The document is stored.
    Stored,
    /// The stored document was validated as late or later, and stays.
    Older,
    /// As `Older`, where only memory held the stored document: it is on disk now.
    OlderThanMemory,
}

/// Which parts of a document [`DocumentTiers::store`] writes to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentChange {
    /// Body and meta.
    Body,
    /// The meta alone: the body on disk is the same.
    Meta,
}

/// Where [`DocumentTiers::store`] has put a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentPlace {
    /// On disk: later requests find it, also after a restart.
    Disk,
    /// In memory alone, from where it may be evicted at any time.
    MemoryOnly,
}

impl DocumentTiers {
    pub(super) fn new(memory: &memory::Config, disk: Arc<Disk>, generations: Generations, clock: Clock) -> Self {
        Self { memory: MemoryDocuments::new(memory), disk, generations, clock }
    }

    /// What memory holds under a key, whatever its age.
    pub fn in_memory(&self, key: &Key) -> Option<Document> {
        self.memory.get(key)
    }

    /// What is stored under a key, whatever its age; caches it in memory. An unreadable document counts as absent.
    pub async fn get(&self, key: &Key) -> Option<Document> {
        if let Some(document) = self.memory.get(key) {
            return Some(document);
        }
        let before = self.generations.snapshot(key);
        match self.disk.documents().get(key).await {
            Ok(found) => found.inspect(|document| {
                before.run_if_current(|| self.memory.put_if_absent(key, document));
            }),
            Err(error) => {
                tracing::warn!(%key, %error, "a stored document cannot be read");
                None
            }
        }
    }

    /// As [`DocumentTiers::get`], for a walk through many: caches nothing.
    pub async fn peek(&self, key: &Key) -> Option<Document> {
        match self.memory.get(key) {
            Some(document) => Some(document),
            None => self.disk.documents().get(key).await.ok().flatten(),
        }
    }

    /// True when the document is on disk, or one that was validated as late or later.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn has(&self, key: &Key, meta: &DocumentMeta) -> io::Result<bool> {
        let stored = self.disk.documents().get(key).await?;
        Ok(stored.is_some_and(|stored| stored.meta.digest == meta.digest || is_as_late(&stored, meta)))
    }

    /// True when the document on disk has this body. Reads it.
    pub(super) async fn is_on_disk(&self, key: &Key, body: &Digest) -> bool {
        let stored = self.disk.documents().get(key).await;
        stored.is_ok_and(|stored| stored.is_some_and(|stored| stored.meta.digest == *body))
    }

    /// Stores a document in memory and on disk. A disk error is logged and does not fail the request.
    pub(super) async fn store(&self, key: &Key, document: &Document, change: DocumentChange) -> DocumentPlace {
        self.generations.bump_with(key, || self.memory.put(key, document.clone()));
        let documents = self.disk.documents();
        let stored = match change {
            DocumentChange::Body => documents.put(key, document).await,
            DocumentChange::Meta => documents.put_meta(key, document.meta.clone()).await,
        };
        let place = match stored {
            Ok(()) => DocumentPlace::Disk,
            Err(error) => {
                tracing::warn!(%key, %error, "a document is stored in memory only");
                DocumentPlace::MemoryOnly
            }
        };
        // A reader that missed it on disk before this write, and in memory after an eviction, reads again.
        self.generations.bump(key);
        place
    }

    /// Removes documents: the next request of each fetches it whole.
    ///
    /// # Errors
    /// When one cannot be removed from disk; the others, and all from memory, are removed all the same.
    pub async fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        let removed = self.disk.documents().remove_all(keys.to_vec()).await;
        for key in keys {
            self.generations.bump_with(key, || self.memory.remove(key));
        }
        removed
    }

    /// Removes documents, unless they were confirmed or stored after their removal.
    ///
    /// # Errors
    /// As [`DocumentTiers::remove_all`]; when the date of one cannot be read, none is removed.
    pub async fn remove_until(&self, documents: &[RemovedDocument]) -> io::Result<()> {
        let mut keys = Vec::new();
        for RemovedDocument { key, at } in documents {
            let is_confirmed = self.peek(key).await.is_some_and(|document| document.meta.validated_at > *at);
            let is_later =
                is_confirmed || self.disk.documents().stored_at(key).await?.is_some_and(|stored| stored > *at);
            if !is_later {
                keys.push(key.clone());
            }
        }
        self.remove_all(&keys).await
    }

    /// Removes the documents whose digest and time of validation are still the given ones.
    ///
    /// # Errors
    /// As [`DocumentTiers::remove_all`].
    pub async fn remove_same(&self, documents: &[(Key, Arc<DocumentMeta>)]) -> io::Result<()> {
        let mut keys = Vec::new();
        for (key, meta) in documents {
            let is_same =
                |held: &Document| held.meta.digest == meta.digest && held.meta.validated_at == meta.validated_at;
            if self.peek(key).await.is_some_and(|held| is_same(&held)) {
                keys.push(key.clone());
            }
        }
        self.remove_all(&keys).await
    }

    /// Reads a document from disk, where a damaged one is quarantined; writes the copy in memory, if there is one, in its
    /// place.
    ///
    /// # Errors
    /// When the disk cannot be read or written.
    pub async fn check(&self, key: &Key) -> io::Result<DocumentCheck> {
        match self.disk.documents().check(key).await? {
            Integrity::Intact => return Ok(DocumentCheck::Intact),
            Integrity::Gone => return Ok(DocumentCheck::Gone),
            Integrity::Quarantined => {}
        }
        let Some(document) = self.memory.get(key) else { return Ok(DocumentCheck::Damaged) };
        self.disk.documents().put(key, &document).await?;
        Ok(DocumentCheck::Repaired)
    }

    /// Imports a document, unless a newer one is stored.
    ///
    /// Its validators are dropped: this mirror's upstream may never have issued them.
    ///
    /// # Errors
    /// `Invalid` when the body does not have the digest of its meta; `NoRoom` and `Io` when it cannot be stored.
    pub(super) async fn import(&self, key: &Key, mut document: Document) -> Result<DocumentImport, ImportError> {
        if Digest::of(&document.body) != document.meta.digest {
            return Err(ImportError::Invalid("the document does not have the digest of its description".into()));
        }
        if self.disk.documents().get(key).await?.is_some_and(|stored| is_as_late(&stored, &document.meta)) {
            return Ok(DocumentImport::Older);
        }
        let newer = self.memory.get(key).filter(|known| is_as_late(known, &document.meta));
        let outcome = if newer.is_some() { DocumentImport::OlderThanMemory } else { DocumentImport::Stored };
        let meta = Arc::make_mut(&mut document.meta);
        let now = self.clock.now();
        meta.validated_at = meta.validated_at.min(now);
        meta.changed_at = meta.changed_at.min(now);
        meta.validators.pages = Vec::new();
        meta.validators.last_full_fetch = None;
        // A newer document that only memory holds failed to reach the disk when it came.
        let document = newer.unwrap_or(document);
        self.disk.documents().put(key, &document).await.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => ImportError::NoRoom,
            _ => ImportError::Io(error),
        })?;
        self.generations.bump_with(key, || self.memory.put(key, document));
        Ok(outcome)
    }
}

fn is_as_late(stored: &Document, meta: &DocumentMeta) -> bool {
    stored.meta.validated_at >= meta.validated_at
}

#[cfg(test)]
impl DocumentTiers {
    /// Drops the copy in memory, as an eviction does.
    pub(super) fn evict_from_memory(&self, key: &Key) {
        self.memory.remove(key);
    }
}
