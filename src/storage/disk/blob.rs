//! An open file of the cache, shared by everybody who reads it.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use sha2::Digest as _;
use tokio::sync::OnceCell;

use super::{budget::Reservation, open_files::OpenFiles, page_cache::PageCacheHints};
use crate::{
    entry::Digest,
    sendfile::{self, FileBacked, Mapping},
    storage::UsageCounters,
};

/// How much is read at once while hashing.
const HASH_STEP: usize = 256 << 10;

/// Distance of the samples that tell whether the page cache holds a part.
const SAMPLE: usize = 128 << 10;

/// An open blob, or a spool that is on its way to become one. Stays readable while it lives, evicted or not.
#[derive(Debug)]
pub struct BlobFile {
    // Closed before the charge is given back: fields drop in this order.
    file: File,
    /// The spool's reservation, or the bytes of an unlinked file.
    charge: Mutex<Option<Reservation>>,
    /// Whose list of open blobs it is in, and where its uses are noted.
    listed: OnceLock<Listed>,
    /// Whether the bytes have their digest; set at the first use.
    sound: OnceCell<bool>,
    /// The addresses of its bytes, for sending them unread.
    mapping: RwLock<Option<Arc<Mapping>>>,
    /// Nobody finds it any more: evicted, replaced or set aside.
    retired: AtomicBool,
    resident: PageCacheHints,
}

#[derive(Debug)]
struct Listed {
    digest: Digest,
    handles: Weak<OpenFiles>,
    uses: Arc<UsageCounters>,
}

impl FileBacked for BlobFile {
    fn file(&self) -> &File {
        &self.file
    }
}

impl BlobFile {
    pub(super) fn new(file: File, charge: Option<Reservation>) -> Self {
        Self {
            file,
            charge: Mutex::new(charge),
            listed: OnceLock::new(),
            sound: OnceCell::new(),
            mapping: RwLock::default(),
            retired: AtomicBool::new(false),
            resident: PageCacheHints::default(),
        }
    }

    /// Reads at `offset` into `buf`, as much as there is up to its length; 0 at the end of the file. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match positioned(&self.file, buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads exactly `want` bytes at `offset`.
    ///
    /// What the page cache holds is read at once on the calling thread; the rest on the blocking pool.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; otherwise what the file system says.
    pub async fn read(self: &Arc<Self>, offset: u64, want: usize) -> io::Result<Bytes> {
        let mut buf = BytesMut::zeroed(want);
        let have = cached(&self.file, &mut buf, offset);
        if have == want {
            return Ok(buf.freeze());
        }
        let this = Arc::clone(self);
        let rest = tokio::task::spawn_blocking(move || {
            this.fill(&mut buf[have..], offset + have as u64)?;
            Ok(buf.freeze())
        });
        rest.await.map_err(io::Error::other)?
    }

    /// As [`BlobFile::read`], but as a region of the file, which a plain socket sends without anybody reading it
    /// ([`crate::sendfile`]). What the page cache lacks is brought there on the blocking pool first, so that sending it
    /// does not hold a worker up.
    ///
    /// # Errors
    /// As [`BlobFile::read`].
    pub async fn frame(self: &Arc<Self>, offset: u64, want: usize) -> io::Result<Bytes> {
        let Some(region) = self.region(offset, want) else { return self.read(offset, want).await };
        if !self.resident.was(offset, want) {
            if !self.is_resident(offset, want) {
                let this = Arc::clone(self);
                let load = tokio::task::spawn_blocking(move || this.load(offset, want));
                load.await.map_err(io::Error::other)??;
            }
            self.resident.note(offset, want);
        }
        Ok(region)
    }

    /// A part as a region; `None` where it is too small for one, or there are no addresses to be had.
    fn region(self: &Arc<Self>, offset: u64, want: usize) -> Option<Bytes> {
        if !sendfile::SENDS_FILES || want < sendfile::MIN_SLICE_BYTES {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(want)?;
        let known = self.mapping.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mapping = match known.filter(|mapping| mapping.reach() >= end) {
            Some(mapping) => mapping,
            None => {
                // A power of two: of a file that grows, few mappings are made. Those that are too small go with the
                // last of their regions.
                let made = Mapping::new(self, end.checked_next_power_of_two()?).ok()?;
                *self.mapping.write().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
                made
            }
        };
        mapping.region(self.clone(), start..end)
    }

    /// Whether the page cache holds a part, judged by samples: the kernel reads ahead in larger steps than these.
    fn is_resident(&self, offset: u64, len: usize) -> bool {
        let mut byte = [0];
        let last = len - 1;
        (0..last).step_by(SAMPLE).chain([last]).all(|at| cached(&self.file, &mut byte, offset + at as u64) == 1)
    }

    /// Reads a part and forgets it: the page cache keeps it. Blocks.
    fn load(&self, offset: u64, len: usize) -> io::Result<()> {
        let mut buf = vec![0; HASH_STEP.min(len)];
        for at in (0..len).step_by(buf.len()) {
            let step = buf.len().min(len - at);
            self.fill(&mut buf[..step], offset + at as u64)?;
        }
        Ok(())
    }

    /// Reads exactly the length of `buf` at `offset`. Blocks.
    pub(in crate::storage) fn fill(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
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

    /// True when the file is `len` bytes long and still has a name. Asks the open file: no disk is touched.
    pub(in crate::storage) fn fits(&self, len: u64) -> bool {
        let Ok(stat) = self.file.metadata() else { return false };
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&stat) == 0 {
            return false;
        }
        stat.len() == len
    }

    /// Whether the bytes have the digest they are stored under; hashed once, however many ask.
    pub(super) async fn is_sound(self: &Arc<Self>, digest: Digest) -> bool {
        let hash = || async {
            let this = Arc::clone(self);
            // A file that cannot be read through is as damaged as one with wrong bytes.
            tokio::task::spawn_blocking(move || this.hash().is_ok_and(|found| found == digest)).await.unwrap_or(false)
        };
        *self.sound.get_or_init(hash).await
    }

    /// True when somebody has looked already whether the bytes are good, and they were.
    pub(super) fn is_known_sound(&self) -> bool {
        self.sound.get() == Some(&true)
    }

    /// Where its uses are noted; `None` for a spool.
    pub(super) fn uses(&self) -> Option<&Arc<UsageCounters>> {
        self.listed.get().map(|listed| &listed.uses)
    }

    /// Notes that the bytes are known to be good.
    pub(super) fn set_sound(&self) {
        let _ = self.sound.set(true);
    }

    /// The digest of the whole file. Blocks.
    pub(super) fn hash(&self) -> io::Result<Digest> {
        let mut hasher = sha2::Sha256::new();
        let mut buf = vec![0; HASH_STEP];
        let mut offset = 0;
        loop {
            match self.read_at(&mut buf, offset)? {
                0 => return Ok(Digest(hasher.finalize().into())),
                n => {
                    hasher.update(&buf[..n]);
                    offset += n as u64;
                }
            }
        }
    }

    /// True once no lookup finds it any more.
    pub(in crate::storage) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Notes that no lookup finds it any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Works on the charge this file holds.
    pub(super) fn charge<T>(&self, work: impl FnOnce(&mut Option<Reservation>) -> T) -> T {
        work(&mut self.charge.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the bytes of the unlinked file counted until the last reader is gone.
    pub(super) fn release_on_close(&self, charge: Reservation) {
        self.charge(|held| *held = Some(charge));
    }

    /// Notes that it is in the list of open blobs.
    pub(super) fn list(&self, digest: Digest, handles: Weak<OpenFiles>, uses: Arc<UsageCounters>) {
        let _ = self.listed.set(Listed { digest, handles, uses });
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if let Some(Listed { digest, handles, .. }) = self.listed.get()
            && let Some(handles) = handles.upgrade()
        {
            handles.sweep(digest);
        }
    }
}

#[cfg(unix)]
fn positioned(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn positioned(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

/// Reads what is in the page cache without waiting for the disk; any trouble is 0 bytes and left to the slow path.
#[cfg(target_os = "linux")]
fn cached(file: &File, buf: &mut [u8], offset: u64) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut have = 0;
    // A read may end short at the border of what is cached, or of what one call gives.
    while have < buf.len() {
        let mut part = [io::IoSliceMut::new(&mut buf[have..])];
        match preadv2(file, &mut part, offset + have as u64, ReadWriteFlags::NOWAIT) {
            Ok(n) if n > 0 => have += n,
            _ => break,
        }
    }
    have
}

#[cfg(not(target_os = "linux"))]
fn cached(_: &File, _: &mut [u8], _: u64) -> usize {
    0
}
