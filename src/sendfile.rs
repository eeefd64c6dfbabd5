//! Sends slices of cache files with `sendfile(2)`. The only file with `unsafe`.
//!
//! A body frame is a [`Bytes`] that points into a memory-mapped cache file ([`Mapping`]). hyper passes the frame's slice
//! unchanged to the connection's [`Socket`], which looks up the slice's address and calls `sendfile(2)` on the file
//! instead of writing memory. The mapping serves as an address range: on this path no byte of it is read, so no page of
//! it is faulted in and a failing disk causes an I/O error instead of SIGBUS.
//!
//! The bytes must be readable all the same: `http_body` frames and hyper's write queue carry data only as `&[u8]`, which
//! must point to readable memory, and TLS and HTTP/2 read it. So a frame's slice covers exactly bytes that are written
//! and lie inside the file; everything else of the mapping is only ever a raw pointer.
//!
//! Preconditions: cache files are immutable or append-only; hyper queues large slices without copying them as long as
//! the socket reports vectored writes. A copy would be slower, but correct.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::Range,
    slice,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::RwLock;

mod socket;

pub(crate) use socket::{Socket, SocketControl};

/// True on systems where [`Socket`] uses `sendfile(2)`; elsewhere it is a plain socket and no slices should be made.
pub(crate) const SENDFILE_SUPPORTED: bool = cfg!(target_os = "linux");

/// Slices shorter than this, in bytes, are never looked up: no file slice is shorter, response heads are.
pub(crate) const MIN_SLICE_BYTES: usize = 16 << 10;

/// The owner of an open cache file.
///
/// Contract, on which the memory safety of [`Mapping`] depends: a byte below the file's length is never changed again,
/// and the file is never shortened, while the owner lives. The cache guarantees it: files are only appended to until
/// they are complete, in a directory that the process holds a lock on. Should another program shorten a file all the
/// same, `sendfile(2)` reports an error; a reader of the memory would get SIGBUS.
pub(crate) trait FileBacked: Send + Sync + 'static {
    /// The open file.
    fn file(&self) -> &File;
}

/// The files behind all live mappings, by the first address of the mapping.
static MAPPINGS: RwLock<BTreeMap<usize, MappedFile>> = RwLock::new(BTreeMap::new());

struct MappedFile {
    /// Bytes of address range.
    len: usize,
    /// Weak, because the owner may hold its own mapping. A live slice holds the owner.
    owner: Weak<dyn FileBacked>,
}

/// The address range of one file, shared by all readers of the file; body frames are slices of it.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// A raw mapping: parts of it may lie beyond the end of the file or be appended right now, so no reference may
    /// cover all of it.
    map: MmapRaw,
    owner: Weak<dyn FileBacked>,
    /// The file's length when it was last read, in bytes; the file may have grown since.
    file_len: AtomicUsize,
}

/// The owner of a frame's bytes. Made by [`Mapping::slice`] only.
struct FileSlice {
    mapping: Arc<Mapping>,
    /// Within the mapping, and within the file.
    part: Range<usize>,
    /// Keeps the file open, unchanged and at least as long as it is.
    _owner: Arc<dyn FileBacked>,
}

impl AsRef<[u8]> for FileSlice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Mapping::slice` has checked that `part` lies within the mapping, so the pointer arithmetic stays in
        // one allocation, shorter than `isize::MAX`, and that it lies within the file, so every byte is backed by the
        // file and initialised. `mapping` keeps the pages mapped, readable, for as long as `self` lives. No byte of
        // `part` changes in that time: `_owner` holds the contract of `FileBacked`, an appending writer writes above
        // the length that was checked, and the mapping is read-only. `u8` has no alignment.
        #[allow(unsafe_code)]
        unsafe {
            slice::from_raw_parts(self.mapping.map.as_ptr().add(self.part.start), self.part.len())
        }
    }
}

impl Mapping {
    /// Maps the first `len` bytes of a file. The file may still be shorter and grow to that length.
    ///
    /// # Errors
    /// When the kernel refuses the mapping.
    pub(crate) fn new(owner: &Arc<impl FileBacked>, len: usize) -> io::Result<Arc<Self>> {
        let map = MmapOptions::new().len(len).map_raw_read_only(owner.file())?;
        let weak: Weak<dyn FileBacked> = Arc::downgrade(owner) as _;
        MAPPINGS.write().insert(map.as_ptr() as usize, MappedFile { len, owner: weak.clone() });
        Ok(Arc::new(Self { map, owner: weak, file_len: AtomicUsize::new(0) }))
    }

    /// The mapped length in bytes.
    pub(crate) fn mapped_len(&self) -> usize {
        self.map.len()
    }

    /// A part of the file as bytes that [`Socket`] sends without reading them.
    ///
    /// `None` when the part is not within [`Mapping::mapped_len`], when the file is shorter, or when its owner is gone.
    /// A part shorter than [`MIN_SLICE_BYTES`] is valid, but sent as memory. Does not block: it asks at most for the
    /// length of the open file.
    pub(crate) fn slice(self: &Arc<Self>, part: Range<usize>) -> Option<Bytes> {
        let owner = self.owner.upgrade()?;
        let valid =
            part.start <= part.end && part.end <= self.map.len() && part.end <= self.file_len(&*owner, part.end);
        valid.then(|| Bytes::from_owner(FileSlice { mapping: self.clone(), part, _owner: owner }))
    }

    /// The file's length, read again only when the last known one is below `wanted`. 0 when it cannot be read.
    fn file_len(&self, owner: &dyn FileBacked, wanted: usize) -> usize {
        // Relaxed: a stale value is a smaller one, because files do not shrink.
        let known = self.file_len.load(Ordering::Relaxed);
        if known >= wanted {
            return known;
        }
        let len = owner.file().metadata().map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(usize::MAX));
        self.file_len.fetch_max(len, Ordering::Relaxed).max(len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the field `map` is dropped: once unmapped, the address may be given to another mapping.
        MAPPINGS.write().remove(&(self.map.as_ptr() as usize));
    }
}

/// A part of a file that is to be sent.
struct FilePart {
    owner: Arc<dyn FileBacked>,
    offset: u64,
    len: usize,
}

/// The file part that a slice of memory stands for; `None` when the slice belongs to no mapping.
fn find_file(bytes: &[u8]) -> Option<FilePart> {
    let address = bytes.as_ptr() as usize;
    let mappings = MAPPINGS.read();
    let (start, mapped) = mappings.range(..=address).next_back()?;
    let offset = address - start;
    let rest = mapped.len.checked_sub(offset).filter(|rest| *rest > 0)?;
    Some(FilePart { owner: mapped.owner.upgrade()?, offset: offset as u64, len: rest.min(bytes.len()) })
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
