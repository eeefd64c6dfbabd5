//! An open file of the cache, shared by all its readers.

use std::{
    fmt,
    fs::File,
    io,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;

use super::{
    budget::{Reservation, allocated_bytes},
    page_cache::PageCacheHints,
};
use crate::{
    blocking::run_blocking_io,
    entry::Digest,
    sendfile::{self, FileBacked, Mapping},
    storage::UsageCounters,
};

/// Bytes per read while hashing or filling the page cache.
const READ_STEP_BYTES: usize = 256 << 10;

/// Distance of the samples that show whether a slice is in the page cache: the kernel reads ahead in larger steps.
const RESIDENCY_SAMPLE_BYTES: usize = 128 << 10;

/// An open blob, or a spool that will become one. Stays readable while it lives, even after eviction.
#[derive(Debug)]
pub struct BlobFile {
    // Fields drop in this order: the file is closed before its bytes are released.
    file: File,
    /// The spool's reservation, or the bytes of an unlinked file.
    reservation: Mutex<Option<Reservation>>,
    /// Set when the file enters the table of open blobs.
    registration: OnceLock<Registration>,
    /// Whether the bytes match the digest; computed at the first use.
    verified: OnceCell<bool>,
    /// The memory mapping whose addresses stand for the bytes in `sendfile`.
    mapping: RwLock<Option<Arc<Mapping>>>,
    /// True once no lookup returns the file any more: evicted, replaced or quarantined.
    retired: AtomicBool,
    page_cache: PageCacheHints,
}

/// Receives the closing of a blob's file.
pub(super) trait CloseListener: fmt::Debug + Send + Sync {
    /// The last handle on the blob's file was dropped.
    fn file_closed(&self, digest: &Digest);
}

#[derive(Debug)]
struct Registration {
    digest: Digest,
    listener: Weak<dyn CloseListener>,
    usage: Arc<UsageCounters>,
}

impl FileBacked for BlobFile {
    fn file(&self) -> &File {
        &self.file
    }
}

impl BlobFile {
    /// A file that counts against no budget.
    pub(in crate::storage) fn uncounted(file: File) -> Self {
        Self::new(file, None)
    }

    pub(super) fn new(file: File, reservation: Option<Reservation>) -> Self {
        Self {
            file,
            reservation: Mutex::new(reservation),
            registration: OnceLock::new(),
            verified: OnceCell::new(),
            mapping: RwLock::default(),
            retired: AtomicBool::new(false),
            page_cache: PageCacheHints::default(),
        }
    }

    /// Reads at `offset` into `buf` and returns the number of bytes read; 0 only at the end of the file. Blocks.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(&self.file, buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads exactly `len` bytes at `offset`: bytes in the page cache on the calling thread, the others on the blocking
    /// pool.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; otherwise when the file system fails.
    pub async fn read(self: &Arc<Self>, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut buf = BytesMut::zeroed(len);
        let have = read_from_page_cache(&self.file, &mut buf, offset);
        if have == len {
            return Ok(buf.freeze());
        }
        let this = Arc::clone(self);
        run_blocking_io(move || {
            this.read_exact(&mut buf[have..], offset + have as u64)?;
            Ok(buf.freeze())
        })
        .await
    }

    /// As [`BlobFile::read`], for a plain socket: returns a slice of the file that `sendfile` sends without copying
    /// ([`crate::sendfile`]). Bytes that the page cache lacks are read on the blocking pool first, so that sending does
    /// not block a connection thread.
    ///
    /// # Errors
    /// As [`BlobFile::read`].
    pub async fn read_for_sendfile(self: &Arc<Self>, offset: u64, len: usize) -> io::Result<Bytes> {
        let Some(slice) = self.file_slice(offset, len) else { return self.read(offset, len).await };
        if !self.page_cache.contains(offset, len) {
            if !is_in_page_cache(&self.file, offset, len) {
                let this = Arc::clone(self);
                run_blocking_io(move || this.load_into_page_cache(offset, len)).await?;
            }
            self.page_cache.insert(offset, len);
        }
        Ok(slice)
    }

    /// A slice for `sendfile`; `None` if it is too small, or the file cannot be mapped.
    fn file_slice(self: &Arc<Self>, offset: u64, len: usize) -> Option<Bytes> {
        if !sendfile::SENDFILE_SUPPORTED || len < sendfile::MIN_SLICE_BYTES {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len)?;
        let known = self.mapping.read().clone();
        let mapping = match known.filter(|mapping| mapping.mapped_len() >= end) {
            Some(mapping) => mapping,
            None => {
                // A power of two, so that a growing file is mapped few times. A mapping that is too small is unmapped
                // with its last slice.
                let created = Mapping::new(self, end.checked_next_power_of_two()?).ok()?;
                *self.mapping.write() = Some(created.clone());
                created
            }
        };
        mapping.slice(start..end)
    }

    /// Reads a slice and discards it: the page cache keeps it. Blocks.
    fn load_into_page_cache(&self, offset: u64, len: usize) -> io::Result<()> {
        let mut buf = vec![0; READ_STEP_BYTES.min(len)];
        for at in (0..len).step_by(buf.len()) {
            let step = buf.len().min(len - at);
            self.read_exact(&mut buf[..step], offset + at as u64)?;
        }
        Ok(())
    }

    /// Fills `buf` from `offset` on. Blocks.
    pub(in crate::storage) fn read_exact(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }

    /// True if the file is `len` bytes long and still linked. Checks the open file: no disk access.
    pub(in crate::storage) fn is_linked_with_len(&self, len: u64) -> bool {
        let Ok(stat) = self.file.metadata() else { return false };
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&stat) == 0 {
            return false;
        }
        stat.len() == len
    }

    /// The bytes that the file takes on disk, in whole blocks; 0 if its length cannot be read.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.file.metadata().map(|stat| allocated_bytes(stat.len())).unwrap_or_default()
    }

    /// Whether the bytes match their digest; hashed once for all callers.
    ///
    /// # Errors
    /// When the file cannot be read as a whole: its bytes are then unknown, and the next call reads them again.
    pub(super) async fn verify(self: &Arc<Self>, digest: Digest) -> io::Result<bool> {
        let hash = || async {
            let this = Arc::clone(self);
            run_blocking_io(move || Ok(this.hash()? == digest)).await
        };
        self.verified.get_or_try_init(hash).await.copied()
    }

    /// True if the bytes were verified before and matched.
    pub(super) fn is_verified(&self) -> bool {
        self.verified.get() == Some(&true)
    }

    /// Records that the bytes match their digest.
    pub(super) fn set_verified(&self) {
        let _ = self.verified.set(true);
    }

    /// The usage counters of the blob; `None` for a spool.
    pub(super) fn usage(&self) -> Option<&Arc<UsageCounters>> {
        self.registration.get().map(|registration| &registration.usage)
    }

    /// The digest of the whole file. Blocks.
    pub(super) fn hash(&self) -> io::Result<Digest> {
        Digest::of_file(&self.file)
    }

    /// True once no lookup returns this file any more.
    pub(in crate::storage) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Records that no lookup returns this file any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Calls `work` with the reservation of this file.
    pub(super) fn with_reservation<T>(&self, work: impl FnOnce(&mut Option<Reservation>) -> T) -> T {
        work(&mut self.reservation.lock())
    }

    /// Records that the file is in the table of open blobs: `listener` learns when it is closed.
    pub(super) fn register(&self, digest: Digest, listener: Weak<dyn CloseListener>, usage: Arc<UsageCounters>) {
        let _ = self.registration.set(Registration { digest, listener, usage });
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if let Some(Registration { digest, listener, .. }) = self.registration.get()
            && let Some(listener) = listener.upgrade()
        {
            listener.file_closed(digest);
        }
    }
}

/// Releases the bytes of an unlinked file: when its last reader closes it, or at once if it has none.
pub(super) fn release_on_close(reader: Option<Arc<BlobFile>>, reservation: Reservation) {
    match reader {
        Some(reader) => reader.with_reservation(|held| *held = Some(reservation)),
        None => drop(reservation),
    }
}

/// Whether the page cache holds a slice of a file, judged by samples. `len` is not zero, and the file does not end within
/// the slice.
pub(super) fn is_in_page_cache(file: &File, offset: u64, len: usize) -> bool {
    let mut byte = [0];
    let last = len - 1;
    let is_cached = |at: usize| read_from_page_cache(file, &mut byte, offset + at as u64) == 1;
    (0..last).step_by(RESIDENCY_SAMPLE_BYTES).chain([last]).all(is_cached)
}

/// Reads what is in the page cache without waiting for the disk. Returns 0 on an error: the caller then reads normally.
#[cfg(target_os = "linux")]
fn read_from_page_cache(file: &File, buf: &mut [u8], offset: u64) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut have = 0;
    // A read may return fewer bytes at the end of a cached range, or at the limit of one call.
    while have < buf.len() {
        let mut rest = [io::IoSliceMut::new(&mut buf[have..])];
        match preadv2(file, &mut rest, offset + have as u64, ReadWriteFlags::NOWAIT) {
            Ok(n) if n > 0 => have += n,
            _ => break,
        }
    }
    have
}

#[cfg(not(target_os = "linux"))]
fn read_from_page_cache(_: &File, _: &mut [u8], _: u64) -> usize {
    0
}
