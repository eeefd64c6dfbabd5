//! The file under the index: it grows only within the budget.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};

use crate::storage::disk::budget::{Reservation, blocks};

/// Memory for pages of the index, bytes.
const CACHE: usize = 8 << 20;

/// The bytes that are reserved for the index file.
///
/// The file grows by doubling, inside a commit, where nothing can be evicted. So twice its length is kept reserved.
pub(in crate::storage::disk) type IndexReservation = Arc<Mutex<Reservation>>;

/// Opens or makes the database at `path`; `check` reads all of it first.
pub(super) fn open(path: &Path, check: bool, room: &IndexReservation) -> Result<Database, redb::Error> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let inner = FileBackend::new(file).map_err(redb::Error::from)?;
    let backend = Metered { inner, room: Arc::clone(room) };
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(check);
    // A file that was altered behind its back can make the database panic: that is one more way to be broken.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.create_with_backend(backend)));
    let broken = |_| DatabaseError::Storage(redb::StorageError::Corrupted("opening it panicked".into()));
    Ok(opened.map_err(broken).flatten()?)
}

#[derive(Debug)]
struct Metered {
    inner: FileBackend,
    room: IndexReservation,
}

impl StorageBackend for Metered {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.room.lock().unwrap_or_else(PoisonError::into_inner).grow(blocks(len)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
