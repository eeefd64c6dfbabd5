//! Spools: bodies that are being written. Readers follow a spool while it grows; it becomes a blob or is removed.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SpoolError,
    blob::BlobFile,
    budget::allocated_bytes,
    health::{DiskArea, DiskHealth},
    layout::Layout,
    space::Space,
    stage,
};
use crate::sendfile::FileBacked as _;

/// Space is reserved as bytes arrive, in steps of at most this many bytes: an announced length costs nothing.
const RESERVATION_STEP_BYTES: u64 = 8 << 20;

/// A growing file in the spool folder, with its space reserved ahead.
///
/// Dropping it without [`super::Disk::admit`] removes the file. Readers that hold [`Spool::file`] can still read it; its
/// bytes count until the last of them drops it.
pub struct Spool {
    space: Arc<Space>,
    health: Arc<DiskHealth>,
    file: Arc<BlobFile>,
    path: PathBuf,
    len: u64,
    /// The announced length.
    expected: Option<u64>,
    /// Whether dropping the spool removes the file.
    removes_file: bool,
}

impl Spool {
    /// Creates the file. Space is reserved as bytes arrive; a body of `expected` bytes is refused at once when evicting
    /// everything would not suffice for it.
    pub(super) fn create(
        space: &Arc<Space>,
        health: &Arc<DiskHealth>,
        layout: &Layout,
        expected: Option<u64>,
    ) -> Result<Self, SpoolError> {
        if expected.is_some_and(|len| !space.may_hold(allocated_bytes(len))) {
            return Err(SpoolError::NoSpace);
        }
        let reservation = space.reserve(0)?;
        let path = layout.next_staging_path();
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let file = Arc::new(BlobFile::new(file, Some(reservation)));
        let space = Arc::clone(space);
        Ok(Self { space, health: Arc::clone(health), file, path, len: 0, expected, removes_file: true })
    }

    /// Appends bytes, in one write where the system accepts it; readers of [`Spool::file`] can read them when this
    /// returns. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when the budget or the disk has no space, even after eviction; otherwise when the
    /// file system fails. Some of the bytes may have been written, as [`Spool::len`] shows.
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
                // The disk is smaller than the limit, or other programs fill it.
                Err(error)
                    if error.kind() == io::ErrorKind::StorageFull && self.space.evict(RESERVATION_STEP_BYTES) > 0 => {}
                Err(error) => return self.health.record(&[DiskArea::Spool], Err(error)),
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

    /// The file, for readers: all bytes written so far can be read.
    pub fn file(&self) -> Arc<BlobFile> {
        Arc::clone(&self.file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, without removing it: the caller does.
    pub(super) fn into_file(mut self) -> Arc<BlobFile> {
        self.removes_file = false;
        Arc::clone(&self.file)
    }

    /// Makes the reservation at least `bytes`: a step ahead if that fits, otherwise as much as needed.
    fn reserve(&self, bytes: u64) -> Result<(), SpoolError> {
        let needed = allocated_bytes(bytes);
        self.file.with_reservation(|held| {
            let Some(held) = held.as_mut().filter(|held| held.bytes() < needed) else { return Ok(()) };
            let step = allocated_bytes(RESERVATION_STEP_BYTES.min(self.space.limit() / 64));
            let ahead = held.bytes().saturating_add(step);
            let ahead = self.expected.map_or(ahead, |len| ahead.min(allocated_bytes(len))).max(needed);
            if self.expected.is_none() && needed > self.space.unannounced_share() {
                // It must not push out more than its share: from here on it takes free space only.
                return if held.grow(ahead) || held.grow(needed) { Ok(()) } else { Err(SpoolError::NoSpace) };
            }
            self.space.grow(held, ahead).or_else(|_| self.space.grow(held, needed))
        })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.removes_file {
            // The next start removes a file that stays behind.
            let _ = stage::remove_file(&self.path);
        }
    }
}
