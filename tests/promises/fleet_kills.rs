//! Nodes that are killed: at most a second fetch, no wrong or short zip, and nothing that is stored is lost.

use std::path::Path;

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{
    bucket::TestBucket,
    eventually::eventually,
    fleets::{NodeAuthority, NodeLink},
    forge::{Forge, Lengths},
    process::{Launch, Process},
    zips::{Drink, ZIP, forge, len, sha256, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

/// The parts of three nodes that outlive a kill.
pub struct Site {
    pub forge: Forge,
    bucket: TestBucket,
    pub authority: NodeAuthority,
    pub files: TempDir,
    links: Vec<NodeLink>,
}

impl Site {
    pub async fn new() -> Self {
        let forge = forge(Lengths::Never, |r| r.file("a.txt", "a".repeat(9000)).noise("big.bin", 1, 4 * MIB)).await;
        let mut links = Vec::new();
        for _ in 0..3 {
            links.push(NodeLink::new().await);
        }
        let files = tempfile::tempdir().expect("a directory");
        Self { forge, bucket: TestBucket::start().await, authority: NodeAuthority::default(), files, links }
    }

    pub fn dir(&self, node: usize) -> std::path::PathBuf {
        self.files.path().join(format!("cache{node}"))
    }

    /// Starts a node on its directory; the others find it at its link.
    pub async fn start(&self, node: usize) -> Process {
        let launch = Launch::serve(&self.forge, &self.dir(node));
        let process = self.configure(launch, node).start().await;
        self.links[node].lead_to(process.node_address());
        process
    }

    pub fn configure(&self, launch: Launch, node: usize) -> Launch {
        let name = format!("node{node}");
        let [cert, key, ca] = self.authority.files(self.files.path(), &name);
        let nodes = self.links.iter().enumerate().map(|(n, link)| format!("node{n}=https://{}", link.address));
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        self.bucket
            .configure(launch)
            .set("fleet.node", &name)
            .set("fleet.nodes", &nodes.collect::<Vec<_>>().join(","))
            .set("fleet.listen", "127.0.0.1:0")
            .set("fleet.cert_file", &text(&cert))
            .set("fleet.key_file", &text(&key))
            .set("fleet.ca_file", &text(&ca))
    }
}

/// What a node says of its queue of uploads.
async fn queued(site: &Site, node: usize) -> u64 {
    let dir = site.dir(node);
    let status = Launch::bare(&["status", "--json", "--cache-dir", dir.to_str().expect("text")]).run().await;
    let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    status["shared"]["queued"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_may_be_killed_while_all_three_read_along() {
    for killed in 0..3 {
        let site = Site::new().await;
        let mut nodes = Vec::new();
        for node in 0..3 {
            nodes.push(site.start(node).await);
        }
        let half = site.forge.gate(zips(), len(&site.forge) / 2);
        let clients = join_all(nodes.iter().map(|node| node.open(ZIP))).await;
        let mut clients: Vec<_> = clients.into_iter().map(Drink::of).collect();
        join_all(clients.iter_mut().map(|client| client.until(MIB / 2))).await;
        half.reached().await;
        nodes.remove(killed).kill().await;
        half.open();
        clients.remove(killed).end().await.expect_err("its node is gone");
        for digest in join_all(clients.iter_mut().map(Drink::end)).await {
            assert_eq!(digest.expect("whole"), sha256(&site.forge), "node {killed} was killed");
        }
        assert!(zip_requests(&site.forge) <= 2, "node {killed}: {}", zip_requests(&site.forge));

        // It comes again without repair, and needs the forge no more.
        eventually("a node has uploaded it", async || {
            let mut all = Vec::new();
            for node in (0..3).filter(|node| *node != killed) {
                all.push(queued(&site, node).await);
            }
            all.iter().sum::<u64>() == 0
        })
        .await;
        site.forge.down().await;
        let again = site.start(killed).await;
        let got = again.get(ZIP).await;
        assert_eq!((got.status, got.sha256()), (200, sha256(&site.forge)));
        assert_eq!(queued(&site, killed).await, 0);
        let verify = Launch::bare(&["cache", "verify", "--cache-dir", site.dir(killed).to_str().expect("text")]);
        assert_eq!(verify.run().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_before_its_upload_uploads_after_its_next_start() {
    let site = Site { bucket: TestBucket::scripted().await, ..Site::new().await };
    let node = site.start(0).await;
    site.bucket.fault(http::Method::PUT, "blobs", crate::bucket::BucketFault::Status(503));
    let got = node.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&site.forge)));
    eventually("it is queued", async || queued(&site, 0).await == 1).await;
    node.kill().await;
    site.bucket.script().clear_faults();
    let node = site.start(0).await;
    eventually("it is uploaded", async || queued(&site, 0).await == 0).await;
    assert_eq!((site.bucket.names("blobs").len(), site.bucket.names("claims").len()), (1, 1));
    assert_eq!(node.get(ZIP).await.sha256(), sha256(&site.forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_server_uses_the_bucket_and_listens_for_no_node() {
    let site = Site::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let warm = Launch::over(&site.forge, &site.dir(0), &["warm", "devsapp/fc3"]);
    let warmed = site.configure(warm, 0).set("fleet.listen", &address).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    let node = site.start(0).await;
    eventually("it is uploaded", async || queued(&site, 0).await == 0).await;
    site.forge.down().await;
    assert_eq!(node.get(ZIP).await.sha256(), sha256(&site.forge));
}
