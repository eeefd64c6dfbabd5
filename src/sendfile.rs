//! Sends parts of files without reading them: the one file with `unsafe`, and the one that talks to the kernel directly.
//!
//! A body frame is a [`Bytes`] over a region of a mapped cache file ([`Mapping`]). hyper hands the frame's slice, untouched,
//! to the connection's socket; there [`Socket`] recognises by its address that the slice is a region of a
//! file and calls `sendfile(2)` instead of writing memory. The mapping serves as a range of addresses: nothing on that way
//! reads it, so no page of it is ever touched and a disk that dies gives an error, not a signal.
//!
//! What this rests on: cache files are immutable or only appended to; hyper queues large slices instead of copying them
//! as long as the socket says that it writes vectored. Were one copied all the same, the mapping holds the true bytes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Whether this system sends files without reading them; elsewhere a [`Socket`] is a plain one and no region is made.
pub const SENDS_FILES: bool = cfg!(target_os = "linux");

/// Most bytes of one `sendfile`, and of all before the connection gives way to others. hyper tries again before it does:
/// a turn is two or three times as much.
const MAX_SENDFILE_BYTES: usize = 2 << 20;
/// Slices below this are never looked up: no region is smaller, and headers are.
pub const MIN_SLICE_BYTES: usize = 16 << 10;

/// Something that has an open file whose bytes below its length never change.
pub trait FileBacked: Send + Sync + 'static {
    /// The open file.
    fn file(&self) -> &File;
}

/// Where the addresses of all living mappings lead, by their first address.
static MAPPINGS: RwLock<BTreeMap<usize, Target>> = RwLock::new(BTreeMap::new());

struct Target {
    len: usize,
    /// Weak, for the file may hold its own mapping. Whoever holds a region holds the file, too.
    backed: Weak<dyn FileBacked>,
}

/// A file's addresses, which its regions are slices of. One does for all who read the file.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
}

/// A part of a file that is being sent: what its [`Bytes`] own.
struct FileSlice {
    mapping: Arc<Mapping>,
    part: Range<usize>,
    /// Keeps the file open.
    _backed: Arc<dyn FileBacked>,
}

impl AsRef<[u8]> for FileSlice {
    fn as_ref(&self) -> &[u8] {
        &self.mapping.map[self.part.clone()]
    }
}

impl Mapping {
    /// Addresses for the first `len` bytes of a file, which may still have to grow to that length.
    ///
    /// # Errors
    /// When the kernel has no room for a mapping.
    pub fn new(backed: &Arc<impl FileBacked>, len: usize) -> io::Result<Arc<Self>> {
        // SAFETY: `Mmap` lends `&[u8]`, which must not change while it is lent and must not be read where the file does
        // not reach. The file is one of the cache's: its bytes below the length that has been written never change, in a
        // directory that this process holds a lock on, and `region` is asked for such bytes alone. Should something
        // outside shorten the file all the same, the slice is not read on the way to `sendfile`, which reports the
        // shortened file as an error.
        #[allow(unsafe_code)]
        let map = unsafe { MmapOptions::new().len(len).map(backed.file())? };
        let backed: Arc<dyn FileBacked> = backed.clone();
        let target = Target { len, backed: Arc::downgrade(&backed) };
        MAPPINGS.write().unwrap_or_else(PoisonError::into_inner).insert(map.as_ptr() as usize, target);
        Ok(Arc::new(Self { map }))
    }

    /// For how many bytes of the file there are addresses.
    pub fn reach(&self) -> usize {
        self.map.len()
    }

    /// A part of the file as bytes that [`Socket`] sends without reading them; `None` where it is not below
    /// [`Mapping::reach`]. The file must reach that far; less than [`MIN_SLICE_BYTES`] bytes are not recognised.
    pub fn region(self: &Arc<Self>, backed: Arc<dyn FileBacked>, part: Range<usize>) -> Option<Bytes> {
        let fits = part.start <= part.end && part.end <= self.map.len();
        fits.then(|| Bytes::from_owner(FileSlice { mapping: self.clone(), part, _backed: backed }))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the unmapping, which follows when the field is dropped: another mapping may get the address at once.
        MAPPINGS.write().unwrap_or_else(PoisonError::into_inner).remove(&(self.map.as_ptr() as usize));
    }
}

/// The file and offset that a slice's address leads to, and for how many bytes.
fn target(slice: &[u8]) -> Option<(Arc<dyn FileBacked>, u64, usize)> {
    let address = slice.as_ptr() as usize;
    let mappings = MAPPINGS.read().unwrap_or_else(PoisonError::into_inner);
    let (start, target) = mappings.range(..=address).next_back()?;
    let offset = address - start;
    let left = target.len.checked_sub(offset).filter(|left| *left > 0)?;
    Some((target.backed.upgrade()?, offset as u64, left.min(slice.len())))
}

/// What the next write of a list of slices is.
enum NextWrite<'a> {
    /// Nothing of it is a region: as any socket would.
    Memory,
    /// This comes before a region: to be written with the word that more follows, so that both share a packet.
    Before(&'a [u8]),
    /// The first of it is a region.
    File(Arc<dyn FileBacked>, u64, usize),
}

/// Whether more of an answer follows what has been handed to a [`Socket`]: told by whoever makes the answer, heard by the
/// socket of the same connection.
#[derive(Clone, Debug, Default)]
pub struct MoreDataFlag(Arc<AtomicBool>);

impl MoreDataFlag {
    /// Tells it.
    pub fn tell(&self, more: bool) {
        self.0.store(more, Ordering::Relaxed);
    }

    /// What was told last.
    pub fn follows(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A TCP socket that sends regions of files without reading them.
///
/// While more regions follow, the kernel keeps the last bytes of one until those of the next fill their packet
/// (`TCP_CORK`): without it every region ends with a small packet of its own, and a tenth of the work is spent on them.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    more: MoreDataFlag,
    /// The kernel keeps back what fills no packet.
    #[cfg(target_os = "linux")]
    corked: bool,
    /// The last write ended within a region: what is left of it may be smaller than [`MIN_SLICE_BYTES`].
    within: bool,
    /// Bytes of files since others had their turn.
    #[cfg(target_os = "linux")]
    sent: usize,
}

impl Socket {
    /// Wraps a connected socket; whoever makes the answers tells it by the other what follows.
    pub fn new(stream: TcpStream) -> (Self, MoreDataFlag) {
        let more = MoreDataFlag::default();
        let socket = Self {
            stream,
            more: more.clone(),
            #[cfg(target_os = "linux")]
            corked: false,
            within: false,
            #[cfg(target_os = "linux")]
            sent: 0,
        };
        (socket, more)
    }

    /// Has the kernel keep back what fills no packet, or send it. One that refuses sends small packets.
    #[cfg(target_os = "linux")]
    fn cork(&mut self, cork: bool) {
        if self.corked != cork {
            self.corked = rustix::net::sockopt::set_tcp_cork(&self.stream, cork).is_ok() && cork;
        }
    }

    fn next<'a>(&self, slices: &'a [IoSlice<'a>]) -> NextWrite<'a> {
        let mut before: Option<&[u8]> = None;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let known =
                if slice.len() >= MIN_SLICE_BYTES || (self.within && before.is_none()) { target(slice) } else { None };
            match (known, before) {
                (Some((backed, offset, len)), None) => return NextWrite::File(backed, offset, len),
                (Some(_), Some(first)) => return NextWrite::Before(first),
                (None, None) => before = Some(slice),
                (None, Some(_)) => {}
            }
        }
        NextWrite::Memory
    }

    /// Writes as soon as the socket takes something.
    fn poll_io(&self, cx: &mut Context<'_>, mut write: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut write) {
                // Not writable after all, or a signal: ask again.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                done => return Poll::Ready(done),
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        use rustix::net::SendFlags;
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.poll_io(cx, || Ok(rustix::net::send(&self.stream, bytes, flags)?))
    }

    #[cfg(target_os = "linux")]
    fn poll_sendfile(
        &self,
        cx: &mut Context<'_>,
        backed: &dyn FileBacked,
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_io(cx, || {
            let mut offset = offset;
            match rustix::fs::sendfile(&self.stream, backed.file(), Some(&mut offset), len.min(MAX_SENDFILE_BYTES))? {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cache file is shorter than it was")),
                sent => Ok(sent),
            }
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // hyper writes one slice where it has only one.
        self.as_mut().poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        match self.next(slices) {
            NextWrite::Memory => {}
            NextWrite::Before(bytes) => return self.poll_send(cx, bytes),
            NextWrite::File(backed, offset, len) => {
                if self.sent >= MAX_SENDFILE_BYTES {
                    // A client that takes everything at once would keep the worker until it has all of it; and the two
                    // ends of one busy connection are in each other's way more than those of several.
                    self.sent = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if self.more.follows() {
                    self.cork(true);
                }
                let done = self.poll_sendfile(cx, &*backed, offset, len);
                match &done {
                    Poll::Ready(Ok(sent)) => {
                        self.within = *sent < len;
                        self.sent += sent;
                    }
                    _ => self.sent = 0,
                }
                return done;
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        // Without this hyper copies every slice into one buffer.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(target_os = "linux")]
        if !self.more.follows() {
            self.cork(false);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
