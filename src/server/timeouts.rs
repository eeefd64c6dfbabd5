//! The timeouts of a connection.
//!
//! One timer per connection covers every case: a header that arrives too slowly (request line, HTTP/2 preface and TLS
//! handshake included), a connection without a request, a client that accepts no bytes, and an HTTP/2 client none of
//! whose streams moves. One stream that does not move beside others has a timer of its own: see [`super::stream_timeout`].

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use super::stream_timeout::StreamProgress;
use crate::sendfile::SocketControl;

/// Longest time between two checks of the deadline.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimedOut {
    /// It has served requests and no new one came. Response bytes on their way must still arrive.
    Idle,
    /// The client does not complete its first header, or does not accept response bytes.
    Stalled,
}

/// Whether a connection takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
    /// It does.
    Open,
    /// It ends after the running requests.
    Closing,
}

/// When a client times out without further progress.
struct ClientDeadline {
    /// `None` while the mirror has to act, or without a limit.
    at: Option<Instant>,
    reason: TimedOut,
}

/// The order in which connections are ended to make room for others. The smallest is ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EvictionOrder {
    activity: ConnectionActivity,
    /// Of one activity, the connection without progress for the longest comes first.
    last_progress: Instant,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ConnectionActivity {
    /// It has no request.
    Idle,
    /// Its client has to take response bytes.
    WaitsForClient,
    /// The mirror makes a response.
    WaitsForMirror,
}

/// The progress of a connection, shared by its socket and its requests.
#[derive(Debug)]
pub(super) struct ConnectionTimeouts {
    header_timeout: Duration,
    send_timeout: Duration,
    progress: Mutex<ConnectionProgress>,
}

#[derive(Debug)]
struct ConnectionProgress {
    /// Requests whose header has arrived and whose response has not ended.
    running: usize,
    /// Those of them that wait for the mirror, not for the client.
    waiting_for_mirror: usize,
    /// Requests since the connection was accepted.
    total: u64,
    /// The last write would have blocked.
    write_blocked: bool,
    /// When the client last made progress.
    last_progress: Instant,
}

impl ConnectionTimeouts {
    pub(super) fn new(header_timeout: Duration, send_timeout: Duration) -> Self {
        let progress = ConnectionProgress {
            running: 0,
            waiting_for_mirror: 0,
            total: 0,
            write_blocked: false,
            last_progress: Instant::now(),
        };
        Self { header_timeout, send_timeout, progress: Mutex::new(progress) }
    }

    /// Counts a request whose header has arrived.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        let mut progress = self.progress.lock();
        progress.running += 1;
        progress.waiting_for_mirror += 1;
        progress.total += 1;
        drop(progress);
        RequestGuard { timeouts: self.clone(), waiting_for_mirror: true }
    }

    /// Waits until the client has timed out. While the connection closes, an idle client has the send timeout to accept its
    /// last bytes.
    pub(super) async fn timed_out(&self, phase: ConnectionPhase) -> TimedOut {
        loop {
            let now = Instant::now();
            let deadline = self.deadline(phase);
            // Progress may bring the deadline forward, but never to before the shorter timeout from now: checking this
            // often is never late.
            let check = now + self.header_timeout.min(self.send_timeout).min(MAX_CHECK_INTERVAL);
            match deadline.at {
                Some(at) if at <= now => return deadline.reason,
                Some(at) => sleep_until(at.min(check)).await,
                None => sleep_until(check).await,
            }
        }
    }

    fn deadline(&self, phase: ConnectionPhase) -> ClientDeadline {
        let progress = self.progress.lock();
        let after = |timeout| progress.last_progress.checked_add(timeout);
        let stalled = |at| ClientDeadline { at, reason: TimedOut::Stalled };
        if progress.write_blocked || (progress.running > 0 && progress.waiting_for_mirror == 0) {
            stalled(after(self.send_timeout))
        } else if progress.running > 0 {
            stalled(None)
        } else if progress.total == 0 {
            stalled(after(self.header_timeout))
        } else if phase == ConnectionPhase::Closing {
            stalled(after(self.send_timeout))
        } else {
            ClientDeadline { at: after(self.header_timeout), reason: TimedOut::Idle }
        }
    }

    /// True while a response is not yet with the client: it is being made or sent, or the client does not accept its bytes.
    pub(super) fn has_unsent_response(&self) -> bool {
        let progress = self.progress.lock();
        progress.running > 0 || progress.write_blocked
    }

    /// Where the connection stands among those that may be ended to make room for others.
    pub(super) fn eviction_order(&self) -> EvictionOrder {
        let progress = self.progress.lock();
        let activity = match (progress.running, progress.waiting_for_mirror) {
            (0, _) => ConnectionActivity::Idle,
            (_, 0) => ConnectionActivity::WaitsForClient,
            _ => ConnectionActivity::WaitsForMirror,
        };
        EvictionOrder { activity, last_progress: progress.last_progress }
    }

    /// Records the result of a write. Only the end of a blocked write is progress: other writes, for example HTTP/2 ping
    /// acknowledgements, do not show that the client accepts response bytes.
    fn note_write(&self, blocked: bool) {
        let mut progress = self.progress.lock();
        if blocked != progress.write_blocked {
            progress.write_blocked = blocked;
            progress.last_progress = Instant::now();
        }
    }
}

/// A running request; ends when dropped.
#[derive(Debug)]
pub(super) struct RequestGuard {
    timeouts: Arc<ConnectionTimeouts>,
    waiting_for_mirror: bool,
}

impl RequestGuard {
    /// Records whether the mirror or the client has to act next.
    pub(super) fn set_waiting_for_mirror(&mut self, waiting: bool) {
        let mut progress = self.timeouts.progress.lock();
        match (self.waiting_for_mirror, waiting) {
            (false, true) => progress.waiting_for_mirror += 1,
            (true, false) => progress.waiting_for_mirror -= 1,
            _ => {}
        }
        self.waiting_for_mirror = waiting;
        progress.last_progress = Instant::now();
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.set_waiting_for_mirror(false);
        self.timeouts.progress.lock().running -= 1;
    }
}

/// A response body that reports its progress to the timeouts, and to the socket whether more data follows.
#[derive(Debug)]
pub(super) struct TimedBody<B> {
    body: B,
    guard: RequestGuard,
    socket: SocketControl,
    /// The progress of the HTTP/2 stream; `None` for HTTP/1.
    stream: Option<Arc<StreamProgress>>,
}

impl<B> TimedBody<B> {
    /// Must be called in the task that sends the body.
    pub(super) fn new(body: B, guard: RequestGuard, socket: SocketControl) -> Self {
        Self { body, guard, socket, stream: StreamProgress::current() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TimedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.guard.set_waiting_for_mirror(frame.is_pending());
        if let Some(stream) = &self.stream {
            stream.set_waiting_for_mirror(frame.is_pending());
        }
        // False while the next frame is pending: bytes that are there must not wait in the socket for it.
        let more = matches!(frame, Poll::Ready(Some(Ok(_)))) && self.body.size_hint().exact() != Some(0);
        self.socket.set_more_data(more);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that reports blocked writes to the timeouts.
#[derive(Debug)]
pub(super) struct TimedIo<S> {
    socket: S,
    timeouts: Arc<ConnectionTimeouts>,
}

impl<S> TimedIo<S> {
    pub(super) fn new(socket: S, timeouts: Arc<ConnectionTimeouts>) -> Self {
        Self { socket, timeouts }
    }

    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.timeouts.note_write(written.is_pending());
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::body::{self, BodyError};

    #[tokio::test]
    async fn more_data_is_announced_only_while_more_data_is_ready() {
        let timeouts = Arc::new(ConnectionTimeouts::new(MAX_CHECK_INTERVAL, MAX_CHECK_INTERVAL));
        let socket = SocketControl::default();
        let parts = || stream::iter(["a", "b"]).chain(stream::pending()).map(|part| Ok::<_, BodyError>(part.into()));
        for (len, second) in [(Some(2), false), (Some(3), true), (None, true)] {
            let body = body::Body::stream(parts().boxed(), len);
            let mut body = TimedBody::new(body, timeouts.begin_request(), socket.clone());
            for expected in [true, second] {
                body.frame().await.expect("one").expect("good");
                assert_eq!(socket.has_more_data(), expected, "{len:?}");
            }
            if second {
                let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())).await;
                assert!(pending && !socket.has_more_data(), "{len:?}");
            }
        }
    }
}
