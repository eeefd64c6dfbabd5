//! A body that is being written: readers follow it while it grows, and it becomes a blob or leaves no trace.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{SpoolError, blob::BlobFile, budget::blocks, health::DiskArea, stage, store::Store};
use crate::sendfile::FileBacked as _;

/// Space for a body of unknown length is reserved in steps of at most this many bytes.
const STEP: u64 = 8 << 20;

/// A growing file in the spool folder, with its space reserved ahead.
///
/// Dropping it without [`super::Disk::admit`] removes the file. Readers that hold [`Spool::file`] can go on reading;
/// its bytes count until the last of them is gone.
pub struct Spool {
    store: Arc<Store>,
    file: Arc<BlobFile>,
    path: PathBuf,
    len: u64,
    /// Whether dropping has to remove the file.
    armed: bool,
}

impl Spool {
    pub(super) fn create(store: &Arc<Store>, expected: Option<u64>) -> Result<Self, SpoolError> {
        let charge = store.take(blocks(expected.unwrap_or(0)))?;
        let path = store.layout.staging();
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let file = Arc::new(BlobFile::new(file, Some(charge)));
        Ok(Self { store: Arc::clone(store), file, path, len: 0, armed: true })
    }

    /// Appends bytes, in one write where the system takes it; readers of [`Spool::file`] can read them when it returns. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when neither budget nor disk has room, whatever was evicted; otherwise what the
    /// file system says. Part of the bytes may have been written: [`Spool::len`] tells.
    pub fn append(&mut self, parts: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> =
            parts.iter().map(|part| IoSlice::new(part.as_ref())).filter(|part| !part.is_empty()).collect();
        self.reserve(self.len + slices.iter().map(|slice| slice.len() as u64).sum::<u64>())?;
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match self.file.file().write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.len += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The disk is smaller than the limit says, or others fill it.
                Err(error) if error.kind() == io::ErrorKind::StorageFull && self.store.evict(STEP) > 0 => {}
                Err(error) => return self.store.health.note(&[DiskArea::Spool], Err(error)),
            }
        }
        Ok(())
    }

    /// Number of bytes written so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True before the first byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file, for readers: what is written can be read.
    pub fn file(&self) -> Arc<BlobFile> {
        Arc::clone(&self.file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the removal of the file to somebody else.
    pub(super) fn disarm(mut self) -> Arc<BlobFile> {
        self.armed = false;
        Arc::clone(&self.file)
    }

    /// Makes the reservation at least `bytes`: a step ahead if that fits, else just as much as needed.
    fn reserve(&self, bytes: u64) -> Result<(), SpoolError> {
        let need = blocks(bytes);
        self.file.charge(|charge| {
            let Some(charge) = charge.as_mut().filter(|charge| charge.bytes() < need) else { return Ok(()) };
            let step = blocks(STEP.min(self.store.budget.limit() / 64));
            let ahead = need.max(charge.bytes() + step);
            self.store.reserve(charge, ahead).or_else(|_| self.store.reserve(charge, need))
        })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.armed {
            // What is left behind is swept at the next start.
            let _ = stage::remove(&self.path);
        }
    }
}
