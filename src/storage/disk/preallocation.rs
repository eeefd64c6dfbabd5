//! Allocates space of a file ahead of its content.

use std::{fs::File, io};

/// Allocates the first `bytes` of a file without changing its length.
///
/// # Errors
/// `StorageFull` without room; `Unsupported` where the file system cannot do it.
#[cfg(target_os = "linux")]
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn allocate(_: &File, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
