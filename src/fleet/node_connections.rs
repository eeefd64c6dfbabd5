//! The connections to other nodes: with this node's certificate, which is read again when its files change.

use std::{collections::HashMap, net::SocketAddr, path::Path, sync::Arc};

use parking_lot::Mutex;
use reqwest::{Certificate, Identity, redirect::Policy};

use super::{Config, FleetNode};
use crate::entry::Digest;

/// Reads the certificates in a file of authorities.
pub type ReadAuthorities = fn(&Path) -> Result<Vec<Certificate>, NodeClientError>;

/// Connections to other nodes. Clones share them.
#[derive(Clone, Debug)]
pub struct NodeConnections {
    section: Arc<Config>,
    read_authorities: ReadAuthorities,
    state: Arc<Mutex<NodeConnectionState>>,
}

#[derive(Debug)]
struct NodeConnectionState {
    files: NodeFiles,
    authorities: Vec<Certificate>,
    /// One client for each address of a node from DNS, since all of these have one name; one for all listed nodes, under
    /// `None`.
    clients: HashMap<Option<SocketAddr>, reqwest::Client>,
}

/// The content of the section's files.
#[derive(Debug)]
struct NodeFiles {
    /// Certificate and key.
    pem: Vec<u8>,
    /// SHA-256 of all files together.
    digest: Digest,
}

impl NodeFiles {
    fn read(section: &Config) -> Result<Self, NodeClientError> {
        let mut pem = read("cert_file", section.cert_file.as_deref())?;
        pem.extend(read("key_file", section.key_file.as_deref())?);
        let authorities = read("ca_file", section.ca_file.as_deref())?;
        let digest = Digest::of(&[&*pem, &*authorities].concat());
        Ok(Self { pem, digest })
    }
}

impl NodeConnections {
    /// Reads the files of a section; opens no connection. `read_authorities` reads those that have signed the
    /// certificates of the other nodes.
    ///
    /// # Errors
    /// The key with a value that cannot be used.
    pub fn new(section: &Config, read_authorities: ReadAuthorities) -> Result<Self, NodeClientError> {
        let state = NodeConnectionState::new(section, NodeFiles::read(section)?, read_authorities)?;
        Ok(Self { section: Arc::new(section.clone()), read_authorities, state: Arc::new(Mutex::new(state)) })
    }

    /// Reads the files again; where they have changed, connections that are opened from now on use them. Blocks.
    ///
    /// # Errors
    /// When a file cannot be used: what was read before stays in use.
    pub fn reload(&self) -> Result<CertificateReload, NodeClientError> {
        let files = NodeFiles::read(&self.section)?;
        if files.digest == self.state.lock().files.digest {
            return Ok(CertificateReload::Unchanged);
        }
        let state = NodeConnectionState::new(&self.section, files, self.read_authorities)?;
        *self.state.lock() = state;
        Ok(CertificateReload::Changed)
    }

    /// The client for requests to a node.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn client_for(&self, node: &FleetNode) -> Result<reqwest::Client, NodeClientError> {
        let mut state = self.state.lock();
        if let Some(client) = state.clients.get(&node.address) {
            return Ok(client.clone());
        }
        let client = build(&self.section, &state.files.pem, state.authorities.clone(), Some(node))?;
        state.clients.insert(node.address, client.clone());
        Ok(client)
    }

    /// Closes the connections to nodes that are not among `nodes`.
    pub fn retain(&self, nodes: &[FleetNode]) {
        let stays = |address: &Option<SocketAddr>| nodes.iter().any(|node| node.address == *address);
        self.state.lock().clients.retain(|address, _| stays(address));
    }
}

/// The outcome of [`NodeConnections::reload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateReload {
    /// The files have changed, and are in use.
    Changed,
    /// The files are the same.
    Unchanged,
}

impl NodeConnectionState {
    /// The state without a connection.
    fn new(section: &Config, files: NodeFiles, read_authorities: ReadAuthorities) -> Result<Self, NodeClientError> {
        let path = path_of("ca_file", section.ca_file.as_deref())?;
        let authorities = read_authorities(path)?;
        // Built once, so that a value that cannot be used is an error here.
        build(section, &files.pem, authorities.clone(), None)?;
        Ok(Self { files, authorities, clients: HashMap::new() })
    }
}

fn build(
    section: &Config,
    pem: &[u8],
    authorities: Vec<Certificate>,
    node: Option<&FleetNode>,
) -> Result<reqwest::Client, NodeClientError> {
    let wrong = |reason: &str| NodeClientError { key: "cert_file", reason: reason.to_owned() };
    let identity = Identity::from_pem(pem).map_err(|_| wrong("certificate and key are no pair in PEM"))?;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("srm-mirror/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(section.connect_timeout.0)
        .identity(identity)
        .tls_certs_only(authorities);
    if let Some(node) = node
        && let Some((address, host)) = node.address.zip(node.url.url().host_str())
    {
        builder = builder.resolve(host, address);
    }
    builder.build().map_err(|_| wrong("TLS cannot be set up with it"))
}

fn read(key: &'static str, path: Option<&Path>) -> Result<Vec<u8>, NodeClientError> {
    let path = path_of(key, path)?;
    std::fs::read(path).map_err(|_| NodeClientError { key, reason: format!("{} cannot be read", path.display()) })
}

fn path_of<'p>(key: &'static str, path: Option<&'p Path>) -> Result<&'p Path, NodeClientError> {
    path.ok_or_else(|| NodeClientError { key, reason: "is missing".into() })
}

/// Why the client of other nodes cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("fleet.{key}: {reason}")]
pub struct NodeClientError {
    /// The key of the section.
    pub key: &'static str,
    /// Why its value cannot be used.
    pub reason: String,
}
