//! The database file of the index: it grows only within the budget.

use std::{fs::File, io, path::Path, sync::Arc};

use parking_lot::Mutex;
use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};

use super::IntegrityCheck;
use crate::storage::disk::{
    budget::{Reservation, allocated_bytes},
    preallocation::allocate,
};

/// Memory for pages of the index.
const INDEX_CACHE_BYTES: usize = 8 << 20;

/// The budget of the index file.
///
/// The file doubles inside a commit, where nothing can be evicted, so twice its length stays reserved.
#[derive(Debug)]
pub(in crate::storage::disk) struct IndexReservation(Mutex<Reservation>);

/// Bytes that a reservation lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage::disk) struct MissingBytes(pub(in crate::storage::disk) u64);

impl IndexReservation {
    pub(in crate::storage::disk) fn new(reservation: Reservation) -> Arc<Self> {
        Arc::new(Self(Mutex::new(reservation)))
    }

    /// Grows to `bytes` if the budget allows it; true if the reservation is at least that large afterwards.
    pub(in crate::storage::disk) fn grow(&self, bytes: u64) -> bool {
        self.0.lock().grow(bytes)
    }

    /// Makes the reservation exactly `bytes`.
    ///
    /// # Errors
    /// The missing bytes, if the budget does not allow it.
    pub(in crate::storage::disk) fn resize(&self, bytes: u64) -> Result<(), MissingBytes> {
        let mut reservation = self.0.lock();
        let missing = bytes.saturating_sub(reservation.bytes());
        if !reservation.grow(bytes) {
            return Err(MissingBytes(missing));
        }
        reservation.shrink(bytes);
        Ok(())
    }

    /// The reserved bytes.
    #[cfg(test)]
    pub(in crate::storage::disk) fn bytes(&self) -> u64 {
        self.0.lock().bytes()
    }
}

/// Opens or creates the database at `path`.
pub(super) fn open(
    path: &Path,
    check: IntegrityCheck,
    reservation: &Arc<IndexReservation>,
) -> Result<Database, redb::Error> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let inner = FileBackend::new(file.try_clone()?).map_err(redb::Error::from)?;
    let backend = BudgetedFile { inner, file, reservation: Arc::clone(reservation) };
    let mut builder = Builder::new();
    builder.set_cache_size(INDEX_CACHE_BYTES).set_check_integrity_on_open(check == IntegrityCheck::Full);
    // redb can panic on a file that another program has altered; such a file counts as broken.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.create_with_backend(backend)));
    let broken = |_| DatabaseError::Storage(redb::StorageError::Corrupted("opening it panicked".into()));
    Ok(opened.map_err(broken).flatten()?)
}

#[derive(Debug)]
struct BudgetedFile {
    inner: FileBackend,
    /// The same file, to allocate its space.
    file: File,
    reservation: Arc<IndexReservation>,
}

impl StorageBackend for BudgetedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.reservation.grow(allocated_bytes(len)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Space for what is in the file: a full disk then fails its growth, and no later write.
        match allocate(&self.file, len) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(error),
            _ => self.inner.set_len(len),
        }
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
