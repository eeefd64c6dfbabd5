//! `tls nodes`: certificates by which the nodes of a fleet know each other.

use crate::{
    bucket::TestBucket,
    fleets::{NodeLink, node_with_files},
};

use super::*;

/// `tls nodes` for these names.
async fn make_nodes(dir: &Path, names: &[&str], more: &[&str]) -> Output {
    let mut arguments = vec!["tls", "nodes", "--dir", dir.to_str().expect("text")];
    arguments.extend(names.iter().flat_map(|name| ["--name", name]));
    arguments.extend(more);
    program(&arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_certificates_of_tls_nodes_read_from_each_other() {
    const PACKAGES: u64 = 400;
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = TestBucket::start().await;
    let forge = Forge::with_numbered_packages(PACKAGES, 1000).await;
    let links = [NodeLink::new().await, NodeLink::new().await];
    let all = [0, 1].map(|node: usize| (format!("node{node}"), links[node].address));
    let mut nodes = Vec::new();
    for (own, link) in links.iter().enumerate() {
        // The second one is made later, by the same authority.
        let done = make_nodes(dir.path(), &["127.0.0.1"], &["--force"]).await;
        assert!(done.status.success(), "{done:?}");
        let files = ["127.0.0.1.pem", "127.0.0.1.key", "nodes-ca.pem"].map(|file| {
            let copy = dir.path().join(format!("{own}-{file}"));
            fs::copy(dir.path().join(file), &copy).expect("copied");
            copy
        });
        let node = node_with_files(&forge, &bucket, files, &format!("node{own}"), &all).start().await;
        link.lead_to(node.node_address.expect("a listener for nodes"));
        nodes.push(node);
    }
    let read = || nodes.iter().map(|node| node.cache.usage().fleet.expect("a fleet").read).sum::<u64>();
    let mut number = 0;
    eventually("a zip is read from another node", async || {
        let path = format!("/load/p{}/zipball/v1.0.0", number % PACKAGES);
        assert_eq!(nodes[usize::try_from(number % 2).expect("small")].get(&path).await.status, 200);
        number += 1;
        read() > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_node_that_ends_soon_is_a_reason_to_be_degraded() {
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = TestBucket::start().await;
    let forge = forge().await;
    let made = make_nodes(dir.path(), &["127.0.0.1"], &["--days", "5"]).await;
    assert!(made.status.success(), "{made:?}");
    let files = ["127.0.0.1.pem", "127.0.0.1.key", "nodes-ca.pem"].map(|file| dir.path().join(file));
    let all = [("node0".to_owned(), SocketAddr::from(([127, 0, 0, 1], 1)))];
    let mirror = node_with_files(&forge, &bucket, files, "node0", &all).start().await;
    let ready = mirror.get("/readyz").await;
    let reason = "the certificate O=srm-mirror (fleet) ends in 5 days (";
    assert!(ready.json()["reasons"][0].as_str().is_some_and(|text| text.starts_with(reason)), "{ready:?}");
}

#[tokio::test]
async fn tls_nodes_makes_a_certificate_for_each_node_and_says_what_goes_where() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = make_nodes(dir.path(), &["10.0.0.1", "b.example.com", "nodes-ca"], &[]).await;
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| dir.path().join(name);
    let out = String::from_utf8(made.stdout).expect("text");
    let ca = file("nodes-ca.pem");
    assert!(out.starts_with(&format!("authority    {} (made)\n", ca.display())), "{out}");
    for name in ["10.0.0.1", "b.example.com", "nodes-ca-host"] {
        assert!(out.contains(&format!("key          {}\n", file(&format!("{name}.key")).display())), "{out}");
        let mode = fs::metadata(file(&format!("{name}.key"))).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(out.contains("  ca_file = \"/etc/srm-mirror/nodes-ca.pem\"\n"), "{out}");
    let authority = fs::read(&ca).expect("an authority");

    let again = make_nodes(dir.path(), &["c.example.com", "b.example.com"], &[]).await;
    assert_eq!(again.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&again.stderr).contains("b.example.com.pem exists already; --force"), "{again:?}");
    assert!(!file("c.example.com.pem").exists(), "all or none");
    let json = make_nodes(dir.path(), &["c.example.com"], &["--json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["new_ca"], &json["nodes"][0]["names"][0]), (&false.into(), &"c.example.com".into()), "{json}");
    assert_eq!(fs::read(&ca).expect("an authority"), authority);

    let wildcard = make_nodes(dir.path(), &["*.example.com"], &[]).await;
    assert_eq!(wildcard.status.code(), Some(64), "{wildcard:?}");
    // The authority of servers is another one.
    assert!(init(dir.path(), &["10.0.0.1"], &["--force"]).await.status.success());
    assert_ne!(fs::read(file("ca.pem")).expect("an authority"), authority);
}
