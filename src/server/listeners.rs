//! TCP listeners: binding, and accepting within the connection limit.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::inherited::InheritedSockets;
use crate::peer::{ListenerKind, Peer};

/// Length of a listener's accept queue, in connections.
const TCP_BACKLOG: u32 = 1024;
/// First pause after a failed accept. Without a pause, a process without free descriptors would spin.
const MIN_ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause after several failed accepts.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", self.reason())]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl BindError {
    fn reason(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                "the address is in use by another program; choose another with --listen or server.listen".into()
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied (ports below 1024 need a privilege); choose another with --listen or server.listen"
                    .into()
            }
            io::ErrorKind::AddrNotAvailable => "this machine does not have the address".into(),
            _ => self.source.to_string(),
        }
    }
}

/// The listeners of some kinds.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<(TcpListener, ListenerKind)>,
    addresses: Vec<SocketAddr>,
}

impl Listeners {
    /// For each kind, takes the sockets that the service manager has opened; where there is none, binds its addresses.
    ///
    /// `[::]` takes IPv4 clients too, unless an IPv4 address with its port is listed: that one would be taken already.
    ///
    /// # Errors
    /// The first address that cannot be bound; none stays bound then.
    pub(super) fn bind(
        addresses: &[(ListenerKind, &[SocketAddr])],
        inherited: &InheritedSockets,
    ) -> Result<Self, BindError> {
        let listed = addresses.iter().flat_map(|(_, list)| list.iter());
        let ipv4_ports: Vec<u16> = listed.filter(|address| address.is_ipv4()).map(SocketAddr::port).collect();
        let mut listeners = Self { sockets: Vec::new(), addresses: Vec::new() };
        for (kind, list) in addresses {
            let mut is_inherited = false;
            for (address, socket) in inherited.of_kind(*kind) {
                listeners.add(*kind, address, socket)?;
                is_inherited = true;
            }
            for &address in if is_inherited { &[][..] } else { *list } {
                let only_v6 = address.port() != 0 && ipv4_ports.contains(&address.port());
                listeners.add(*kind, address, listen(address, only_v6))?;
            }
        }
        Ok(listeners)
    }

    /// Adds the socket of an address, with the port that it has.
    fn add(
        &mut self,
        kind: ListenerKind,
        address: SocketAddr,
        socket: io::Result<TcpListener>,
    ) -> Result<(), BindError> {
        let bound = socket.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (real, socket) = bound.map_err(|source| BindError { address, source })?;
        self.addresses.push(real);
        self.sockets.push((socket, kind));
        Ok(())
    }

    /// The bound addresses, with real ports.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The part of [`Listeners::addresses`] with TLS.
    pub(super) fn tls_addresses(&self) -> Vec<SocketAddr> {
        let with_kinds = self.addresses.iter().zip(&self.sockets);
        with_kinds.filter(|(_, (_, kind))| *kind == ListenerKind::Tls).map(|(address, _)| *address).collect()
    }

    /// Accepts from all listeners and passes the connections to `serve`, each with the permit that it holds while it
    /// lasts. Never returns.
    pub(super) async fn accept_all(
        &self,
        max_connections: usize,
        mut serve: impl FnMut(TcpStream, Peer, OwnedSemaphorePermit),
    ) {
        let permits = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let mut pause = MIN_ACCEPT_PAUSE;
        let mut first = 0;
        // The permit comes before the accept: a connection beyond the limit stays in the kernel's queue and costs nothing.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            first += 1;
            match self.accept(first).await {
                Ok((stream, peer)) => {
                    pause = MIN_ACCEPT_PAUSE;
                    serve(stream, peer, permit);
                }
                Err(error) if is_connection_error(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept connections");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Accepts one connection from any listener. Polls the listener number `first` first, so that none is starved when
    /// the number changes with every call.
    async fn accept(&self, first: usize) -> io::Result<(TcpStream, Peer)> {
        let (stream, addr, listener) = poll_fn(|cx| {
            for number in first..first + self.sockets.len() {
                let (socket, kind) = &self.sockets[number % self.sockets.len()];
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    return Poll::Ready(accepted.map(|(stream, addr)| (stream, addr, *kind)));
                }
            }
            Poll::Pending
        })
        .await?;
        // Responses are written whole: Nagle's algorithm would only delay their last packet.
        stream.set_nodelay(true)?;
        let local = canonical(stream.local_addr()?);
        Ok((stream, Peer { addr: canonical(addr), local, listener, certificate: None }))
    }
}

/// The IPv4 address of an IPv4 connection to an IPv6 listener.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() && only_v6 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // A restart must not wait for connections of the previous process in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(TCP_BACKLOG)
}

/// True for errors of one connection that broke before it was accepted; the next accept is not affected.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | InvalidInput | NotConnected
    )
}
