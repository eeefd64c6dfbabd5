//! The index: the blob of each key, the order of use, the position of each pin in the journal.
//!
//! It is derived data: a missing or broken index is rebuilt from the folders and the journal.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::RwLock;
use redb::{Database, ReadTransaction, TableDefinition, WriteTransaction};
use tracing::{info, warn};

use super::{holder::DirectoryLock, layout::Layout};

mod file;
mod lru_table;
mod tables;
#[cfg(test)]
mod tests;
mod uploads;

pub(super) use file::{IndexReservation, MissingBytes};
pub(super) use lru_table::{BLOBS, DOCUMENTS, IndexRow, IndexedKey};
pub(super) use tables::{
    PinPosition, PinUpdate, ReplacedBlob, clear_pins, count_pins, find_blob, find_blobs, first_keys_with_prefix,
    is_kept_key, kept_among, kept_blobs, kept_missing_keys, keys_of_other_blobs, keys_with_prefix, move_pins,
    pin_position, pinned_among, pinned_keys_after, pinned_keys_with_prefix, put_blob, remove_blobs, remove_kept_keys,
    renewal, set_renewal, update_pins,
};
pub use uploads::{PinState, QueuedUpload};
pub(super) use uploads::{blob_cost, create_upload_table, put_upload, remove_uploads, uploads_after};

/// Named numbers that survive restarts.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("state");

/// Version of the row format; an index of another version is rebuilt from the folders.
const INDEX_VERSION: u64 = 3;
const VERSION_COUNTER: &str = "form";
/// 1 if the last run closed the directory cleanly.
const CLEAN_COUNTER: &str = "clean";

/// Estimated bytes of the row of a blob or a document, with its keys and its place in the order of use; most take less.
const ESTIMATED_ROW_BYTES: u64 = 1024;
/// Estimated bytes of the row of a pin; most take less.
const ESTIMATED_PIN_BYTES: u64 = 256;
/// An index file that is smaller is not shrunk.
const MIN_SHRUNK_FILE_BYTES: u64 = 8 << 20;
/// An index with more bytes of rows is not shrunk: moving this many takes about a second, and other calls wait.
const MAX_SHRUNK_ROWS_BYTES: u64 = 64 << 20;

/// The open index. One writer at a time; writes block until they are durable.
pub(super) struct Index {
    path: PathBuf,
    reservation: Arc<IndexReservation>,
    /// `None` after [`Index::close`], or if reopening failed after an error.
    db: RwLock<Option<Database>>,
    /// Set when a failure may have left the folders and the index different: the next start compares them.
    needs_rescan: AtomicBool,
    #[cfg(test)]
    refuses_writes: AtomicBool,
    /// Held until the database is closed: no other process may open it before.
    _lock: Arc<DirectoryLock>,
}

/// An index, and whether it already existed.
pub(super) struct OpenedIndex {
    pub(super) index: Index,
    pub(super) origin: IndexOrigin,
}

/// Whether opening the database reads all of it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IntegrityCheck {
    /// All of the file is read and checked.
    Full,
    /// The file is trusted, as after a clean end.
    Skipped,
}

/// Where an open index comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexOrigin {
    /// An earlier run left it.
    Existing,
    /// It is new and empty.
    Created,
}

impl Index {
    /// Opens the index, or creates a new one if it is missing or broken. An index that was not closed cleanly is checked
    /// as a whole.
    pub(super) fn open(
        layout: &Layout,
        reservation: Arc<IndexReservation>,
        lock: Arc<DirectoryLock>,
    ) -> io::Result<OpenedIndex> {
        let path = layout.index();
        let existed = path.exists();
        let open = |check| Self::open_once(&path, check, &reservation, &lock);
        let opened = open(IntegrityCheck::Skipped).and_then(|opened| {
            let read = |txn: &ReadTransaction| Ok((is_clean(txn)?, counter(txn, VERSION_COUNTER)?));
            let (clean, version) = opened.index.read(read)?;
            if version != INDEX_VERSION {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it has the format of another version"));
            }
            if opened.origin == IndexOrigin::Created || clean {
                return Ok(opened);
            }
            drop(opened);
            open(IntegrityCheck::Full)
        });
        match opened {
            Ok(opened) => Ok(opened),
            // An error of the operating system does not mean a broken index: removing it would lose the order of use.
            Err(cause) if existed && !is_system_error(&cause) => {
                warn!(%cause, "the index cannot be used and is rebuilt from the folders");
                fs::remove_file(&path)?;
                open(IntegrityCheck::Skipped)
            }
            Err(cause) => Err(cause),
        }
    }

    fn open_once(
        path: &Path,
        check: IntegrityCheck,
        reservation: &Arc<IndexReservation>,
        lock: &Arc<DirectoryLock>,
    ) -> io::Result<OpenedIndex> {
        let db = file::open(path, check, reservation).map_err(io::Error::other)?;
        let index = Self {
            path: path.to_owned(),
            reservation: Arc::clone(reservation),
            db: RwLock::new(Some(db)),
            needs_rescan: AtomicBool::new(false),
            #[cfg(test)]
            refuses_writes: AtomicBool::new(false),
            _lock: Arc::clone(lock),
        };
        if index.read(|txn| Ok(txn.list_tables()?.next().is_some()))? {
            return Ok(OpenedIndex { index, origin: IndexOrigin::Existing });
        }
        index.write(|txn| {
            BLOBS.create(txn)?;
            DOCUMENTS.create(txn)?;
            tables::create(txn)?;
            create_upload_table(txn)?;
            set_counter(txn, VERSION_COUNTER, INDEX_VERSION)
        })?;
        Ok(OpenedIndex { index, origin: IndexOrigin::Created })
    }

    /// Reads a consistent state.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> io::Result<T> {
        let result = {
            let db = self.db.read();
            let db = db.as_ref().ok_or_else(closed)?;
            begin_read(db).and_then(|txn| work(&txn))
        };
        result.map_err(|error| self.recover(error))
    }

    /// Writes in one transaction, durable when it returns; on an error nothing is written.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> io::Result<T> {
        #[cfg(test)]
        if self.refuses_writes.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let result = {
            let db = self.db.read();
            let db = db.as_ref().ok_or_else(closed)?;
            write(db, work)
        };
        result.map_err(|error| self.recover(error))
    }

    /// Marks the index as open: unless it is closed again, the next start compares it with the folders.
    pub(super) fn mark_open(&self) -> io::Result<()> {
        self.write(|txn| set_counter(txn, CLEAN_COUNTER, 0))
    }

    /// Makes every write fail as on a full disk.
    #[cfg(test)]
    pub(super) fn refuse_writes(&self, refuse: bool) {
        self.refuses_writes.store(refuse, Ordering::SeqCst);
    }

    /// Makes the next start compare the folders with the index.
    pub(super) fn require_rescan(&self) {
        self.needs_rescan.store(true, Ordering::SeqCst);
    }

    /// Writes for the last time, marks the index as closed cleanly and closes the file; later calls are errors.
    pub(super) fn close(&self, work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> io::Result<()> {
        let clean = u64::from(!self.needs_rescan.load(Ordering::SeqCst));
        let mut db = self.db.write();
        let written = db.as_ref().map(|db| {
            write(db, |txn| {
                work(txn)?;
                set_counter(txn, CLEAN_COUNTER, clean)
            })
        });
        *db = None;
        written.ok_or_else(closed)?.map_err(io::Error::other)
    }

    /// Makes the file smaller if at least three quarters of it are free, such as after the removal of most rows. Other
    /// calls wait for it, so an index with many rows is left as it is: its free space takes new rows.
    pub(super) fn shrink(&self) -> io::Result<()> {
        let rows = self.read(|txn| Ok(BLOBS.totals(txn)?.rows + DOCUMENTS.totals(txn)?.rows))?;
        let used =
            rows.saturating_mul(ESTIMATED_ROW_BYTES) + self.read(count_pins)?.saturating_mul(ESTIMATED_PIN_BYTES);
        let len = self.len();
        if len < MIN_SHRUNK_FILE_BYTES || used > MAX_SHRUNK_ROWS_BYTES || used > len / 4 {
            return Ok(());
        }
        let compacted = {
            let mut db = self.db.write();
            let db = db.as_mut().ok_or_else(closed)?;
            db.compact()
        };
        match compacted {
            Ok(_) => {
                info!(before = len, after = self.len(), "the index was made smaller");
                Ok(())
            }
            // A read transaction that is not closed yet: the next call tries again.
            Err(redb::CompactionError::TransactionInProgress) => Ok(()),
            Err(error) => Err(self.recover(redb::Error::from(error))),
        }
    }

    /// The length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |stat| stat.len())
    }

    /// The budget reserved for the file.
    pub(super) fn reservation(&self) -> &IndexReservation {
        &self.reservation
    }

    /// Reopens the database if it is unusable after the error: after a failed write redb refuses all further work.
    fn recover(&self, error: redb::Error) -> io::Error {
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_)) {
            let mut db = self.db.write();
            // Several threads may fail together; the first one here reopens it for all.
            if db.as_ref().is_some_and(|db| begin_read(db).is_err() || probe(db).is_err()) {
                *db = None;
                match file::open(&self.path, IntegrityCheck::Skipped, &self.reservation) {
                    Ok(opened) => *db = Some(opened),
                    Err(cause) => warn!(%cause, "the index cannot be reopened and stays closed until the next start"),
                }
            }
        }
        match error {
            redb::Error::Io(error) => error,
            other => io::Error::other(other),
        }
    }
}

/// True for an error of the operating system, such as no space, no permission, no file descriptor or a bad sector; false
/// for an index that can be read and is inconsistent.
fn is_system_error(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<redb::Error>());
    match inner {
        Some(redb::Error::Io(error)) => is_system_error(error),
        Some(redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo) => true,
        // A damaged file can contain offsets that are invalid for any file.
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

/// An empty write; fails if the database must be reopened.
fn probe(db: &Database) -> Result<(), redb::Error> {
    Ok(db.begin_write()?.abort()?)
}

fn write<T>(db: &Database, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let mut txn = db.begin_write()?;
    // A start after a kill must not have to read the whole file.
    txn.set_quick_repair(true);
    let value = work(&txn)?;
    txn.commit()?;
    Ok(value)
}

/// True if the last run closed the directory cleanly.
pub(super) fn is_clean(txn: &ReadTransaction) -> Result<bool, redb::Error> {
    Ok(counter(txn, CLEAN_COUNTER)? == 1)
}

/// A number that survives restarts; 0 if it was never set.
pub(super) fn counter(txn: &ReadTransaction, name: &str) -> Result<u64, redb::Error> {
    Ok(txn.open_table(COUNTERS)?.get(name)?.map_or(0, |number| number.value()))
}

/// Adds to a number that survives restarts.
pub(super) fn add_to_counter(txn: &WriteTransaction, name: &str, more: u64) -> Result<(), redb::Error> {
    use redb::ReadableTable as _;
    let mut counters = txn.open_table(COUNTERS)?;
    let sum = counters.get(name)?.map_or(0, |number| number.value()).saturating_add(more);
    counters.insert(name, sum)?;
    Ok(())
}

/// Sets a number that survives restarts.
pub(super) fn set_counter(txn: &WriteTransaction, name: &str, number: u64) -> Result<(), redb::Error> {
    txn.open_table(COUNTERS)?.insert(name, number)?;
    Ok(())
}
