//! Listening sockets that the service manager has opened and passes on (sd_listen_fds(3)). They stay open while the mirror
//! is started again, so that no connection is refused.

use std::{
    io,
    net::{self, SocketAddr},
};

use listenfd::ListenFd;
use tokio::net::TcpListener;

use crate::peer::ListenerKind;

/// Listening sockets of the service manager, by what they serve.
#[derive(Debug, Default)]
pub struct InheritedSockets(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    kind: ListenerKind,
    address: SocketAddr,
    socket: net::TcpListener,
}

/// A socket of the service manager that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "socket {number} of the service manager ({name:?}) is not a listening TCP socket; write ListenStream= with a \
     port or an address in its socket unit"
)]
pub struct InheritError {
    /// Its number, from 1.
    number: usize,
    /// Its name.
    name: String,
    #[source]
    source: io::Error,
}

impl InheritedSockets {
    /// Takes the sockets that were passed to this process, once. `names` are theirs, separated by colons, as in the variable
    /// `LISTEN_FDNAMES`: `FileDescriptorName=` of the socket units. A socket named `https` serves TLS, one named `metrics` is
    /// as `server.metrics_listen`, and every other one is as `server.listen`.
    ///
    /// # Errors
    /// The first one that is no listening TCP socket.
    pub fn take(names: &str) -> Result<Self, InheritError> {
        let mut descriptors = ListenFd::from_env();
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default();
            let failed = |source| InheritError { number: index + 1, name: name.to_owned(), source };
            let Some(socket) = descriptors.take_tcp_listener(index).map_err(failed)? else { continue };
            // The runtime waits for connections, not the accept call.
            socket.set_nonblocking(true).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            sockets.push(InheritedSocket { kind: kind_of(name), address, socket });
        }
        Ok(Self(sockets))
    }

    /// The sockets of a kind with their addresses, each as a descriptor of its own: this value keeps the socket open. An error
    /// means that the system has no descriptor left.
    pub(super) fn of_kind(&self, kind: ListenerKind) -> impl Iterator<Item = (SocketAddr, io::Result<TcpListener>)> {
        let own = |socket: &net::TcpListener| TcpListener::from_std(socket.try_clone()?);
        let of_kind = self.0.iter().filter(move |inherited| inherited.kind == kind);
        of_kind.map(move |inherited| (inherited.address, own(&inherited.socket)))
    }
}

fn kind_of(name: &str) -> ListenerKind {
    match name {
        "https" => ListenerKind::Tls,
        "metrics" => ListenerKind::Metrics,
        _ => ListenerKind::Plain,
    }
}
