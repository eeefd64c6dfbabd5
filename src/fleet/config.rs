//! The section `[fleet]`.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::value::{BaseUrl, Period, ValueError};

/// The `[fleet]` section: the nodes over one bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's name.
    pub node: String,
    /// All nodes, this one too, in the same order on each.
    pub nodes: Vec<FleetNode>,
    /// In place of `nodes`: an address whose host has the addresses of all nodes in DNS. `node` is then this node's own
    /// address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discover: Option<BaseUrl>,
    /// Addresses to listen on for other nodes, with mutual TLS.
    pub listen: Vec<SocketAddr>,
    /// This node's certificate, PEM: for the listener, and towards other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The authority that has signed the certificates of all nodes, and of nothing else, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How often the files are read again, and the name of `discover` is resolved.
    pub refresh: Period,
    /// Time limit of a connection to another node.
    pub connect_timeout: Period,
    /// Time limit of the head of another node's answer: the time until the forge has sent the first bytes is a part of it.
    pub response_timeout: Period,
    /// Longest pause in a body.
    pub idle_timeout: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            nodes: Vec::new(),
            discover: None,
            listen: Vec::new(),
            cert_file: None,
            key_file: None,
            ca_file: None,
            refresh: Period::secs(10),
            connect_timeout: Period::secs(1),
            response_timeout: Period::secs(10),
            idle_timeout: Period::secs(10),
        }
    }
}

/// A node of the fleet, in a list written `name=https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetNode {
    /// Its name.
    pub name: String,
    /// The address of its listener for nodes.
    pub url: BaseUrl,
    /// The address that DNS has for the host of the URL; `None` for a node of the list `nodes`.
    pub address: Option<SocketAddr>,
}

impl FromStr for FleetNode {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| ValueError { reason, example: Some("\"a=https://10.0.0.1:8470\"") };
        let (name, url) = text.split_once('=').ok_or_else(|| wrong("not a node"))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(wrong("a node's name has letters, digits, - and ."));
        }
        let url: BaseUrl = url.parse().map_err(|_| wrong("not an address of a node"))?;
        if url.url().scheme() != "https" {
            return Err(wrong("nodes are reached with https"));
        }
        Ok(Self { name: name.to_owned(), url, address: None })
    }
}

impl fmt::Display for FleetNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.url)
    }
}

impl Serialize for FleetNode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FleetNode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|error: ValueError| de::Error::custom(error.reason))
    }
}
