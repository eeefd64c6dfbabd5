//! One connection: the TLS handshake if any, HTTP/1.1 or HTTP/2 by hyper, and the mirror's own timeouts.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    Config, Handler,
    connection_places::ConnectionPlace,
    poll_on_wake::PollOnWake,
    stream_timeout::StreamExecutor,
    timeouts::{ConnectionPhase, ConnectionTimeouts, TimedBody, TimedIo, TimedOut},
    tls::{self, TlsServer},
};
use crate::{
    peer::{BreakConnection, Peer, Refusal},
    sendfile::SocketControl,
};

/// Most header fields of a request.
const MAX_HEADER_FIELDS: usize = 100;
/// Most streams of one HTTP/2 connection at once.
const MAX_HTTP2_STREAMS: u32 = 128;
/// Bytes of one HTTP/2 stream that wait for the socket before its body is asked for more. A frame of a list is a copy of
/// its own, so that this and the number of streams bound what a client that does not read takes in memory.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;
/// Interval of HTTP/2 pings and time limit for their acknowledgement: finds clients that vanished without closing.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// The signals that end a connection from outside.
#[derive(Default)]
pub(super) struct ShutdownTokens {
    /// Finish the running requests, accept no new one.
    pub(super) graceful: CancellationToken,
    /// End now.
    pub(super) abort: CancellationToken,
    /// The client's certificate may no longer be trusted: finish the running requests, accept no new one.
    pub(super) distrusted: CancellationToken,
}

impl ShutdownTokens {
    /// Tokens that are cancelled with these. Each connection has its own, because waiters of one token share its lock.
    pub(super) fn child(&self) -> Self {
        Self {
            graceful: self.graceful.child_token(),
            abort: self.abort.child_token(),
            distrusted: CancellationToken::new(),
        }
    }
}

/// The parts that a connection is served with.
pub(super) struct ConnectionParts<H> {
    /// `None` without TLS.
    pub(super) tls: Option<Arc<TlsServer>>,
    pub(super) peer: Peer,
    pub(super) handler: H,
    pub(super) config: Arc<Config>,
    pub(super) timeouts: Arc<ConnectionTimeouts>,
    /// `None` on the control socket and on a listener for metrics.
    pub(super) place: Option<Arc<ConnectionPlace>>,
    pub(super) shutdown: ShutdownTokens,
}

/// Serves a connection until the client closes it, `shutdown` ends it, or it times out. Dropping the future aborts it.
/// One that is aborted before the client has its response is reset, so that the kernel does not keep what was not sent.
///
/// The time limit of the first request's header includes the TLS handshake.
pub(super) fn run<H: Handler, S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    (socket, control): (S, SocketControl),
    parts: ConnectionParts<H>,
) -> impl Future<Output = ()> + Send + use<H, S> {
    let ConnectionParts { tls, mut peer, handler, config, timeouts, place, mut shutdown } = parts;
    let builder = builder(&config);
    async move {
        // Below TLS: progress is what the socket accepts, not what is buffered above it.
        let io = TimedIo::new(socket, timeouts.clone());
        let io = match tls {
            None => Either::Left(io),
            Some(tls) => match accept_tls(&tls, io, &mut peer, &mut shutdown, &timeouts).await {
                Some(io) => Either::Right(io),
                None => return,
            },
        };
        let io = TokioIo::new(io);
        let request_timeouts = timeouts.clone();
        let body_control = control.clone();
        let service = service_fn(move |request| {
            let mut guard = request_timeouts.begin_request();
            let control = body_control.clone();
            let has_streams = request.version() == Version::HTTP_2;
            let response = match &place {
                Some(place) if place.is_reserved() && !handler.is_health_check(&request) => {
                    Either::Left(Box::pin(wait_and_handle(place.clone(), handler.clone(), request, peer.clone())))
                }
                _ => Either::Right(handler.handle(request, peer.clone())),
            };
            async move {
                let response = response.await;
                guard.set_waiting_for_mirror(false);
                if let Some(error) = response.extensions().get::<BreakConnection>() {
                    // Over HTTP/2 the error resets the stream, and the connection goes on with the others.
                    if !has_streams {
                        control.reset_on_close();
                    }
                    return Err(*error);
                }
                Ok(response.map(|body| TimedBody::new(body, guard, control)))
            }
        });
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut phase = ConnectionPhase::Open;
        loop {
            let mut end = PollOnWake::new(wait_for_end(&shutdown, &timeouts, phase));
            tokio::select! {
                biased;
                // How a connection breaks is not logged here: the access event of its request reports the outcome.
                _ = connection.as_mut() => return,
                end = &mut end => match end {
                    ConnectionEnd::Abort => {
                        if timeouts.has_unsent_response() {
                            control.reset_on_close();
                        }
                        return;
                    }
                    ConnectionEnd::Graceful => {}
                },
            }
            phase = ConnectionPhase::Closing;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Does the TLS handshake of a connection, and sets the certificate of `peer`; `None` when the connection is to be closed. A
/// connection with a client's certificate ends when that may no longer be trusted.
async fn accept_tls<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &TlsServer,
    io: TimedIo<S>,
    peer: &mut Peer,
    shutdown: &mut ShutdownTokens,
    timeouts: &ConnectionTimeouts,
) -> Option<TlsStream<TimedIo<S>>> {
    // Taken before the client is verified: what changes from now on ends the connection.
    let state = tls.state();
    let handshake = tokio::select! {
        handshake = state.accept(io) => handshake,
        () = shutdown.graceful.cancelled() => return None,
        () = shutdown.abort.cancelled() => return None,
        _ = timeouts.timed_out(ConnectionPhase::Open) => return None,
    };
    match handshake {
        Ok(io) => {
            peer.certificate = tls::client_certificate(&io);
            if peer.certificate.is_some() {
                shutdown.distrusted = state.distrusted();
            }
            Some(io)
        }
        Err(error) => {
            tls::log_handshake_failure(&error, peer.addr);
            None
        }
    }
}

/// Answers a request on a connection beyond the limit: once a place within it is free, else by a refusal.
async fn wait_and_handle<H: Handler>(
    place: Arc<ConnectionPlace>,
    handler: H,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<H::Body> {
    if place.wait_for_free_place().await {
        handler.handle(request, peer).await
    } else {
        handler.refuse(request, peer, Refusal::NoConnection)
    }
}

/// How a connection is to end.
enum ConnectionEnd {
    /// At once.
    Abort,
    /// After the running requests.
    Graceful,
}

/// Waits for a reason to end the connection, other than that the client closes it.
async fn wait_for_end(
    shutdown: &ShutdownTokens,
    timeouts: &ConnectionTimeouts,
    phase: ConnectionPhase,
) -> ConnectionEnd {
    let is_open = phase == ConnectionPhase::Open;
    tokio::select! {
        () = shutdown.abort.cancelled() => ConnectionEnd::Abort,
        () = shutdown.graceful.cancelled(), if is_open => ConnectionEnd::Graceful,
        () = shutdown.distrusted.cancelled(), if is_open => ConnectionEnd::Graceful,
        timed_out = timeouts.timed_out(phase) => match timed_out {
            TimedOut::Idle => ConnectionEnd::Graceful,
            TimedOut::Stalled => ConnectionEnd::Abort,
        },
    }
}

fn builder(config: &Config) -> Builder<StreamExecutor> {
    let limit = usize::try_from(config.header_limit.0).unwrap_or(usize::MAX);
    let mut builder = Builder::new(StreamExecutor { send_timeout: config.send_timeout.0 });
    // hyper's header timeout covers neither a client that never sends a request line nor an idle HTTP/2 connection;
    // `ConnectionTimeouts` covers all three with one timer.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(limit)
        .max_headers(MAX_HEADER_FIELDS)
        .writev(true)
        .pipeline_flush(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limit).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_INTERVAL);
    builder
}
