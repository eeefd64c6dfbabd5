//! After a kill, or without an index: what lies in the folders is compared with the rows. Names only, nothing is hashed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use tracing::info;

use super::{
    budget::blocks,
    documents,
    index::{self, BLOBS, DOCUMENTS, Name, Row},
    layout::document_id,
    sidecar::Sidecar,
    stage,
    store::Store,
};
use crate::entry::Digest;

/// So many changed rows go into one transaction: each is synced, and a lost index may have to take up everything.
const BATCH: usize = 4096;

/// What was found to differ.
#[derive(Debug, Default)]
struct Found {
    adopted: usize,
    removed: usize,
    missing: usize,
}

/// Changes of blobs' rows that are not yet in the index.
#[derive(Debug, Default)]
struct Changes {
    lost: Vec<Digest>,
    adopted: Vec<(Digest, Row)>,
}

impl Store {
    /// Makes index and folders agree. Runs before anybody else uses the store.
    pub(super) fn rescan(&self) -> io::Result<()> {
        let mut found = Found::default();
        let mut changes = Changes::default();
        for first in 0..=u8::MAX {
            self.rescan_shard(first, &mut found, &mut changes)?;
            if changes.lost.len() + changes.adopted.len() >= BATCH {
                self.write_changes(&mut changes)?;
            }
        }
        self.write_changes(&mut changes)?;
        self.rescan_documents(&mut found)?;
        let Found { adopted, removed, missing } = found;
        info!(adopted, removed, missing, "the index agrees with the folders again");
        Ok(())
    }

    fn rescan_shard(&self, first: u8, found: &mut Found, changes: &mut Changes) -> io::Result<()> {
        let mut from = Digest([0; 32]);
        let mut to = Digest([0xff; 32]);
        (from.0[0], to.0[0]) = (first, first);
        let mut blobs = BTreeSet::new();
        let mut sidecars = BTreeSet::new();
        for name in names(&self.layout.shard(first))? {
            match name.strip_suffix(".json") {
                Some(stem) => stem.parse().map(|digest| sidecars.insert(digest)).ok(),
                None => name.parse().map(|digest| blobs.insert(digest)).ok(),
            };
        }
        let rows: BTreeMap<Digest, Option<Row>> =
            self.index.read(|txn| BLOBS.range(txn, from, to))?.into_iter().collect();
        let mut lost = Vec::new();
        let mut adopted = Vec::new();
        for digest in blobs.union(&sidecars) {
            let whole = blobs.contains(digest) && sidecars.contains(digest);
            let row = rows.get(digest).and_then(Option::as_ref);
            if whole && row.is_some_and(|row| !row.names.is_empty()) {
                continue;
            }
            let adopt = if whole && row.is_none() { self.adopt(digest) } else { None };
            match adopt {
                Some(row) => adopted.push((*digest, row)),
                None => {
                    stage::remove(&self.layout.blob(digest))?;
                    stage::remove(&self.layout.sidecar(digest))?;
                    found.removed += 1;
                    if rows.contains_key(digest) {
                        lost.push(*digest);
                    }
                }
            }
        }
        let unseen = rows.keys().filter(|digest| !blobs.contains(digest) && !sidecars.contains(digest));
        lost.extend(unseen);
        found.missing += lost.len();
        found.adopted += adopted.len();
        changes.lost.append(&mut lost);
        changes.adopted.append(&mut adopted);
        Ok(())
    }

    /// Writes changes to the index and empties them.
    fn write_changes(&self, changes: &mut Changes) -> io::Result<()> {
        let Changes { lost, adopted } = std::mem::take(changes);
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

    /// A row for a blob that has its sidecar and the length this names.
    pub(super) fn adopt(&self, digest: &Digest) -> Option<Row> {
        let path = self.layout.sidecar(digest);
        let sidecar = Sidecar::read(&path).ok()?;
        let len = fs::metadata(self.layout.blob(digest)).ok()?.len();
        let fits = |entry: &super::sidecar::Entry| entry.meta.digest == *digest && entry.meta.len == len;
        if sidecar.entries.is_empty() || !sidecar.entries.iter().all(fits) {
            return None;
        }
        let cost = blocks(len) + blocks(fs::metadata(&path).ok()?.len());
        Some(Row::new(len, cost, self.recent.now(), sidecar.names()))
    }

    fn rescan_documents(&self, found: &mut Found) -> io::Result<()> {
        let all = (Digest([0; 32]), Digest([0xff; 32]));
        let mut rows: BTreeMap<Digest, Option<Row>> =
            self.index.read(|txn| DOCUMENTS.range(txn, all.0, all.1))?.into_iter().collect();
        let mut adopted = Vec::new();
        for name in names(&self.layout.documents_dir())? {
            let Ok(id) = name.parse::<Digest>() else { continue };
            if rows.remove(&id).flatten().is_some() {
                continue;
            }
            let path = self.layout.document(&id);
            match documents::key_of(&path)?.filter(|key| document_id(key) == id) {
                Some(key) => {
                    let len = fs::metadata(&path)?.len();
                    let row = Row::new(len, blocks(len), self.recent.now(), vec![Name::of(key)]);
                    adopted.push((id, row));
                }
                None => {
                    stage::remove(&path)?;
                    found.removed += 1;
                }
            }
        }
        found.adopted += adopted.len();
        found.missing += rows.len();
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

/// The names in a folder; none when it is missing.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
