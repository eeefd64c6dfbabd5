//! A port that refuses connections.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port of this machine that is taken and not listened on: until it is dropped connections are refused, and no other
/// test gets the port.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }
}
