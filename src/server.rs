//! Listeners and connections: accepts, limits, serves HTTP/1.1 and HTTP/2 (prior knowledge, or ALPN of TLS), drains.
//!
//! Knows no path and no package; what a request means is the [`Handler`]'s.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::peer::Peer;
use crate::sendfile::{MoreDataFlag, Socket};
use crate::value::{BaseUrl, ByteSize, Network, Period};

mod connection;
mod connection_threads;
pub mod control;
mod poll_on_wake;
mod timeouts;
pub mod tls;

pub use connection_threads::ConnectionThreads;
use control::Control;
use tls::{Reload, Tls, TlsError};

/// Connections the kernel keeps for us before they are accepted.
const BACKLOG: u32 = 1024;
/// First and longest pause after a failed accept; without one, a process out of descriptors would spin.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The `[server]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The address clients know the mirror by; without it, the scheme and authority of each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<BaseUrl>,
    /// Names (`name`, `*.name` or `name:port`) under which the mirror answers; empty: under any. `public_url`'s is one.
    pub known_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-Proto` and `X-Forwarded-Host` are believed.
    pub trusted_proxies: Vec<Network>,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Longest wait for a request's header, and longest silence of a connection without a request.
    pub header_timeout: Period,
    /// Largest request header.
    pub header_limit: ByteSize,
    /// A client that takes no byte for this long is disconnected.
    pub send_timeout: Period,
    /// How long running transfers may take after SIGTERM.
    pub drain: Period,
    /// Listeners with TLS.
    pub tls: tls::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            public_url: None,
            known_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            max_connections: 4096,
            header_timeout: Period::secs(10),
            header_limit: ByteSize(32 << 10),
            send_timeout: Period::mins(2),
            drain: Period::secs(30),
            tls: tls::Config::default(),
        }
    }
}

/// Answers requests. Cloned for each connection; one call for each request, dropped when the client leaves.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer. An error in it breaks the connection (HTTP/2: resets the stream).
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers one request. Every outcome is a response; there is no other error than a broken body.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send + use<Self>;
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", self.reason())]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl BindError {
    fn reason(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there already; choose another with --listen or server.listen".into()
            }
            io::ErrorKind::PermissionDenied => {
                "not permitted (ports below 1024 need a privilege); choose another with --listen or server.listen"
                    .into()
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
            _ => self.source.to_string(),
        }
    }
}

/// Why there are no listeners.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Listeners that are bound: clients can connect, and wait until [`Bound::serve`] runs.
#[derive(Debug)]
pub struct Bound {
    /// The plain ones first.
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    plain: usize,
    tls: Option<Tls>,
    control: Option<Control>,
    lanes: Option<ConnectionThreads>,
    config: Config,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Connections that were cut because they were not done in time.
    pub cut: usize,
}

/// Reads the certificates and binds every configured address. Must be called within a tokio runtime.
///
/// # Errors
/// The first certificate that cannot be used, or address that cannot be listened on; none stays bound then.
pub fn bind(config: &Config) -> Result<Bound, StartError> {
    let tls = Tls::build(&config.tls)?;
    let listen = |&address: &SocketAddr| {
        let listener = listen(address).map_err(|source| BindError { address, source })?;
        let real = listener.local_addr().map_err(|source| BindError { address, source })?;
        Ok((listener, real))
    };
    let bound: Result<Vec<_>, BindError> = config.listen.iter().chain(&config.tls.listen).map(listen).collect();
    let (listeners, addresses) = bound?.into_iter().unzip();
    Ok(Bound {
        listeners,
        addresses,
        plain: config.listen.len(),
        tls,
        control: None,
        lanes: None,
        config: config.clone(),
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the last connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Bound {
    /// Where it listens: the plain addresses, then those with TLS, in the configured order; port 0 has become a real one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The part of [`Bound::addresses`] where TLS is spoken.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.addresses[self.plain..]
    }

    /// Has the certificates read again while it serves; `None` where there is no TLS.
    pub fn reload(&self) -> Option<Reload> {
        self.tls.as_ref().map(|tls| tls.reload().clone())
    }

    /// Serves a control socket, too.
    pub fn with_control(mut self, control: Option<Control>) -> Self {
        self.control = control;
        self
    }

    /// Serves connections on threads of their own instead of the runtime's.
    pub fn with_lanes(mut self, lanes: ConnectionThreads) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Serves until `shutdown`, then drains: nothing is accepted any more, idle connections close at once, running
    /// requests have `drain` to end. `now` ends everything at once. Dropping the future does the same as `now`.
    pub async fn serve<H: Handler>(
        self,
        handler: H,
        shutdown: CancellationToken,
        now: CancellationToken,
    ) -> ShutdownReport {
        let Self { listeners, plain, tls, control, lanes, config, .. } = self;
        let config = Arc::new(config);
        let tls = tls.map(Arc::new);
        let stop = CancellationToken::new();
        let force = CancellationToken::new();
        let _cut_when_dropped = force.clone().drop_guard();
        let connections = TaskTracker::new();
        let accepting = accept_all(&listeners, plain, &config, |stream, peer, permit| {
            // A child token of its own per connection: waiting on the shared one would share its lock, too.
            let ends = connection::ShutdownTokens { stop: stop.child_token(), force: force.child_token() };
            let tls = tls.clone().filter(|_| peer.tls);
            let handler = handler.clone();
            let config = config.clone();
            match lanes.as_ref().and_then(ConnectionThreads::place) {
                None => {
                    connections.spawn(async move {
                        connection::run(Socket::new(stream), tls, peer, handler, &config, ends).await;
                        drop(permit);
                    });
                }
                Some(place) => {
                    // Taken from the reactor that accepted it, and given to the lane's.
                    let Ok(stream) = stream.into_std() else { return };
                    let lane = place.handle.clone();
                    let run = async move {
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            connection::run(Socket::new(stream), tls, peer, handler, &config, ends).await;
                        }
                        drop((permit, place));
                    };
                    connections.spawn_on(run, &lane);
                }
            }
        });
        let controlled = async {
            let Some(control) = &control else { return std::future::pending().await };
            loop {
                let (stream, peer) = control.accept().await;
                let ends = connection::ShutdownTokens { stop: stop.child_token(), force: force.child_token() };
                let socket = (stream, MoreDataFlag::default());
                connections.spawn(connection::run(socket, None, peer, handler.clone(), &config, ends));
            }
        };
        let files = async {
            match &tls {
                Some(tls) => tls.follow_files().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = accepting => {}
            () = files => {}
            () = controlled => {}
            () = shutdown.cancelled() => {}
            () = now.cancelled() => {}
        }
        drop((listeners, control));
        stop.cancel();
        connections.close();
        tokio::select! {
            () = connections.wait() => {}
            () = now.cancelled() => {}
            () = tokio::time::sleep(config.drain.0) => {}
        }
        let cut = connections.len();
        force.cancel();
        connections.wait().await;
        ShutdownReport { cut }
    }
}

/// Accepts from all listeners, never more than the permitted number of connections; ends never.
async fn accept_all(
    listeners: &[TcpListener],
    plain: usize,
    config: &Config,
    mut serve: impl FnMut(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit),
) {
    let permits = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut pause = PAUSES[0];
    let mut first = 0;
    // The permit comes before the accept: who has no place yet waits in the kernel's queue and costs us nothing.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        first += 1;
        match accept(listeners, plain, first).await {
            Ok((stream, peer)) => {
                pause = PAUSES[0];
                serve(stream, peer, permit);
            }
            Err(why) if concerns_one_client(&why) => {}
            Err(why) => {
                tracing::warn!(error = %why, pause_ms = pause.as_millis() as u64, "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
            }
        }
    }
}

/// Accepts one connection from whichever listener has one, beginning with another one each time. The first `plain`
/// listeners have no TLS.
async fn accept(listeners: &[TcpListener], plain: usize, first: usize) -> io::Result<(TcpStream, Peer)> {
    let (stream, addr, tls) = poll_fn(|cx| {
        for turn in first..first + listeners.len() {
            let at = turn % listeners.len();
            if let Poll::Ready(done) = listeners[at].poll_accept(cx) {
                return Poll::Ready(done.map(|(stream, addr)| (stream, addr, at >= plain)));
            }
        }
        Poll::Pending
    })
    .await?;
    // Answers are written whole; waiting for more to fill a packet only delays their last part.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, Peer { addr: SocketAddr::new(addr.ip().to_canonical(), addr.port()), local, tls, control: false }))
}

/// True for errors of one connection that broke before it was accepted; the next accept is not concerned.
fn concerns_one_client(why: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        why.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}

#[cfg(test)]
mod tests;
