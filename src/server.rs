//! The HTTP server: listeners, TLS, HTTP/1.1 and HTTP/2 connections, limits per connection, and graceful shutdown.
//!
//! Has no routes: the [`Handler`] answers the requests.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    peer::{ClientId, ClientTable, ListenerKind, Peer, Refusal, RevokedCertificates, ServerCertificates},
    sendfile::{Socket, SocketControl},
};

mod config;
mod connection;
mod connection_places;
mod connection_threads;
pub(crate) mod control;
mod inherited;
mod listen_address;
mod listeners;
mod poll_on_wake;
mod reload_handle;
mod stream_timeout;
mod timeouts;
pub mod tls;

pub use config::Config;
use connection::{ConnectionParts, ShutdownTokens};
use connection_places::{ConnectionPlaces, RESERVED_CONNECTIONS};
pub use connection_threads::ConnectionThreads;
pub(crate) use connection_threads::ThreadProbe;
use control::ControlListener;
pub use inherited::{InheritError, InheritedSockets};
pub use listeners::BindError;
use listeners::Listeners;
pub use reload_handle::{ReloadHandle, ReloadRequests};
use timeouts::ConnectionTimeouts;
use tls::{TlsError, TlsServer};

/// Connections that may be open beyond `server.max_connections`: those for health checks, and as many that are being closed.
const ACCEPTED_BEYOND_LIMIT: usize = 2 * RESERVED_CONNECTIONS;
/// Most connections at once on the listeners of `server.metrics_listen`.
const MAX_METRICS_CONNECTIONS: usize = RESERVED_CONNECTIONS;
/// The response on a connection that is closed because there are too many.
const NO_CONNECTION_RESPONSE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The response on a connection that is closed because its client has too many.
const OVER_LIMIT_RESPONSE: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Answers requests. Cloned for each connection, called once for each request; the future is dropped when the client
/// disconnects.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of a response. An error in it breaks the connection (HTTP/2: resets the stream).
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers one request. Every failure is a response, too; the only other ones are an error in the body, and a response
    /// with [`crate::peer::BreakConnection`] among its extensions, which is not sent.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<Self>;

    /// True for a health check, which is answered when everything else is refused.
    fn is_health_check(&self, request: &Request<Incoming>) -> bool;

    /// Refuses one request. Does not wait.
    fn refuse(&self, request: Request<Incoming>, peer: Peer, refusal: Refusal) -> Response<Self::Body>;
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server with bound listeners. Clients can connect, and wait until [`Bound::serve`] runs.
#[derive(Debug)]
pub struct Bound {
    listeners: Listeners,
    metrics: Listeners,
    tls: Option<TlsServer>,
    certificates: Arc<ServerCertificates>,
    revoked: Arc<RevokedCertificates>,
    control: Option<ControlListener>,
    clients: Arc<ClientTable>,
    threads: Option<ConnectionThreads>,
    config: Config,
    reload: ReloadHandle,
}

/// The result of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Connections that were aborted because they did not end in time.
    pub aborted: usize,
}

/// Reads the certificates and binds every configured address; where the service manager has passed sockets of a kind on,
/// they stand in place of the addresses of that kind. Must be called within a tokio runtime.
///
/// # Errors
/// The first certificate that cannot be used, or the first address that cannot be bound; no address stays bound then.
pub fn bind(config: &Config, inherited: &InheritedSockets) -> Result<Bound, StartError> {
    let clients: [(ListenerKind, &[SocketAddr]); 2] =
        [(ListenerKind::Plain, &config.listen), (ListenerKind::Tls, &config.tls.listen)];
    let listeners = Listeners::bind(&clients, inherited)?;
    let metrics = Listeners::bind(&[(ListenerKind::Metrics, &config.metrics_listen)], inherited)?;
    let certificates: Arc<ServerCertificates> = Arc::default();
    let revoked: Arc<RevokedCertificates> = Arc::default();
    let has_tls = !listeners.tls_addresses().is_empty();
    let tls = if has_tls { Some(TlsServer::build(&config.tls, certificates.clone(), revoked.clone())?) } else { None };
    Ok(Bound {
        listeners,
        metrics,
        tls,
        certificates,
        revoked,
        control: None,
        clients: Arc::default(),
        threads: None,
        config: config.clone(),
        reload: ReloadHandle::default(),
    })
}

impl Bound {
    /// The bound addresses, with the real port for port 0: the plain ones, then those with TLS, in the configured order.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listeners.addresses()
    }

    /// The part of [`Bound::addresses`] with TLS.
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.tls_addresses()
    }

    /// The addresses for metrics and health checks alone.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        self.metrics.addresses()
    }

    /// The certificates in use, and when they end.
    pub fn certificates(&self) -> Arc<ServerCertificates> {
        self.certificates.clone()
    }

    /// The clients' certificates that are revoked at present.
    pub fn revoked(&self) -> Arc<RevokedCertificates> {
        self.revoked.clone()
    }

    /// The handle that reloads the certificates.
    pub fn reload(&self) -> ReloadHandle {
        self.reload.clone()
    }

    /// Serves the control socket, too.
    pub fn with_control(mut self, control: Option<ControlListener>) -> Self {
        self.control = control;
        self
    }

    /// Applies the limit of connections of one client.
    pub fn with_clients(mut self, clients: Arc<ClientTable>) -> Self {
        self.clients = clients;
        self
    }

    /// Serves connections on these threads instead of the runtime's workers.
    pub fn with_connection_threads(mut self, threads: ConnectionThreads) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Serves until `shutdown`, then drains: nothing is accepted, idle connections close at once, and running requests have
    /// the drain period to end. `abort` ends everything at once, as dropping the future does.
    pub async fn serve<H: Handler>(
        self,
        handler: H,
        shutdown: CancellationToken,
        abort: CancellationToken,
    ) -> ShutdownReport {
        let Self { listeners, metrics, tls, control, clients, threads, config, reload, .. } = self;
        let max_connections = config.max_connections;
        let places = ConnectionPlaces::new(max_connections);
        let drain = config.drain.0;
        let connections = Connections {
            handler,
            tls: tls.map(Arc::new),
            config: Arc::new(config),
            places,
            clients,
            threads,
            tasks: TaskTracker::new(),
            shutdown: ShutdownTokens::default(),
        };
        let _abort_when_dropped = connections.shutdown.abort.clone().drop_guard();
        let accept_tcp =
            listeners.accept_all(max_connections.saturating_add(ACCEPTED_BEYOND_LIMIT), |stream, peer, permit| {
                connections.start(stream, peer, permit);
            });
        let accept_metrics = metrics.accept_all(MAX_METRICS_CONNECTIONS, |stream, peer, permit| {
            connections.start_metrics(stream, peer, permit);
        });
        let accept_control = async {
            let Some(control) = &control else { return std::future::pending().await };
            loop {
                let (stream, peer) = control.accept().await;
                connections.start_control(stream, peer);
            }
        };
        let reload_certificates = async {
            match &connections.tls {
                Some(tls) => tls.reload_on_change(reload.requests()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = accept_tcp => {}
            () = accept_metrics => {}
            () = reload_certificates => {}
            () = accept_control => {}
            () = shutdown.cancelled() => {}
            () = abort.cancelled() => {}
        }
        drop((listeners, metrics, control));
        connections.shutdown.graceful.cancel();
        connections.tasks.close();
        tokio::select! {
            () = connections.tasks.wait() => {}
            () = abort.cancelled() => {}
            () = tokio::time::sleep(drain) => {}
        }
        let aborted = connections.tasks.len();
        connections.shutdown.abort.cancel();
        connections.tasks.wait().await;
        ShutdownReport { aborted }
    }
}

/// Starts connections.
struct Connections<H> {
    handler: H,
    tls: Option<Arc<TlsServer>>,
    config: Arc<Config>,
    places: Arc<ConnectionPlaces>,
    clients: Arc<ClientTable>,
    threads: Option<ConnectionThreads>,
    tasks: TaskTracker,
    shutdown: ShutdownTokens,
}

impl<H: Handler> Connections<H> {
    /// Serves a TCP connection on the least loaded connection thread, or on the runtime. Keeps `permit` until it ends.
    fn start(&self, stream: TcpStream, peer: Peer, permit: OwnedSemaphorePermit) {
        let shutdown = self.shutdown.child();
        let address = peer.addr.ip();
        let is_proxy = self.config.trusted_proxies.iter().any(|proxy| proxy.contains(address));
        let client = if is_proxy { ClientId::Mirror } else { ClientId::of_address(address) };
        if self.clients.refuses_connection(client, || self.places.held(client)) {
            if !peer.is_encrypted() {
                let _ = stream.try_write(OVER_LIMIT_RESPONSE);
            }
            return;
        }
        let timeouts = |header: Option<Duration>| self.timeouts(header);
        let Some((place, timeouts)) = self.places.admit(client, timeouts, shutdown.abort.clone()) else {
            if !peer.is_encrypted() {
                // The socket's buffer is empty: it takes these bytes at once.
                let _ = stream.try_write(NO_CONNECTION_RESPONSE);
            }
            return;
        };
        let parts = ConnectionParts {
            tls: self.tls.clone().filter(|_| peer.is_encrypted()),
            peer,
            handler: self.handler.clone(),
            config: self.config.clone(),
            timeouts,
            place: Some(Arc::new(place)),
            shutdown,
        };
        match self.threads.as_ref().and_then(ConnectionThreads::reserve_slot) {
            None => {
                self.tasks.spawn(async move {
                    connection::run(Socket::new(stream), parts).await;
                    drop(permit);
                });
            }
            Some(slot) => {
                // Deregister from this runtime's I/O driver, to register with the connection thread's.
                let Ok(stream) = stream.into_std() else { return };
                let thread = slot.handle.clone();
                let run = async move {
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        connection::run(Socket::new(stream), parts).await;
                    }
                    drop((permit, slot));
                };
                self.tasks.spawn_on(run, &thread);
            }
        }
    }

    /// The time-outs of a new connection, whose header may take `header` at most.
    fn timeouts(&self, header: Option<Duration>) -> Arc<ConnectionTimeouts> {
        let header_timeout = self.config.header_timeout.0;
        let header_timeout = header.map_or(header_timeout, |most| header_timeout.min(most));
        Arc::new(ConnectionTimeouts::new(header_timeout, self.config.send_timeout.0))
    }

    /// Serves a connection to a listener for metrics. Keeps `permit` until it ends.
    fn start_metrics(&self, stream: TcpStream, peer: Peer, permit: OwnedSemaphorePermit) {
        let parts = self.uncounted_parts(peer);
        self.tasks.spawn(async move {
            connection::run(Socket::new(stream), parts).await;
            drop(permit);
        });
    }

    /// Serves a connection of the control socket.
    fn start_control(&self, stream: UnixStream, peer: Peer) {
        let socket = (stream, SocketControl::default());
        self.tasks.spawn(connection::run(socket, self.uncounted_parts(peer)));
    }

    /// The parts of a connection that the limits of connections do not count.
    fn uncounted_parts(&self, peer: Peer) -> ConnectionParts<H> {
        ConnectionParts {
            tls: None,
            peer,
            handler: self.handler.clone(),
            config: self.config.clone(),
            timeouts: self.timeouts(None),
            place: None,
            shutdown: self.shutdown.child(),
        }
    }
}

#[cfg(test)]
mod tests;
