//! Recovery after a kill, or without an index: compares the folders with the index rows. Reads names and sidecars only;
//! hashes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use tracing::info;

use super::{
    budget::allocated_bytes,
    document_file,
    index::{self, BLOBS, DOCUMENTS, Index, IndexRow, IndexedKey},
    layout::{Layout, document_id},
    pending_updates::PendingUpdates,
    sidecar::row_from_sidecar,
    stage,
};
use crate::entry::Digest;

/// Changed rows per transaction: each transaction is synced, and rebuilding a lost index changes all rows.
const RECOVERY_BATCH_ROWS: usize = 4096;

/// Makes the index agree with the folders. Runs at start, before the tier is used.
pub(super) struct Recovery<'a> {
    layout: &'a Layout,
    index: &'a Index,
    updates: &'a PendingUpdates,
    stats: RecoveryStats,
    pending: RowChanges,
}

#[derive(Debug, Default)]
struct RecoveryStats {
    /// Files without a row that got one.
    adopted: usize,
    /// Incomplete files that were removed.
    removed: usize,
    /// Rows without a file.
    missing: usize,
}

/// Changes of blob rows that are not yet written.
#[derive(Debug, Default)]
struct RowChanges {
    lost: Vec<Digest>,
    adopted: Vec<(Digest, IndexRow)>,
}

impl<'a> Recovery<'a> {
    pub(super) fn new(layout: &'a Layout, index: &'a Index, updates: &'a PendingUpdates) -> Self {
        Self { layout, index, updates, stats: RecoveryStats::default(), pending: RowChanges::default() }
    }

    /// Compares all folders with the index. Blocks.
    pub(super) fn run(mut self) -> io::Result<()> {
        for first in 0..=u8::MAX {
            self.recover_shard(first)?;
            if self.pending.lost.len() + self.pending.adopted.len() >= RECOVERY_BATCH_ROWS {
                self.write_changes()?;
            }
        }
        self.write_changes()?;
        self.recover_documents()?;
        let RecoveryStats { adopted, removed, missing } = self.stats;
        info!(adopted, removed, missing, "the index agrees with the folders again");
        Ok(())
    }

    fn recover_shard(&mut self, first: u8) -> io::Result<()> {
        let mut blobs = BTreeSet::new();
        let mut sidecars = BTreeSet::new();
        for name in file_names(&self.layout.shard(first))? {
            match name.strip_suffix(".json") {
                Some(stem) => stem.parse().map(|digest| sidecars.insert(digest)).ok(),
                None => name.parse().map(|digest| blobs.insert(digest)).ok(),
            };
        }
        let rows: BTreeMap<Digest, Option<IndexRow>> =
            self.index.read(|txn| BLOBS.shard(txn, first))?.into_iter().collect();
        for digest in blobs.union(&sidecars) {
            let complete = blobs.contains(digest) && sidecars.contains(digest);
            let row = rows.get(digest).and_then(Option::as_ref);
            if complete && row.is_some_and(|row| !row.keys.is_empty()) {
                continue;
            }
            let adoptable = complete && row.is_none();
            let adopted = if adoptable { row_from_sidecar(self.layout, digest, self.updates.now()) } else { None };
            match adopted {
                Some(row) => {
                    self.stats.adopted += 1;
                    self.pending.adopted.push((*digest, row));
                }
                None => {
                    stage::remove_file(&self.layout.blob(digest))?;
                    stage::remove_file(&self.layout.sidecar(digest))?;
                    self.stats.removed += 1;
                    if rows.contains_key(digest) {
                        self.record_lost(*digest);
                    }
                }
            }
        }
        for digest in rows.keys().filter(|digest| !blobs.contains(digest) && !sidecars.contains(digest)) {
            self.record_lost(*digest);
        }
        Ok(())
    }

    fn record_lost(&mut self, digest: Digest) {
        self.stats.missing += 1;
        self.pending.lost.push(digest);
    }

    fn write_changes(&mut self) -> io::Result<()> {
        let RowChanges { lost, adopted } = std::mem::take(&mut self.pending);
        if lost.is_empty() && adopted.is_empty() {
            return Ok(());
        }
        self.index.write(|txn| {
            lost.iter().try_for_each(|digest| index::remove_blob(txn, digest).map(drop))?;
            for (digest, row) in &adopted {
                index::put_blob(txn, digest, row, None)?;
            }
            Ok(())
        })
    }

    fn recover_documents(&mut self) -> io::Result<()> {
        let mut rows: BTreeMap<Digest, Option<IndexRow>> =
            self.index.read(|txn| DOCUMENTS.all(txn))?.into_iter().collect();
        let mut adopted = Vec::new();
        for name in file_names(&self.layout.documents_dir())? {
            let Ok(id) = name.parse::<Digest>() else { continue };
            if rows.remove(&id).flatten().is_some() {
                continue;
            }
            let path = self.layout.document(&id);
            match document_file::read_key(&path)?.filter(|key| document_id(key) == id) {
                Some(key) => {
                    let len = fs::metadata(&path)?.len();
                    let keys = vec![IndexedKey::of_document(key)];
                    adopted.push((id, IndexRow::new(len, allocated_bytes(len), self.updates.now(), keys)));
                }
                None => {
                    stage::remove_file(&path)?;
                    self.stats.removed += 1;
                }
            }
        }
        self.stats.adopted += adopted.len();
        self.stats.missing += rows.len();
        if rows.is_empty() && adopted.is_empty() {
            return Ok(());
        }
        self.index.write(|txn| {
            for id in rows.keys() {
                DOCUMENTS.remove(txn, id)?;
                index::set_renewal(txn, id, None)?;
            }
            for (id, row) in &adopted {
                DOCUMENTS.put(txn, id, row)?;
            }
            Ok(())
        })
    }
}

/// The names of the files in a folder; none if the folder does not exist.
fn file_names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
