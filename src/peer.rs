//! The two ends of a connection, and the client that a request is answered for.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

mod certificate;
mod limits;
mod request_trace;

pub use certificate::{
    CertificateEnd, ClientCertificate, OwnCertificates, RevokedCertificates, SerialNumber, ServerCertificates,
};
pub use limits::{ClientLimit, ClientLimits, ClientRequest, ClientTable, FetchAllowance};
pub(crate) use request_trace::PSEUDONYM_PREFIX;
pub use request_trace::RequestTrace;

/// The two ends of a connection, and how it reached the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; an IPv4 client of an IPv6 listener has its IPv4 address. Without meaning on the control
    /// socket.
    pub addr: SocketAddr,
    /// The mirror's address that the client connected to, in the same form. Without meaning on the control socket.
    pub local: SocketAddr,
    /// Where the mirror has accepted the connection.
    pub listener: ListenerKind,
    /// The certificate that the client has authenticated itself with; `None` without mutual TLS.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Clients without TLS: `server.listen`.
    Plain,
    /// Clients with TLS: `server.tls.listen`.
    Tls,
    /// Metrics and health checks alone: `server.metrics_listen`.
    Metrics,
    /// The control socket: its clients may use the administration API, under any host name.
    Control,
}

impl Peer {
    /// True when the connection is encrypted with TLS.
    pub fn is_encrypted(&self) -> bool {
        self.listener == ListenerKind::Tls
    }

    /// True on a listener for clients.
    pub fn is_client(&self) -> bool {
        matches!(self.listener, ListenerKind::Plain | ListenerKind::Tls)
    }

    /// True for a client of the control socket.
    pub fn is_control(&self) -> bool {
        self.listener == ListenerKind::Control
    }
}

/// Why a request is refused before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Every connection is taken; this one is kept for health checks.
    NoConnection,
    /// The client has reached a limit of its own.
    OverLimit {
        /// The limit.
        limit: ClientLimit,
        /// How long to wait.
        retry_after: Duration,
    },
}

/// Among the extensions of a response: nothing of it is sent. The connection is broken instead, over HTTP/2 the stream
/// reset. For clients that take every response for a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is broken in place of a response")]
pub struct BreakConnection;

/// The client whose request the present task answers, and what it may fetch.
struct AnsweredClient {
    client: ClientId,
    allowance: Option<Arc<FetchAllowance>>,
}

tokio::task_local! {
    static CLIENT: AnsweredClient;
}

/// The client on whose behalf an upstream is asked: places for downloads are shared among clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// One address; of IPv6 its /64 network, which one client has to itself.
    Address(IpAddr),
    /// Valid credentials, from any address: a number that no other credential has.
    Credential(u64),
    /// The mirror itself: warming, revalidations, administration.
    Mirror,
}

impl ClientId {
    /// The client at an address.
    pub fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
            address @ IpAddr::V4(_) => address,
        })
    }

    /// The client whose request the present task answers; [`ClientId::Mirror`] in every other task.
    pub fn current() -> Self {
        CLIENT.try_with(|answered| answered.client).unwrap_or(Self::Mirror)
    }

    /// Runs the answer to one request: [`ClientId::current`] is this client within it, and [`FetchAllowance::current`]
    /// is `allowance`.
    pub fn scope<F: Future>(
        self,
        allowance: Option<Arc<FetchAllowance>>,
        answer: F,
    ) -> impl Future<Output = F::Output> {
        CLIENT.scope(AnsweredClient { client: self, allowance }, answer)
    }
}

impl FetchAllowance {
    /// What the request that the present task answers may fetch; `None` without a limit.
    pub fn current() -> Option<Arc<Self>> {
        CLIENT.try_with(|answered| answered.allowance.clone()).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> ClientId {
        ClientId::of_address(address.parse().expect("an address"))
    }

    #[tokio::test]
    async fn a_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        let within = client("192.0.2.1").scope(None, async { ClientId::current() }).await;
        assert_eq!((within, ClientId::current()), (client("192.0.2.1"), ClientId::Mirror));
    }
}
