//! Documents on disk: one small file each. They are never evicted to make room for blobs.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    blocking,
    budget::{Kind, blocks},
    health::DiskArea,
    index::{self, DOCUMENTS, Name, Row},
    layout::document_id,
    stage::{self, Staged},
    store::{Store, lock},
};
use crate::entry::{Digest, Document, DocumentMeta, Key};

/// So many renewals may wait in memory; the next one writes them to the index.
const RENEWALS: usize = 1024;
/// Longest first line of a document file that is read, bytes.
const HEADER: u64 = 1 << 20;

/// The documents of the disk tier. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    pub(super) store: Arc<Store>,
}

/// The first line of a document file; the body follows.
#[derive(Serialize, Deserialize)]
struct Header {
    key: Key,
    meta: DocumentMeta,
}

impl Documents {
    /// Looks a document up. One whose body has not its digest is set aside and reported as absent.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn get(&self, key: &Key) -> io::Result<Option<Document>> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.read_document(&key)).await
    }

    /// Stores a document in place of an earlier one; durable when it returns.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when it is larger than all documents may be, or when nothing can be evicted for
    /// it; otherwise what the file system says. The earlier document is then still there.
    pub async fn put(&self, key: &Key, document: &Document) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        let document = document.clone();
        blocking(move || store.write_document(&key, &document)).await
    }

    /// Renews what is stored about a document whose body has not changed.
    ///
    /// It is seen by the next [`Documents::get`] and written with the next flush: a crash loses at most half a minute
    /// of renewals, which costs a conditional request each and no document. Nothing is written per call.
    ///
    /// # Errors
    /// When very many renewals wait and cannot be written.
    pub async fn put_meta(&self, key: &Key, meta: Arc<DocumentMeta>) -> io::Result<()> {
        let id = document_id(key);
        self.store.recent.use_document(id);
        let waiting = {
            let mut waiting = self.store.recent.lock();
            waiting.renewals.insert(id, meta);
            waiting.renewals.len()
        };
        if waiting <= RENEWALS {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        blocking(move || store.flush()).await
    }

    /// Removes a document.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn remove(&self, key: &Key) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.remove_document(&key)).await
    }
}

impl Store {
    fn read_document(&self, key: &Key) -> io::Result<Option<Document>> {
        let id = document_id(key);
        let path = self.layout.document(&id);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let Some(mut document) = parse(key, bytes) else {
            self.set_document_aside(key, &id)?;
            return Ok(None);
        };
        let waiting = self.recent.lock().renewals.get(&id).cloned();
        let renewal = match waiting {
            Some(meta) => Some(meta),
            None => {
                let bytes = self.index.read(|txn| index::renewal(txn, &id))?;
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(Arc::new)
            }
        };
        // A renewal is of one body; an older one than the file's own may have been on its way when the file was written.
        let newer = |meta: &Arc<DocumentMeta>| {
            meta.digest == document.meta.digest && meta.validated_at >= document.meta.validated_at
        };
        if let Some(meta) = renewal.filter(newer) {
            document.meta = meta;
        }
        self.recent.use_document(id);
        Ok(Some(document))
    }

    fn write_document(&self, key: &Key, document: &Document) -> io::Result<()> {
        let mut part = DiskArea::Staging;
        let written = self.write_steps(key, document, &mut part);
        self.settle();
        if let Err(error) = &written {
            self.health.fails(part, error);
            return written;
        }
        self.health.note(&[DiskArea::Documents, DiskArea::Staging, DiskArea::Index], written)
    }

    /// As [`Store::write_document`]; `part` is where it got to.
    fn write_steps(&self, key: &Key, document: &Document, part: &mut DiskArea) -> io::Result<()> {
        let id = document_id(key);
        let mut header = serde_json::to_vec(&Header { key: key.clone(), meta: DocumentMeta::clone(&document.meta) })?;
        header.push(b'\n');
        let len = (header.len() + document.body.len()) as u64;
        let cost = blocks(len);
        if cost > self.documents_limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let charge = self.take(cost)?;
        let staged = Staged::write(self.layout.staging(), &[&header, &document.body])?;
        let _one = lock(&self.documents);
        let old = self.index.read(|txn| DOCUMENTS.get(txn, &id))?;
        let row = Row::new(len, cost, self.recent.now(), vec![Name::of(key.clone())]);
        *part = DiskArea::Documents;
        stage::publish(&self.layout.documents_dir(), vec![(staged, self.layout.document(&id))], |_| {})?;
        self.recent.lock().renewals.remove(&id);
        *part = DiskArea::Index;
        let written = self.index.write(|txn| {
            DOCUMENTS.put(txn, &id, &row)?;
            index::set_renewal(txn, &id, None)
        });
        if written.is_err() {
            // The file is there and counted; the row is not. The next start compares them.
            self.doubt.store(true, Ordering::SeqCst);
        }
        if let Some(old) = old {
            drop(self.budget.release(Kind::Document, old.cost));
        }
        charge.commit(Kind::Document);
        written?;
        self.trim_documents_locked(&id);
        Ok(())
    }

    /// Removes the documents used least recently until they fit into their part of the limit.
    pub(super) fn trim_documents(&self) {
        let _one = lock(&self.documents);
        self.trim_documents_locked(&Digest([0; 32]));
    }

    /// As above, sparing one; the caller holds the lock.
    fn trim_documents_locked(&self, spare: &Digest) {
        if self.budget.standing(Kind::Document) <= self.documents_limit || self.flush().is_err() {
            return;
        }
        let mut over = self.budget.standing(Kind::Document) - self.documents_limit;
        let mut victims = Vec::new();
        let picked = self.index.read(|txn| {
            DOCUMENTS.by_use(txn, |id, cost| {
                if id != *spare {
                    victims.push(id);
                    over = over.saturating_sub(cost);
                }
                over > 0
            })
        });
        let dropped = picked.and_then(|()| victims.iter().try_for_each(|id| self.drop_document(id)));
        if let Err(cause) = dropped {
            warn!(%cause, "documents cannot be removed to make room for others");
        }
    }

    fn remove_document(&self, key: &Key) -> io::Result<()> {
        let removed = {
            let _one = lock(&self.documents);
            self.drop_document(&document_id(key))
        };
        self.settle();
        if let Err(error) = &removed {
            self.health.fails(DiskArea::Documents, error);
        }
        removed
    }

    fn set_document_aside(&self, key: &Key, id: &Digest) -> io::Result<()> {
        let _one = lock(&self.documents);
        let path = self.layout.document(id);
        // It may have been written anew since it was found to be damaged.
        let Some(bytes) = read(&path)?.filter(|bytes| parse(key, bytes.clone()).is_none()) else { return Ok(()) };
        warn!(%key, "a damaged document is set aside");
        if let Some(charge) = self.budget.take(blocks(bytes.len() as u64)) {
            self.quarantine.take(&path, charge, None)?;
        }
        self.drop_document(id)
    }

    /// Removes file and row; the caller holds the lock.
    fn drop_document(&self, id: &Digest) -> io::Result<()> {
        stage::remove(&self.layout.document(id))?;
        {
            let mut waiting = self.recent.lock();
            waiting.renewals.remove(id);
            waiting.documents.remove(id);
        }
        let row = self.index.write(|txn| {
            index::set_renewal(txn, id, None)?;
            DOCUMENTS.remove(txn, id)
        })?;
        drop(row.map(|row| self.budget.release(Kind::Document, row.cost)));
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<Bytes>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The document in a file, if it is the one of `key` and undamaged.
fn parse(key: &Key, bytes: Bytes) -> Option<Document> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = bytes.slice(end + 1..);
    let good = header.key == *key && Digest::of(&body) == header.meta.digest;
    good.then(|| Document { meta: Arc::new(header.meta), body })
}

/// The key that a document file names in its first line.
pub(super) fn key_of(path: &Path) -> io::Result<Option<Key>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).take(HEADER).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice::<Header>(&line).ok().map(|header| header.key))
}
