//! The TCP socket of a connection: file slices leave by `sendfile(2)`, everything else by ordinary writes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::{FilePart, MIN_SLICE_BYTES, find_file};

/// Most bytes of one `sendfile`, and of all of them before the connection yields to other tasks. hyper polls again before
/// it yields itself: one turn of a connection is two or three times as much.
const MAX_SENDFILE_BYTES: usize = 2 << 20;

/// Controls the [`Socket`] of a connection: whether more data follows, and how it is closed. Clones are of the same socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketControl(Arc<SocketFlags>);

#[derive(Debug, Default)]
struct SocketFlags {
    more_data: AtomicBool,
    reset: AtomicBool,
}

impl SocketControl {
    /// Sets whether the response body has more data than was passed to the socket. Called by the body.
    pub(crate) fn set_more_data(&self, more: bool) {
        self.0.more_data.store(more, Ordering::Relaxed);
    }

    /// The value that was set last; false at first.
    pub(crate) fn has_more_data(&self) -> bool {
        self.0.more_data.load(Ordering::Relaxed)
    }

    /// When the socket is closed, resets the connection instead of ending it in order, and drops what the kernel has not
    /// sent. After an orderly end the kernel would keep that, megabytes of it, for as long as the client does not read.
    pub(crate) fn reset_on_close(&self) {
        self.0.reset.store(true, Ordering::Relaxed);
    }

    fn is_reset_on_close(&self) -> bool {
        self.0.reset.load(Ordering::Relaxed)
    }
}

/// How the beginning of a list of slices is written.
enum NextWrite<'a> {
    /// No slice is in a mapping: an ordinary vectored write.
    Memory,
    /// These bytes precede a file slice: written with `MSG_MORE`, so that both share a packet.
    BeforeFile(&'a [u8]),
    /// The first slice is a file slice.
    File(FilePart),
}

/// A TCP socket that sends file slices without reading them.
///
/// While there is more data ([`SocketControl`]), the socket is corked (`TCP_CORK`): the kernel holds the last partial
/// packet of one slice until the next slice fills it. Without this every slice ends with a small packet, which costs a
/// tenth of the CPU time.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) control: SocketControl,
    #[cfg(target_os = "linux")]
    corked: bool,
    /// The last write ended inside a file slice, whose rest may be shorter than [`MIN_SLICE_BYTES`].
    inside_slice: bool,
    /// Bytes sent by `sendfile` since the connection last yielded.
    #[cfg(target_os = "linux")]
    sent: usize,
}

impl Socket {
    /// Wraps a connected socket. The control is for its connection.
    pub(crate) fn new(stream: TcpStream) -> (Self, SocketControl) {
        let control = SocketControl::default();
        let socket = Self {
            stream,
            control: control.clone(),
            #[cfg(target_os = "linux")]
            corked: false,
            inside_slice: false,
            #[cfg(target_os = "linux")]
            sent: 0,
        };
        (socket, control)
    }

    /// Sets `TCP_CORK`. Where the kernel refuses it, small packets are sent.
    #[cfg(target_os = "linux")]
    fn cork(&mut self, cork: bool) {
        if self.corked != cork {
            self.corked = rustix::net::sockopt::set_tcp_cork(&self.stream, cork).is_ok() && cork;
        }
    }

    fn next_write<'a>(&self, slices: &'a [IoSlice<'a>]) -> NextWrite<'a> {
        let mut before: Option<&[u8]> = None;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let may_be_file = slice.len() >= MIN_SLICE_BYTES || (self.inside_slice && before.is_none());
            let part = if may_be_file { find_file(slice) } else { None };
            match (part, before) {
                (Some(part), None) => return NextWrite::File(part),
                (Some(_), Some(first)) => return NextWrite::BeforeFile(first),
                (None, None) => before = Some(slice),
                (None, Some(_)) => {}
            }
        }
        NextWrite::Memory
    }

    /// Calls `write` once the socket is writable.
    fn poll_io(&self, cx: &mut Context<'_>, mut write: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut write) {
                // The readiness was stale, or a signal came: poll again.
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
    fn poll_sendfile(&self, cx: &mut Context<'_>, part: &FilePart) -> Poll<io::Result<usize>> {
        self.poll_io(cx, || {
            let mut offset = part.offset;
            let len = part.len.min(MAX_SENDFILE_BYTES);
            match rustix::fs::sendfile(&self.stream, part.owner.file(), Some(&mut offset), len)? {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cache file was shortened while it was sent")),
                sent => Ok(sent),
            }
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.control.is_reset_on_close() {
            // Where the kernel refuses it, the connection ends in order.
            let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // hyper calls this instead of the vectored write when it has one slice only.
        self.as_mut().poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        match self.next_write(slices) {
            NextWrite::Memory => {}
            NextWrite::BeforeFile(bytes) => return self.poll_send(cx, bytes),
            NextWrite::File(part) => {
                if self.sent >= MAX_SENDFILE_BYTES {
                    // Yield: a client that takes everything at once would otherwise occupy the thread for the whole file.
                    self.sent = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if self.control.has_more_data() {
                    self.cork(true);
                }
                let done = self.poll_sendfile(cx, &part);
                match &done {
                    Poll::Ready(Ok(sent)) => {
                        self.inside_slice = *sent < part.len;
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
        // Otherwise hyper copies every slice into one buffer.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[cfg(target_os = "linux")]
        if !self.control.has_more_data() {
            self.cork(false);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
