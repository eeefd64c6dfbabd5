//! The `[server]` section of the configuration.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{listen_address, tls};
use crate::value::{BaseUrl, ByteSize, Network, Period};

/// The `[server]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses to listen on.
    #[serde(deserialize_with = "listen_address::deserialize")]
    pub listen: Vec<SocketAddr>,
    /// Addresses for `/metrics` and the health checks alone, without TLS; where there is one, `/metrics` is answered there
    /// and on no other listener.
    #[serde(deserialize_with = "listen_address::deserialize")]
    pub metrics_listen: Vec<SocketAddr>,
    /// The base URL under which clients reach the mirror; without it, scheme and authority of each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<BaseUrl>,
    /// Host names (`name`, `*.name` or `name:port`) that the mirror answers to; empty: all. Includes `public_url`'s.
    pub known_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-Proto` and `X-Forwarded-Host` are trusted.
    pub trusted_proxies: Vec<Network>,
    /// The field in which a trusted proxy names its client, such as `x-forwarded-for`; without it the proxy is the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_header: Option<String>,
    /// Most connections at once, besides those that are kept for health checks.
    pub max_connections: usize,
    /// Time limit for a request's header, and for a connection without a request.
    pub header_timeout: Period,
    /// Largest request header.
    pub header_limit: ByteSize,
    /// A client that accepts no byte for this long is disconnected; an HTTP/2 stream that it does not read is reset.
    pub send_timeout: Period,
    /// How long connections are still accepted after SIGTERM, while `/readyz` says 503: until a load balancer has noticed.
    pub drain_delay: Period,
    /// How long running transfers may take after that.
    pub drain: Period,
    /// Listeners with TLS.
    pub tls: tls::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            metrics_listen: Vec::new(),
            public_url: None,
            known_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            client_header: None,
            max_connections: 4096,
            header_timeout: Period::secs(10),
            header_limit: ByteSize(32 << 10),
            send_timeout: Period::mins(2),
            drain_delay: Period::secs(0),
            drain: Period::secs(30),
            tls: tls::Config::default(),
        }
    }
}
