//! Recovery after a kill, or without an index: compares the folders with the index rows. Reads names and sidecars only;
//! hashes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use tracing::{debug, info};

use super::{
    budget::allocated_bytes,
    document_file,
    index::{self, BLOBS, DOCUMENTS, Index, IndexRow, IndexedKey, PinState, QueuedUpload},
    layout::{Layout, document_id},
    pending_updates::PendingUpdates,
    sidecar::row_from_sidecar,
    skipped::SkippedFiles,
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
    skipped: &'a SkippedFiles,
    adopted: AdoptedBlobs,
    stats: RecoveryStats,
    pending: RowChanges,
}

/// What becomes of blobs without a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdoptedBlobs {
    /// They get their row.
    Indexed,
    /// They get their row and are queued for their upload: the entry in the queue was lost with the row.
    Queued,
}

#[derive(Debug, Default)]
struct RecoveryStats {
    /// Files without a row that got one.
    adopted: usize,
    /// Incomplete or invalid files that were removed.
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
    pub(super) fn new(
        layout: &'a Layout,
        index: &'a Index,
        updates: &'a PendingUpdates,
        skipped: &'a SkippedFiles,
        adopted: AdoptedBlobs,
    ) -> Self {
        Self {
            layout,
            index,
            updates,
            skipped,
            adopted,
            stats: RecoveryStats::default(),
            pending: RowChanges::default(),
        }
    }

    /// Compares all folders with the index. Blocks.
    pub(super) fn run(mut self) -> io::Result<()> {
        let folders = self.shard_folders();
        let has_rows = !self.index.read(|txn| BLOBS.is_empty(txn))?;
        for first in 0..=u8::MAX {
            let has_folder = folders.as_ref().is_none_or(|folders| folders.contains(&self.layout.shard(first)));
            if has_rows || has_folder {
                self.recover_shard(first)?;
            }
            if self.pending.lost.len() + self.pending.adopted.len() >= RECOVERY_BATCH_ROWS {
                self.write_changes()?;
            }
        }
        self.write_changes()?;
        self.recover_documents()?;
        let RecoveryStats { adopted, removed, missing } = self.stats;
        if adopted + removed + missing > 0 {
            info!(adopted, removed, missing, "the index agrees with the folders again");
        } else {
            debug!("the index agrees with the folders");
        }
        Ok(())
    }

    /// The existing shard folders; `None` if they cannot be listed.
    fn shard_folders(&mut self) -> Option<HashSet<PathBuf>> {
        let blobs = self.layout.blobs_dir();
        Some(self.file_names(&blobs)?.iter().map(|name| blobs.join(name)).collect())
    }

    fn recover_shard(&mut self, first: u8) -> io::Result<()> {
        let mut blobs = BTreeSet::new();
        let mut sidecars = BTreeSet::new();
        let Some(names) = self.file_names(&self.layout.shard(first)) else { return Ok(()) };
        for name in names {
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
            let adopted = if adoptable { row_from_sidecar(self.layout, digest, self.updates.now()) } else { Ok(None) };
            match adopted {
                Ok(Some(row)) => {
                    self.stats.adopted += 1;
                    self.pending.adopted.push((*digest, row));
                }
                Ok(None) => {
                    self.remove(&self.layout.blob(digest));
                    self.remove(&self.layout.sidecar(digest));
                    if rows.contains_key(digest) {
                        self.record_lost(*digest);
                    }
                }
                Err(cause) => {
                    self.skipped.record(&self.layout.sidecar(digest), &cause);
                    self.skipped.account(&self.layout.blob(digest));
                }
            }
        }
        for digest in rows.keys().filter(|digest| !blobs.contains(digest) && !sidecars.contains(digest)) {
            self.record_lost(*digest);
        }
        Ok(())
    }

    /// Removes a file that is incomplete or has invalid content.
    fn remove(&mut self, path: &Path) {
        match stage::remove_file(path) {
            Ok(()) => self.stats.removed += 1,
            Err(cause) => self.skipped.record(path, &cause),
        }
    }

    /// The names of the files in a folder, none if the folder does not exist; `None` for a folder that cannot be read.
    fn file_names(&self, folder: &Path) -> Option<Vec<String>> {
        file_names(folder).inspect_err(|cause| self.skipped.record(folder, cause)).ok()
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
        let queues = self.adopted == AdoptedBlobs::Queued;
        self.index.write(|txn| {
            index::remove_blobs(txn, &lost)?;
            for (digest, row) in &adopted {
                index::put_blob(txn, digest, row, None)?;
                for indexed in row.keys.iter().filter(|_| queues) {
                    let key = indexed.key.clone();
                    index::put_upload(txn, &QueuedUpload { key, digest: *digest, pin: PinState::LocalOnly })?;
                }
            }
            Ok(())
        })
    }

    fn recover_documents(&mut self) -> io::Result<()> {
        let mut rows: BTreeMap<Digest, Option<IndexRow>> =
            self.index.read(|txn| DOCUMENTS.all(txn))?.into_iter().collect();
        let mut adopted = Vec::new();
        let Some(names) = self.file_names(&self.layout.documents_dir()) else { return Ok(()) };
        for name in names {
            let Ok(id) = name.parse::<Digest>() else { continue };
            if rows.remove(&id).flatten().is_some() {
                continue;
            }
            let path = self.layout.document(&id);
            match document_file::read_key(&path).and_then(|key| Ok((key, fs::metadata(&path)?.len()))) {
                Ok((Some(key), len)) if document_id(&key) == id => {
                    let keys = vec![IndexedKey::of_document(key)];
                    adopted.push((id, IndexRow::new(len, allocated_bytes(len), self.updates.now(), keys)));
                }
                Ok(_) => self.remove(&path),
                Err(cause) => self.skipped.record(&path, &cause),
            }
        }
        self.stats.adopted += adopted.len();
        self.stats.missing += rows.len();
        if rows.is_empty() && adopted.is_empty() {
            return Ok(());
        }
        self.index.write(|txn| {
            DOCUMENTS.remove_all(txn, rows.keys())?;
            rows.keys().try_for_each(|id| index::set_renewal(txn, id, None))?;
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
