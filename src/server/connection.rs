//! One connection: TLS where it is spoken, HTTP/1.1 or HTTP/2 by hyper, under our own clock.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    Config, Handler, Peer,
    poll_on_wake::PollOnWake,
    timeouts::{ConnectionTimeouts, TimedBody, TimedIo, TimedOut},
    tls::{self, Tls},
};
use crate::sendfile::MoreDataFlag;

/// Most header fields of a request.
const FIELDS: usize = 100;
/// Most streams of one HTTP/2 connection at once.
const STREAMS: u32 = 128;
/// An HTTP/2 client that has vanished without a word is found by a ping this often, and given as long to answer.
const PING: Duration = Duration::from_secs(20);

/// What ends a connection from outside.
pub(super) struct ShutdownTokens {
    /// Let the running requests end, take no new one.
    pub(super) stop: CancellationToken,
    /// End now.
    pub(super) force: CancellationToken,
}

/// Serves a connection until it ends, of itself or by `ends`, or the client is overdue. Dropping it cuts it.
///
/// The time of a first request's header includes the handshake of TLS.
pub(super) fn run<H: Handler, S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    (socket, more): (S, MoreDataFlag),
    tls: Option<Arc<Tls>>,
    peer: Peer,
    handler: H,
    config: &Config,
    ends: ShutdownTokens,
) -> impl Future<Output = ()> + Send + use<H, S> {
    let builder = builder(config);
    let watch = Arc::new(ConnectionTimeouts::new(config.header_timeout.0, config.send_timeout.0));
    async move {
        // The clock stands below TLS: what counts is what the socket takes, not what is buffered above it.
        let io = TimedIo::new(socket, watch.clone());
        let io = match tls {
            None => Either::Left(io),
            Some(tls) => {
                let done = tokio::select! {
                    done = tls.accept(io) => done,
                    () = ends.stop.cancelled() => return,
                    () = ends.force.cancelled() => return,
                    _ = watch.overdue(false) => return,
                };
                match done {
                    Ok(io) => Either::Right(io),
                    Err(why) => return tls::log_failure(&why, peer.addr),
                }
            }
        };
        let io = TokioIo::new(io);
        let begun = watch.clone();
        let service = service_fn(move |request| {
            let mut turn = begun.begin();
            let more = more.clone();
            let answering = handler.handle(request, peer);
            async move {
                let response = answering.await;
                turn.waits_for_us(false);
                Ok::<_, Infallible>(response.map(|body| TimedBody::new(body, turn, more)))
            }
        });
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut closing = false;
        loop {
            let mut aside = PollOnWake::new(from_outside(&ends, &watch, closing));
            tokio::select! {
                biased;
                // How a connection breaks is the client's affair; what a request came to is in its access event.
                _ = connection.as_mut() => return,
                end = &mut aside => match end {
                    End::Now => return,
                    End::Gently => {}
                },
            }
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// How a connection is to end.
enum End {
    Now,
    /// When its requests are answered.
    Gently,
}

/// Waits for what ends a connection other than itself; `closing` when it is to end gently already.
async fn from_outside(ends: &ShutdownTokens, watch: &ConnectionTimeouts, closing: bool) -> End {
    tokio::select! {
        () = ends.force.cancelled() => End::Now,
        () = ends.stop.cancelled(), if !closing => End::Gently,
        overdue = watch.overdue(closing) => match overdue {
            TimedOut::Idle => End::Gently,
            TimedOut::Stalled => End::Now,
        },
    }
}

fn builder(config: &Config) -> Builder<TokioExecutor> {
    let limit = usize::try_from(config.header_limit.0).unwrap_or(usize::MAX);
    let mut builder = Builder::new(TokioExecutor::new());
    // hyper's own header timeout sees neither a client that never sends a first line nor an idle HTTP/2 connection;
    // `ConnectionTimeouts` sees all three, with one timer.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(limit)
        .max_headers(FIELDS)
        .writev(true)
        .pipeline_flush(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limit).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}
