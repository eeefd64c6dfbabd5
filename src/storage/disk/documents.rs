//! Documents on disk, one small file each. They have their own share of the limit, so archives never evict them.

use std::{collections::HashSet, io, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::warn;

use super::{
    budget::{Budget, StoredKind, allocated_bytes},
    document_file,
    health::{DiskArea, DiskHealth},
    index::{self, DOCUMENTS, Index, IndexRow, IndexedKey},
    layout::{Layout, document_id},
    pending_updates::PendingUpdates,
    quarantine::Quarantine,
    repair::Integrity,
    space::Space,
    stage::{self, StagedFile},
    usage_flush::UsageFlush,
};
use crate::{
    blocking::run_blocking_io,
    entry::{Digest, Document, DocumentMeta, Key},
};

/// Pending renewals beyond this number are flushed at once.
const MAX_PENDING_RENEWALS: usize = 1024;

/// Documents per write of the index while many are removed.
const REMOVAL_BATCH_DOCUMENTS: usize = 1024;

/// Most documents that are noted as damaged; those beyond are checked as if they had been removed.
const MAX_DAMAGED_DOCUMENTS: usize = 10_000;

/// The documents of the disk tier. Cheap to clone.
#[derive(Clone)]
pub struct DiskDocuments {
    store: Arc<DocumentStore>,
}

impl DiskDocuments {
    pub(super) fn new(store: Arc<DocumentStore>) -> Self {
        Self { store }
    }

    /// The document of a key. A damaged document is quarantined and reported as absent.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn get(&self, key: &Key) -> io::Result<Option<Document>> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        run_blocking_io(move || store.read(&key)).await
    }

    /// Reads the document of a key and quarantines a damaged one. Does not count as a use.
    ///
    /// # Errors
    /// When the file cannot be read or quarantined.
    pub async fn check(&self, key: &Key) -> io::Result<Integrity> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        run_blocking_io(move || store.check(&key)).await
    }

    /// When the document of a key was stored, by its file; `None` where there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn stored_at(&self, key: &Key) -> io::Result<Option<Timestamp>> {
        let path = self.store.layout.document(&document_id(key));
        run_blocking_io(move || stage::written_at(&path)).await
    }

    /// Stores a document, replacing an earlier one; durable when it returns.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when it is larger than the share of all documents, or when not enough can be
    /// evicted for it; otherwise when the file system fails. The earlier document is then still stored.
    pub async fn put(&self, key: &Key, document: &Document) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        let document = document.clone();
        run_blocking_io(move || store.write(&key, &document)).await
    }

    /// Renews the metadata of a document whose body is unchanged.
    ///
    /// The next [`DiskDocuments::get`] returns it; the next flush writes it. A crash loses at most half a minute of
    /// renewals: each costs one conditional request, and no document is lost.
    ///
    /// # Errors
    /// When too many renewals are pending and cannot be flushed.
    pub async fn put_meta(&self, key: &Key, meta: Arc<DocumentMeta>) -> io::Result<()> {
        if self.store.renew(key, meta) <= MAX_PENDING_RENEWALS {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.flush.run()).await
    }

    /// The keys of all documents.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn keys(&self) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        let rows = run_blocking_io(move || store.index.read(|txn| DOCUMENTS.all(txn))).await?;
        let keys = rows.into_iter().filter_map(|(_, row)| row).flat_map(|row| row.keys);
        Ok(keys.map(|indexed| indexed.key).collect())
    }

    /// Removes the document of a key.
    ///
    /// # Errors
    /// When the file system fails.
    pub async fn remove(&self, key: &Key) -> io::Result<()> {
        self.remove_all(vec![key.clone()]).await
    }

    /// Removes the documents of keys, which share the writes of the index.
    ///
    /// # Errors
    /// The first error; a document that cannot be removed does not stop the removal of the others.
    pub async fn remove_all(&self, keys: Vec<Key>) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.remove_all(&keys)).await
    }
}

/// The documents' files and index rows. All methods but [`DocumentStore::renew`] block.
pub(super) struct DocumentStore {
    layout: Arc<Layout>,
    index: Arc<Index>,
    budget: Arc<Budget>,
    updates: Arc<PendingUpdates>,
    flush: Arc<UsageFlush>,
    quarantine: Arc<Quarantine>,
    space: Arc<Space>,
    health: Arc<DiskHealth>,
    /// The share of the limit that documents may take, bytes.
    limit: u64,
    /// Held while the file of a document is published or removed.
    publishing: Mutex<()>,
    /// Documents that were quarantined and are not stored again: a check after that reports the damage, too.
    damaged: Mutex<HashSet<Digest>>,
}

/// The parts that the documents are built on.
pub(super) struct DocumentStoreParts {
    pub(super) layout: Arc<Layout>,
    pub(super) index: Arc<Index>,
    pub(super) budget: Arc<Budget>,
    pub(super) updates: Arc<PendingUpdates>,
    pub(super) flush: Arc<UsageFlush>,
    pub(super) quarantine: Arc<Quarantine>,
    pub(super) space: Arc<Space>,
    pub(super) health: Arc<DiskHealth>,
}

/// A document whose file cannot be removed.
struct StuckDocument {
    id: Digest,
    cause: io::Error,
}

impl DocumentStore {
    /// A store of at most `limit` bytes.
    pub(super) fn new(parts: DocumentStoreParts, limit: u64) -> Self {
        let DocumentStoreParts { layout, index, budget, updates, flush, quarantine, space, health } = parts;
        let publishing = Mutex::default();
        let damaged = Mutex::default();
        Self { layout, index, budget, updates, flush, quarantine, space, health, limit, publishing, damaged }
    }

    /// Loads the bytes of all documents from the index.
    pub(super) fn load(&self) -> io::Result<()> {
        let totals = self.index.read(|txn| DOCUMENTS.totals(txn))?;
        self.budget.account_existing(totals.bytes).commit(StoredKind::Document);
        Ok(())
    }

    /// Records renewed metadata; returns the number of pending renewals.
    fn renew(&self, key: &Key, meta: Arc<DocumentMeta>) -> usize {
        let id = document_id(key);
        self.updates.record_document_use(id);
        self.updates.put_renewal(id, meta)
    }

    fn read(&self, key: &Key) -> io::Result<Option<Document>> {
        let id = document_id(key);
        let path = self.layout.document(&id);
        let Some(bytes) = document_file::read(&path)? else { return Ok(None) };
        let Some(mut document) = document_file::parse(key, bytes) else {
            self.quarantine_damaged(key, &id)?;
            return Ok(None);
        };
        let renewal = match self.updates.renewal(&id) {
            Some(meta) => Some(meta),
            None => {
                let bytes = self.index.read(|txn| index::renewal(txn, &id))?;
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(Arc::new)
            }
        };
        // A renewal applies to one body, and a renewal older than the file may have been written after it.
        let applies = |meta: &Arc<DocumentMeta>| {
            meta.digest == document.meta.digest && meta.validated_at >= document.meta.validated_at
        };
        if let Some(meta) = renewal.filter(applies) {
            document.meta = meta;
        }
        self.updates.record_document_use(id);
        Ok(Some(document))
    }

    fn check(&self, key: &Key) -> io::Result<Integrity> {
        let id = document_id(key);
        let bytes = document_file::read(&self.layout.document(&id))?;
        if bytes.is_some_and(|bytes| document_file::parse(key, bytes).is_some()) {
            return Ok(Integrity::Intact);
        }
        self.quarantine_damaged(key, &id)
    }

    fn write(&self, key: &Key, document: &Document) -> io::Result<()> {
        let mut area = DiskArea::Staging;
        let written = self.write_steps(key, document, &mut area);
        self.space.resize_index_reservation();
        if let Err(error) = &written {
            self.health.record_failure(area, error);
            return written;
        }
        self.health.record(&[DiskArea::Documents, DiskArea::Staging, DiskArea::Index], written)
    }

    /// As [`DocumentStore::write`]; sets `area` to the area that each step writes.
    fn write_steps(&self, key: &Key, document: &Document, area: &mut DiskArea) -> io::Result<()> {
        let id = document_id(key);
        let header = document_file::header(key, document)?;
        let len = (header.len() + document.body.len()) as u64;
        let cost = allocated_bytes(len);
        if cost > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let reservation = self.space.reserve(cost)?;
        let staged = StagedFile::write(self.layout.next_staging_path(), &[&header, &document.body])?;
        let _publishing = self.publishing.lock();
        let old = self.index.read(|txn| DOCUMENTS.get(txn, &id))?;
        let row = IndexRow::new(len, cost, self.updates.now(), vec![IndexedKey::of_document(key.clone())]);
        *area = DiskArea::Documents;
        stage::publish(&self.layout.documents_dir(), vec![(staged, self.layout.document(&id))], |_| {})?;
        self.updates.forget_renewal(&id);
        *area = DiskArea::Index;
        let written = self.index.write(|txn| {
            DOCUMENTS.put(txn, &id, &row)?;
            index::set_renewal(txn, &id, None)
        });
        if written.is_err() {
            // The file is published and counted, its row is missing.
            self.index.require_rescan();
        }
        if let Some(old) = old {
            drop(self.budget.release(StoredKind::Document, old.cost));
        }
        reservation.commit(StoredKind::Document);
        written?;
        self.damaged.lock().remove(&id);
        self.trim_locked(Some(&id));
        Ok(())
    }

    /// Removes documents, least recently used first, until they fit into their share of the limit.
    pub(super) fn trim(&self) {
        let _publishing = self.publishing.lock();
        self.trim_locked(None);
    }

    /// As [`DocumentStore::trim`], without removing `spared`. The caller holds `publishing`.
    fn trim_locked(&self, spared: Option<&Digest>) {
        if self.excess() == 0 || self.flush.run().is_err() {
            return;
        }
        let mut skipped: HashSet<Digest> = spared.into_iter().copied().collect();
        // Each round removes its victims or skips them from then on.
        while self.excess() > 0 {
            let mut excess = self.excess();
            let mut victims = Vec::new();
            let selected = self.index.read(|txn| {
                DOCUMENTS.visit_by_use(txn, |id, cost| {
                    if !skipped.contains(&id) {
                        victims.push(id);
                        excess = excess.saturating_sub(cost);
                    }
                    excess > 0
                })
            });
            if victims.is_empty() {
                return;
            }
            match selected.and_then(|()| self.remove_locked(&victims)) {
                Ok(stuck) => {
                    if let Some(StuckDocument { cause, .. }) = stuck.first() {
                        warn!(count = stuck.len(), %cause, "documents cannot be evicted");
                    }
                    skipped.extend(stuck.iter().map(|stuck| stuck.id));
                }
                Err(cause) => {
                    warn!(%cause, "documents cannot be evicted");
                    return;
                }
            }
        }
    }

    /// Bytes by which the documents exceed their share of the limit.
    fn excess(&self) -> u64 {
        self.budget.committed(StoredKind::Document).saturating_sub(self.limit)
    }

    fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        let mut outcome = Ok(());
        for batch in keys.chunks(REMOVAL_BATCH_DOCUMENTS) {
            let ids: Vec<_> = batch.iter().map(document_id).collect();
            let _publishing = self.publishing.lock();
            let removed = self.remove_locked(&ids);
            let mut damaged = self.damaged.lock();
            for id in &ids {
                damaged.remove(id);
            }
            drop(damaged);
            outcome = outcome.and(removed.and_then(|stuck| stuck.into_iter().try_for_each(|stuck| Err(stuck.cause))));
        }
        self.space.resize_index_reservation();
        if let Err(error) = &outcome {
            self.health.record_failure(DiskArea::Documents, error);
        }
        outcome
    }

    /// Quarantines a document whose file is damaged; removes the row of one whose file is missing.
    fn quarantine_damaged(&self, key: &Key, id: &Digest) -> io::Result<Integrity> {
        let _publishing = self.publishing.lock();
        let path = self.layout.document(id);
        match document_file::read(&path)? {
            // A write since the first read has replaced the damaged file.
            Some(bytes) if document_file::parse(key, bytes.clone()).is_some() => return Ok(Integrity::Intact),
            Some(bytes) => {
                warn!(%key, "a damaged document is quarantined");
                if let Some(reservation) = self.budget.reserve(allocated_bytes(bytes.len() as u64)) {
                    self.quarantine.take(&path, reservation, None)?;
                }
            }
            None if self.index.read(|txn| DOCUMENTS.get(txn, id))?.is_none() => {
                let is_damaged = self.damaged.lock().contains(id);
                return Ok(if is_damaged { Integrity::Quarantined } else { Integrity::Gone });
            }
            None => warn!(%key, "the file of a document is missing"),
        }
        self.remove_locked(&[*id])?.into_iter().try_for_each(|stuck| Err(stuck.cause))?;
        let mut damaged = self.damaged.lock();
        if damaged.len() < MAX_DAMAGED_DOCUMENTS {
            damaged.insert(*id);
        }
        Ok(Integrity::Quarantined)
    }

    /// Removes files and rows; returns the documents whose files cannot be removed, which stay. The caller holds
    /// `publishing`.
    ///
    /// # Errors
    /// When the index cannot be written: rows then stay without files until they are removed again.
    fn remove_locked(&self, ids: &[Digest]) -> io::Result<Vec<StuckDocument>> {
        let mut stuck = Vec::new();
        for batch in ids.chunks(REMOVAL_BATCH_DOCUMENTS) {
            let mut removed = Vec::new();
            for id in batch {
                match stage::remove_file(&self.layout.document(id)) {
                    Ok(()) => removed.push(*id),
                    Err(cause) => stuck.push(StuckDocument { id: *id, cause }),
                }
            }
            removed.iter().for_each(|id| self.updates.forget_document(id));
            let rows = self.index.write(|txn| {
                removed.iter().try_for_each(|id| index::set_renewal(txn, id, None))?;
                DOCUMENTS.remove_all(txn, &removed)
            })?;
            for (_, row) in rows {
                drop(self.budget.release(StoredKind::Document, row.cost));
            }
        }
        Ok(stuck)
    }
}
