//! The index: which key leads to which blob, in which order things were used, where each pin stands in its journal.
//!
//! It is a convenience. Lost or broken, it is built again from what lies in the folders.

use std::{
    fs, io,
    path::PathBuf,
    sync::{PoisonError, RwLock},
};

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use tracing::warn;

use super::layout::Layout;
use crate::entry::{Digest, Key};

mod file;
mod lru_table;

pub(super) use file::IndexReservation;
pub(super) use lru_table::{BLOBS, DOCUMENTS, Name, Row};

const KEYS: TableDefinition<'_, &str, &[u8; 32]> = TableDefinition::new("keys");
const PINS: TableDefinition<'_, &str, (u64, u32)> = TableDefinition::new("pins");
const RENEWALS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("document_renewals");
const KEPT: TableDefinition<'_, &[u8; 32], ()> = TableDefinition::new("kept_blobs");
/// The keys that are kept, also while nothing is stored under them: what was damaged is kept again when it comes back.
const KEPT_KEYS: TableDefinition<'_, &str, ()> = TableDefinition::new("kept_keys");
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");

/// The form of the rows; an index of another form is built again from the folders.
const FORM: u64 = 3;

/// The open index. One writer at a time; writes block until they are durable.
pub(super) struct Index {
    path: PathBuf,
    room: IndexReservation,
    /// `None` after a failure that closed it, or after the end.
    db: RwLock<Option<Database>>,
}

impl Index {
    /// Opens the index, or makes a new one where it is missing or broken; true in the second place when it is new.
    pub(super) fn open(layout: &Layout, room: IndexReservation) -> io::Result<(Self, bool)> {
        let path = layout.index();
        let known = path.exists();
        let usable = |check| {
            let db = file::open(&path, check, &room).map_err(io::Error::other)?;
            let index = Self { path: path.clone(), room: room.clone(), db: RwLock::new(Some(db)) };
            let fresh = index.read(|txn| Ok(txn.list_tables()?.next().is_none()))?;
            if fresh {
                index.write(|txn| {
                    BLOBS.create(txn)?;
                    DOCUMENTS.create(txn)?;
                    txn.open_table(KEYS)?;
                    txn.open_table(PINS)?;
                    txn.open_table(RENEWALS)?;
                    txn.open_table(KEPT)?;
                    txn.open_table(KEPT_KEYS)?;
                    set_state(txn, "form", FORM)
                })?;
            }
            Ok::<_, io::Error>((index, fresh))
        };
        let checked = |check: bool| {
            let (index, fresh) = usable(check)?;
            // What was not closed cleanly is read through once; what was is trusted.
            let (clean, form) = index.read(|txn| Ok((state(txn, "clean")? == 1, state(txn, "form")?)))?;
            if form != FORM {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has the form of another version"));
            }
            Ok::<_, io::Error>((index, fresh, clean))
        };
        let opened = checked(false).and_then(|(index, fresh, clean)| {
            if fresh || clean {
                return Ok((index, fresh));
            }
            drop(index);
            usable(true)
        });
        match opened {
            Ok(opened) => Ok(opened),
            // What the system refuses says nothing about the index: to remove it would lose the order of use for nothing.
            Err(cause) if known && !refused(&cause) => {
                warn!(%cause, "the index cannot be used and is built again from the folders");
                fs::remove_file(&path)?;
                usable(false)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Reads a consistent state.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> io::Result<T> {
        let result = {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            let db = db.as_ref().ok_or_else(closed)?;
            begin_read(db).and_then(|txn| work(&txn))
        };
        result.map_err(|error| self.failed(error))
    }

    /// Writes; everything or nothing, durable when it returns.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> io::Result<T> {
        let result = {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            let db = db.as_ref().ok_or_else(closed)?;
            write(db, work)
        };
        result.map_err(|error| self.failed(error))
    }

    /// Writes for the last time and closes the file; everything after that is an error.
    pub(super) fn close(&self, work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> io::Result<()> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let written = db.as_ref().map(|db| write(db, work));
        *db = None;
        written.ok_or_else(closed)?.map_err(io::Error::other)
    }

    /// The length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |stat| stat.len())
    }

    /// After a failed write the database refuses all work until it is opened again, so that is done at once.
    fn failed(&self, error: redb::Error) -> io::Error {
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_)) {
            let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
            // Several may have failed together; the first one here has mended it for all.
            if db.as_ref().is_some_and(|db| begin_read(db).is_err() || probe(db).is_err()) {
                *db = None;
                match file::open(&self.path, false, &self.room) {
                    Ok(opened) => *db = Some(opened),
                    Err(cause) => warn!(%cause, "the index could not be opened again; it waits for the next start"),
                }
            }
        }
        match error {
            redb::Error::Io(error) => error,
            other => io::Error::other(other),
        }
    }
}

/// True for an error of the operating system itself, such as a lack of space, of rights, of file handles, or a bad
/// sector; false for an index that can be read and makes no sense.
fn refused(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<redb::Error>());
    match inner {
        Some(redb::Error::Io(error)) => refused(error),
        Some(redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo) => true,
        // A damaged file can name offsets that no file has.
        _ => error.raw_os_error().is_some() && error.kind() != io::ErrorKind::InvalidInput,
    }
}

fn closed() -> io::Error {
    io::Error::other("the index is closed")
}

fn begin_read(db: &Database) -> Result<ReadTransaction, redb::Error> {
    use redb::ReadableDatabase as _;
    Ok(db.begin_read()?)
}

/// An empty write: an error when the database wants to be opened again.
fn probe(db: &Database) -> Result<(), redb::Error> {
    Ok(db.begin_write()?.abort()?)
}

fn write<T>(db: &Database, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let mut txn = db.begin_write()?;
    // A start after a kill must not have to walk the whole file.
    txn.set_quick_repair(true);
    let value = work(&txn)?;
    txn.commit()?;
    Ok(value)
}

/// The blob a key leads to.
pub(super) fn find(txn: &ReadTransaction, key: &Key) -> Result<Option<Digest>, redb::Error> {
    Ok(txn.open_table(KEYS)?.get(key.as_str())?.map(|digest| Digest(*digest.value())))
}

/// Those of a blob's keys that lead to another one by now: a kill may have left them in its sidecar.
pub(super) fn left<'k>(
    txn: &ReadTransaction,
    digest: &Digest,
    keys: impl Iterator<Item = &'k Key>,
) -> Result<Vec<Key>, redb::Error> {
    let mut left = Vec::new();
    for key in keys {
        if find(txn, key)?.is_some_and(|other| other != *digest) {
            left.push(key.clone());
        }
    }
    Ok(left)
}

/// Puts a blob's row and lets `moved` lead to it, and those of its other keys that lead to no other; what an earlier
/// row has counted goes on. Returns that row, and which other blob `moved` led to.
pub(super) fn put_blob(
    txn: &WriteTransaction,
    digest: &Digest,
    row: &Row,
    moved: Option<&Key>,
) -> Result<(Option<Row>, Option<Digest>), redb::Error> {
    let counted = BLOBS.peek(txn, digest)?.map(|old| old.tally).unwrap_or_default();
    let old = BLOBS.put(txn, digest, &Row { tally: counted, ..row.clone() })?;
    if row.is_kept() {
        txn.open_table(KEPT)?.insert(&digest.0, ())?;
    } else {
        txn.open_table(KEPT)?.remove(&digest.0)?;
    }
    let mut kept_keys = txn.open_table(KEPT_KEYS)?;
    for name in &row.names {
        if name.kept {
            kept_keys.insert(name.key.as_str(), ())?;
        } else {
            kept_keys.remove(name.key.as_str())?;
        }
    }
    let mut keys = txn.open_table(KEYS)?;
    for name in old.iter().flat_map(|old| &old.names).filter(|name| !row.has(&name.key)) {
        unlink_key(&mut keys, &name.key, digest)?;
    }
    let mut before = None;
    for Name { key, .. } in &row.names {
        let other = keys.get(key.as_str())?.map(|was| Digest(*was.value())).filter(|was| was != digest);
        if moved == Some(key) {
            before = other;
        } else if other.is_some() {
            // It has gone to newer bytes, and a kill has left the name here.
            continue;
        }
        keys.insert(key.as_str(), &digest.0)?;
    }
    Ok((old, before))
}

/// Removes a blob's row and the keys that still lead to it.
pub(super) fn remove_blob(txn: &WriteTransaction, digest: &Digest) -> Result<Option<Row>, redb::Error> {
    let old = BLOBS.remove(txn, digest)?;
    txn.open_table(KEPT)?.remove(&digest.0)?;
    let mut keys = txn.open_table(KEYS)?;
    for name in old.iter().flat_map(|old| &old.names) {
        unlink_key(&mut keys, &name.key, digest)?;
    }
    Ok(old)
}

fn unlink_key(keys: &mut redb::Table<'_, &str, &[u8; 32]>, key: &Key, digest: &Digest) -> Result<(), redb::Error> {
    let ours = keys.get(key.as_str())?.is_some_and(|found| found.value() == &digest.0);
    if ours {
        keys.remove(key.as_str())?;
    }
    Ok(())
}

/// The blobs that are never evicted, and what each counts.
pub(super) fn kept(txn: &ReadTransaction) -> Result<Vec<(Digest, u64)>, redb::Error> {
    let mut kept = Vec::new();
    for item in txn.open_table(KEPT)?.iter()? {
        let digest = Digest(*item?.0.value());
        kept.push((digest, BLOBS.get(txn, &digest)?.map_or(0, |row| row.cost)));
    }
    Ok(kept)
}

/// True for a key that is kept, whether something is stored under it or not.
pub(super) fn is_key_kept(txn: &ReadTransaction, key: &Key) -> Result<bool, redb::Error> {
    Ok(txn.open_table(KEPT_KEYS)?.get(key.as_str())?.is_some())
}

/// The keys that are kept and lead to nothing, in order.
pub(super) fn waiting(txn: &ReadTransaction) -> Result<Vec<Key>, redb::Error> {
    let keys = txn.open_table(KEYS)?;
    let mut waiting = Vec::new();
    for item in txn.open_table(KEPT_KEYS)?.iter()? {
        let key = item?.0;
        if keys.get(key.value())?.is_none() {
            waiting.push(Key::new(key.value()));
        }
    }
    Ok(waiting)
}

/// Forgets that a key is kept.
pub(super) fn unmark_key(txn: &WriteTransaction, key: &Key) -> Result<(), redb::Error> {
    txn.open_table(KEPT_KEYS)?.remove(key.as_str())?;
    Ok(())
}

/// Where the last line about a pin stands in the journal: offset and length in bytes.
pub(super) fn pin(txn: &ReadTransaction, key: &Key) -> Result<Option<(u64, u32)>, redb::Error> {
    Ok(txn.open_table(PINS)?.get(key.as_str())?.map(|place| place.value()))
}

/// Notes a pin's place, or with `None` that it is forgotten.
pub(super) fn set_pin(txn: &WriteTransaction, key: &Key, place: Option<(u64, u32)>) -> Result<(), redb::Error> {
    let mut pins = txn.open_table(PINS)?;
    match place {
        Some(place) => pins.insert(key.as_str(), place)?,
        None => pins.remove(key.as_str())?,
    };
    Ok(())
}

/// The places of all pins whose key begins with `prefix`, in order of keys.
pub(super) fn pins(txn: &ReadTransaction, prefix: &str) -> Result<Vec<(u64, u32)>, redb::Error> {
    let mut places = Vec::new();
    for item in txn.open_table(PINS)?.range(prefix..)? {
        let (key, place) = item?;
        if !key.value().starts_with(prefix) {
            break;
        }
        places.push(place.value());
    }
    Ok(places)
}

/// All pinned keys, in order.
pub(super) fn pinned(txn: &ReadTransaction) -> Result<Vec<Key>, redb::Error> {
    txn.open_table(PINS)?.iter()?.map(|item| Ok(Key::new(item?.0.value()))).collect()
}

/// Forgets all pins: the journal is read again from its beginning.
pub(super) fn clear_pins(txn: &WriteTransaction) -> Result<(), redb::Error> {
    Ok(txn.open_table(PINS)?.retain(|_, _| false)?)
}

/// The renewed description of a document, JSON.
pub(super) fn renewal(txn: &ReadTransaction, id: &Digest) -> Result<Option<Vec<u8>>, redb::Error> {
    Ok(txn.open_table(RENEWALS)?.get(&id.0)?.map(|meta| meta.value().to_vec()))
}

/// Notes a document's renewed description, or with `None` that there is none.
pub(super) fn set_renewal(txn: &WriteTransaction, id: &Digest, meta: Option<&[u8]>) -> Result<(), redb::Error> {
    let mut renewals = txn.open_table(RENEWALS)?;
    match meta {
        Some(meta) => renewals.insert(&id.0, meta)?,
        None => renewals.remove(&id.0)?,
    };
    Ok(())
}

/// A number that is kept across restarts; 0 when it was never set.
pub(super) fn state(txn: &ReadTransaction, name: &str) -> Result<u64, redb::Error> {
    Ok(txn.open_table(STATE)?.get(name)?.map_or(0, |number| number.value()))
}

/// Sets a number that is kept across restarts.
pub(super) fn set_state(txn: &WriteTransaction, name: &str, number: u64) -> Result<(), redb::Error> {
    txn.open_table(STATE)?.insert(name, number)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::storage::disk::budget::Budget;

    fn fill(index: &Index, round: u8) -> io::Result<()> {
        index.write(|txn| {
            for n in 0..200_u16 {
                let id = Digest::of(&[round, n.to_le_bytes()[0], n.to_le_bytes()[1]]);
                let names = vec![Name::of(Key::new("k".repeat(2000)))];
                BLOBS.put(txn, &id, &Row::new(1, 1, u64::from(n), names))?;
            }
            Ok(())
        })
    }

    #[test]
    fn an_index_that_may_not_grow_fails_keeps_its_state_and_goes_on_when_there_is_room() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let budget = Budget::new(8 << 20);
        let room = Arc::new(Mutex::new(budget.account_existing(0)));
        let (index, fresh) = Index::open(&Layout::new(dir.path()), room).expect("opens");
        assert!(fresh);
        fill(&index, 0).expect("fits");
        let others = budget.take(budget.free()).expect("free");
        let mut rounds = 1..100;
        let (failed, error) = rounds.find_map(|round| Some((round, fill(&index, round).err()?))).expect("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let rows = |index: &Index| index.read(|txn| BLOBS.totals(txn)).expect("still readable").1;
        assert_eq!(rows(&index), 200 * u64::from(failed));
        drop(others);
        fill(&index, failed).expect("room again");
        assert_eq!(rows(&index), 200 * (u64::from(failed) + 1));
        assert!(budget.total() >= index.len());
    }

    #[test]
    fn only_a_broken_index_is_removed_not_one_the_system_refuses_to_read() {
        let wrapped = |code| io::Error::other(redb::Error::Io(io::Error::from_raw_os_error(code)));
        // EIO, EACCES, EMFILE, ENOSPC
        for code in [5, 13, 24, 28] {
            assert!(refused(&wrapped(code)) && refused(&io::Error::from_raw_os_error(code)), "{code}");
        }
        let broken = [
            wrapped(22),
            io::Error::other(redb::Error::Corrupted("checksum".into())),
            io::Error::other(redb::Error::Io(io::ErrorKind::InvalidData.into())),
            io::ErrorKind::UnexpectedEof.into(),
        ];
        assert!(!broken.iter().any(refused), "{broken:?}");
    }
}
