//! A fleet under test: several mirrors in this process over one bucket, with links between them that a test can cut.

#![allow(dead_code, unreachable_pub)]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use srm_mirror::{config::Config, fleet, value::Period};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    bucket::TestBucket,
    forge::Forge,
    mirror::{Mirror, Setup, setup},
};

/// The authority of the nodes' certificates.
pub struct NodeAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Default for NodeAuthority {
    fn default() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "nodes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

impl NodeAuthority {
    /// Writes a node's certificate, its key and the authority; returns the section's files.
    pub fn files(&self, dir: &Path, node: &str) -> [PathBuf; 3] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        params.distinguished_name.push(DnType::CommonName, node);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let write = |name: &str, text: &str| {
            let path = dir.join(format!("{node}-{name}"));
            fs::write(&path, text).expect("written");
            path
        };
        [write("cert.pem", &certificate), write("key.pem", &key.serialize_pem()), write("ca.pem", &self.pem)]
    }
}

/// A forwarder between two nodes.
pub struct NodeLink {
    pub address: SocketAddr,
    state: Arc<Mutex<LinkState>>,
    run: JoinHandle<()>,
}

#[derive(Default)]
struct LinkState {
    target: Option<SocketAddr>,
    is_cut: bool,
    /// Ends the present connections when it is cancelled.
    connections: CancellationToken,
}

impl NodeLink {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(LinkState::default()));
        let of_task = state.clone();
        let run = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (target, token) = {
                    let state = of_task.lock().expect("no panic");
                    (state.target.filter(|_| !state.is_cut), state.connections.clone())
                };
                let Some(target) = target else { continue };
                tokio::spawn(token.run_until_cancelled_owned(async move {
                    if let Ok(mut to) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                }));
            }
        });
        Self { address, state, run }
    }

    /// Connects it to a node.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.lock().expect("no panic").target = Some(target);
    }

    /// Breaks every connection, and closes new ones at once.
    pub fn cut(&self) {
        let mut state = self.state.lock().expect("no panic");
        state.is_cut = true;
        std::mem::take(&mut state.connections).cancel();
    }

    /// Works again.
    pub fn mend(&self) {
        self.state.lock().expect("no panic").is_cut = false;
    }
}

impl Drop for NodeLink {
    fn drop(&mut self) {
        self.run.abort();
        self.cut();
    }
}

/// Some nodes over one bucket.
pub struct Fleet {
    pub nodes: Vec<Mirror>,
    /// `links[from][to]`.
    pub links: Vec<Vec<NodeLink>>,
    pub files: TempDir,
}

impl Fleet {
    /// Starts as many nodes as there are forges, `node0` and so on, each over its own.
    pub async fn start(bucket: &TestBucket, forges: &[&Forge]) -> Self {
        Self::start_with(bucket, forges, |_| {}).await
    }

    pub async fn start_with(bucket: &TestBucket, forges: &[&Forge], change: impl Fn(&mut Config)) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let authority = NodeAuthority::default();
        let mut links = Vec::new();
        for _ in forges {
            let mut from = Vec::new();
            for _ in forges {
                from.push(NodeLink::new().await);
            }
            links.push(from);
        }
        let mut nodes = Vec::new();
        for (own, forge) in forges.iter().enumerate() {
            let all: Vec<_> =
                links[own].iter().enumerate().map(|(to, link)| (format!("node{to}"), link.address)).collect();
            let setup = node(forge, bucket, &authority, files.path(), &format!("node{own}"), &all);
            nodes.push(setup.with(&change).start().await);
        }
        for (to, node) in nodes.iter().enumerate() {
            let address = node.node_address.expect("a listener for nodes");
            links.iter().for_each(|from| from[to].lead_to(address));
        }
        Self { nodes, links, files }
    }

    /// Cuts a node off from the others, both ways.
    pub fn isolate(&self, node: usize) {
        for (from, links) in self.links.iter().enumerate() {
            for (to, link) in links.iter().enumerate() {
                if (from == node) != (to == node) {
                    link.cut();
                }
            }
        }
    }
}

/// The setup of one node; `all` are the names and addresses of the nodes as it knows them.
pub fn node(
    forge: &Forge,
    bucket: &TestBucket,
    authority: &NodeAuthority,
    files: &Path,
    own: &str,
    all: &[(String, SocketAddr)],
) -> Setup {
    node_with_files(forge, bucket, authority.files(files, own), own, all)
}

/// As [`node`], with the certificate, its key and the authority in these files.
pub fn node_with_files(
    forge: &Forge,
    bucket: &TestBucket,
    [cert_file, key_file, ca_file]: [PathBuf; 3],
    own: &str,
    all: &[(String, SocketAddr)],
) -> Setup {
    let nodes =
        all.iter().map(|(name, address)| format!("{name}=https://{address}").parse().expect("a node")).collect();
    let section = fleet::Config {
        node: own.to_owned(),
        nodes,
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        cert_file: Some(cert_file),
        key_file: Some(key_file),
        ca_file: Some(ca_file),
        response_timeout: Period::secs(20),
        ..fleet::Config::default()
    };
    let shared = bucket.section();
    setup(forge).with(|config| {
        config.shared = Some(shared);
        config.fleet = Some(section);
    })
}
