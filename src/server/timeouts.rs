//! The clock of a connection: who is waited for, since when, and when that is too long.
//!
//! One timer per connection serves every case: a header that comes too slowly (the first line, or the preface of
//! HTTP/2, too), a connection without a request, a client that takes no bytes, and an HTTP/2 client that opens a stream
//! and never its window.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::sendfile::MoreDataFlag;

/// Longest time between two looks at the clock where there is nothing to wait for.
const LOOK: Duration = Duration::from_secs(3600);

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimedOut {
    /// It has served requests and none is there now; what has been answered must still arrive.
    Idle,
    /// The client does not send its first header, or takes nothing of what it asked for.
    Stalled,
}

/// The state of a connection's clock, shared by its socket and its requests.
#[derive(Debug)]
pub(super) struct ConnectionTimeouts {
    header_timeout: Duration,
    send_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests whose header is there and whose answer has not ended.
    running: usize,
    /// Those of them that wait for us, not for the client.
    waiting_for_us: usize,
    /// Requests ever.
    served: u64,
    /// The kernel takes no more bytes.
    blocked: bool,
    /// When something last moved that the client had a part in.
    moved: Instant,
}

impl ConnectionTimeouts {
    pub(super) fn new(header_timeout: Duration, send_timeout: Duration) -> Self {
        let state = State { running: 0, waiting_for_us: 0, served: 0, blocked: false, moved: Instant::now() };
        Self { header_timeout, send_timeout, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request's header is there.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        let mut state = self.state();
        state.running += 1;
        state.waiting_for_us += 1;
        state.served += 1;
        drop(state);
        RequestGuard { watch: self.clone(), waiting_for_us: true }
    }

    /// Waits until the client is overdue. While the connection is `closing`, an idle one has as long as a stalled one
    /// to take its last bytes.
    pub(super) async fn overdue(&self, closing: bool) -> TimedOut {
        loop {
            let now = Instant::now();
            let (deadline, overdue) = self.deadline(closing);
            // A change of state moves the deadline, but never to before the shorter timeout counted from the change:
            // who looks this often is never late.
            let look = now + self.header_timeout.min(self.send_timeout).min(LOOK);
            match deadline {
                Some(deadline) if deadline <= now => return overdue,
                Some(deadline) => sleep_until(deadline.min(look)).await,
                None => sleep_until(look).await,
            }
        }
    }

    /// When the client will be overdue if nothing moves; `None` while it owes us nothing, or may take for ever.
    fn deadline(&self, closing: bool) -> (Option<Instant>, TimedOut) {
        let state = self.state();
        let after = |timeout| state.moved.checked_add(timeout);
        if state.blocked || (state.running > 0 && state.waiting_for_us == 0) {
            (after(self.send_timeout), TimedOut::Stalled)
        } else if state.running > 0 {
            (None, TimedOut::Stalled)
        } else if state.served == 0 {
            (after(self.header_timeout), TimedOut::Stalled)
        } else if closing {
            (after(self.send_timeout), TimedOut::Stalled)
        } else {
            (after(self.header_timeout), TimedOut::Idle)
        }
    }

    /// Notes what came of a write. Only a write that had to wait counts as movement: others, the answers to pings
    /// among them, say nothing of a client's will to take what it asked for.
    fn wrote(&self, blocked: bool) {
        let mut state = self.state();
        if blocked != state.blocked {
            state.blocked = blocked;
            state.moved = Instant::now();
        }
    }
}

/// One request in progress; ends when it is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard {
    watch: Arc<ConnectionTimeouts>,
    waiting_for_us: bool,
}

impl RequestGuard {
    /// Notes whether the next step of the answer is ours to make.
    pub(super) fn waits_for_us(&mut self, ours: bool) {
        let mut state = self.watch.state();
        match (self.waiting_for_us, ours) {
            (false, true) => state.waiting_for_us += 1,
            (true, false) => state.waiting_for_us -= 1,
            _ => {}
        }
        self.waiting_for_us = ours;
        state.moved = Instant::now();
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.waits_for_us(false);
        self.watch.state().running -= 1;
    }
}

/// A body that tells the clock whether it, or the client, is waited for, and the socket whether more of it follows.
#[derive(Debug)]
pub(super) struct TimedBody<B> {
    body: B,
    turn: RequestGuard,
    more: MoreDataFlag,
}

impl<B> TimedBody<B> {
    pub(super) fn new(body: B, turn: RequestGuard, more: MoreDataFlag) -> Self {
        Self { body, turn, more }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TimedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.turn.waits_for_us(frame.is_pending());
        // What has to be waited for does not hold up what is there.
        let follows = matches!(frame, Poll::Ready(Some(Ok(_)))) && self.body.size_hint().exact() != Some(0);
        self.more.tell(follows);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that tells the clock whether it takes bytes.
#[derive(Debug)]
pub(super) struct TimedIo<S> {
    socket: S,
    watch: Arc<ConnectionTimeouts>,
}

impl<S> TimedIo<S> {
    pub(super) fn new(socket: S, watch: Arc<ConnectionTimeouts>) -> Self {
        Self { socket, watch }
    }

    fn told<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.watch.wrote(done.is_pending());
        done
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
        let done = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.told(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.told(done)
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
    async fn the_socket_is_told_that_more_follows_only_while_it_is_there() {
        let watch = Arc::new(ConnectionTimeouts::new(LOOK, LOOK));
        let more = MoreDataFlag::default();
        let parts = || stream::iter(["a", "b"]).chain(stream::pending()).map(|part| Ok::<_, BodyError>(part.into()));
        for (len, second) in [(Some(2), false), (Some(3), true), (None, true)] {
            let body = body::Body::stream(parts().boxed(), len);
            let mut body = TimedBody::new(body, watch.begin(), more.clone());
            for expected in [true, second] {
                body.frame().await.expect("one").expect("good");
                assert_eq!(more.follows(), expected, "{len:?}");
            }
            if second {
                let waits = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())).await;
                assert!(waits && !more.follows(), "{len:?}");
            }
        }
    }
}
