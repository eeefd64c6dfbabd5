//! The two ends of a connection.

use std::net::SocketAddr;

/// The two ends of a connection, and how it reached the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; an IPv4 client of an IPv6 listener has its IPv4 address. Without meaning on the control socket.
    pub addr: SocketAddr,
    /// The mirror's address that the client connected to. Without meaning on the control socket.
    pub local: SocketAddr,
    /// True when the connection is encrypted with TLS.
    pub tls: bool,
    /// True for the control socket: its clients may use the administration API, under any host name.
    pub control: bool,
}
