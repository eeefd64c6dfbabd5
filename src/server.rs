//! STUB: accept loop.
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::value::{BaseUrl, ByteSize, Period};

/// The `[server]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The address clients know the mirror by; without it, the scheme and authority of each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<BaseUrl>,
    /// Most connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Longest wait for a request's header.
    pub header_timeout: Period,
    /// Largest request header.
    pub header_limit: ByteSize,
    /// A client that takes no byte for this long is disconnected.
    pub send_timeout: Period,
    /// How long running transfers may take after SIGTERM.
    pub drain: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            public_url: None,
            max_connections: 4096,
            header_timeout: Period::secs(10),
            header_limit: ByteSize(32 << 10),
            send_timeout: Period::mins(2),
            drain: Period::secs(30),
        }
    }
}
