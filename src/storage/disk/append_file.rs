//! A file that is only appended to, in space that is allocated ahead: a full file system does not stop it at once.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use super::{
    budget::{Budget, Reservation, allocated_bytes},
    preallocation::allocate,
    space::Space,
};

/// Space is allocated in steps of this many bytes, and at least one step ahead where the file system allows it. One step
/// holds the pins of more than a hundred zips.
const ALLOCATION_STEP_BYTES: u64 = 64 << 10;

/// The open file. Its length is the end of its content: the space ahead lies beyond it.
pub(super) struct AppendFile {
    file: File,
    end: u64,
    /// Where the allocated space ends; less than `end` where the file system cannot allocate ahead.
    allocated: u64,
    reservation: Reservation,
}

impl AppendFile {
    /// Takes a file whose content ends at `end`; what is behind it is cut off. Allocates ahead if there is room.
    pub(super) fn new(file: File, end: u64, budget: &Arc<Budget>) -> io::Result<Self> {
        if file.metadata()?.len() > end {
            file.set_len(end)?;
            file.sync_all()?;
        }
        let mut this = Self { file, end, allocated: 0, reservation: budget.account_existing(allocated_bytes(end)) };
        let ahead = wanted_allocation(end);
        if allocate(&this.file, ahead).is_ok() {
            this.allocated = ahead;
            this.reservation = budget.account_existing(ahead);
        }
        Ok(this)
    }

    /// Takes a file that was written before, with the budget of its bytes, and allocates ahead.
    pub(super) fn adopt(file: File, reservation: Reservation, space: &Space) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let mut this = Self { file, end, allocated: 0, reservation };
        this.reserve(end, space)?;
        Ok(this)
    }

    /// Opens or creates the file at `path`, for reading and writing.
    pub(super) fn open(path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(false).open(path)
    }

    /// Where the content ends, bytes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Another handle on the file, for reading.
    pub(super) fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The reservation of the file's bytes. While the file is still read, its last reader must hold it.
    pub(super) fn into_reservation(self) -> Reservation {
        self.reservation
    }

    /// Appends text; it is durable when this returns, and on an error it is not there.
    ///
    /// # Errors
    /// When neither the allocated space nor the disk has room for it, even after eviction, or when the disk fails.
    pub(super) fn append(&mut self, text: &[u8], space: &Space) -> io::Result<()> {
        let end = self.end + text.len() as u64;
        self.reserve(end, space)?;
        while let Err(error) = self.write(text) {
            // If this fails too, the next start cuts the torn line off.
            if self.file.set_len(self.end).is_ok() {
                self.allocated = 0;
            }
            if error.kind() != io::ErrorKind::StorageFull || space.evict(ALLOCATION_STEP_BYTES) == 0 {
                return Err(error);
            }
        }
        self.end = end;
        Ok(())
    }

    /// Checks that the file can be written, without a change: writes its last byte again.
    ///
    /// # Errors
    /// When it cannot be written, or has no room for a line.
    pub(super) fn probe(&mut self, space: &Space) -> io::Result<()> {
        let end = self.end + 1;
        self.reserve(end, space)?;
        if self.allocated < end {
            allocate(&self.file, end).or_else(|error| match error.kind() {
                io::ErrorKind::Unsupported => Ok(()),
                _ => Err(error),
            })?;
        }
        if let Some(last) = self.end.checked_sub(1) {
            let mut byte = [0];
            self.file.read_exact_at(&mut byte, last)?;
            self.file.write_all_at(&byte, last)?;
        }
        self.file.sync_data()
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        // At a known offset: handles on the file share one, and others read.
        self.file.write_all_at(text, self.end)?;
        self.file.sync_data()
    }

    /// Reserves and allocates space for `end` bytes of content and at least one step ahead; without room for the step, for
    /// `end` bytes.
    fn reserve(&mut self, end: u64, space: &Space) -> io::Result<()> {
        let wanted = wanted_allocation(end);
        if self.allocated >= end + ALLOCATION_STEP_BYTES {
            return Ok(());
        }
        if space.grow(&mut self.reservation, wanted).is_err() {
            space.grow(&mut self.reservation, allocated_bytes(end))?;
        }
        let wanted = wanted.min(self.reservation.bytes());
        while let Err(error) = allocate(&self.file, wanted) {
            if error.kind() != io::ErrorKind::StorageFull || space.evict(ALLOCATION_STEP_BYTES) == 0 {
                // The space that was allocated before may suffice: the write shows it.
                return Ok(());
            }
        }
        self.allocated = self.allocated.max(wanted);
        Ok(())
    }
}

/// The space for a content of `end` bytes: whole steps, and at least one of them ahead.
fn wanted_allocation(end: u64) -> u64 {
    (end + ALLOCATION_STEP_BYTES).next_multiple_of(ALLOCATION_STEP_BYTES)
}
