//! Nodes over one bucket: one of them fetches, the others read along, and the loss of any costs a second fetch at most.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;

use crate::{
    bucket::TestBucket,
    eventually::eventually,
    fleets::{Fleet, NodeAuthority, NodeLink, node},
    forge::{Forge, Lengths},
    zips::{Drink, PACKAGE, ZIP, forge, len, sha256, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

async fn some_forge() -> Forge {
    forge(Lengths::Never, |r| r.file("a.txt", "a".repeat(9000)).noise("big.bin", 1, 4 * MIB)).await
}

/// The owner of the tests' package, as the nodes compute it.
fn owner(count: usize) -> usize {
    let score = |node: &usize| srm_mirror::entry::Digest::of(format!("node{node}\ngithub/{PACKAGE}").as_bytes());
    (0..count).max_by_key(score).expect("a node")
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_clients_of_three_nodes_cost_one_fetch_and_read_while_the_forge_still_sends() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let fleet = Fleet::start(&bucket, &[&forge, &forge, &forge]).await;
    let half = forge.gate(zips(), len(&forge) / 2);
    let clients = join_all((0..60).map(|n| fleet.nodes[n % 3].open(ZIP))).await;
    let mut clients: Vec<_> = clients.into_iter().map(Drink::of).collect();
    // Every client has a quarter of the zip, and the forge has sent half of it.
    join_all(clients.iter_mut().map(|client| client.until(MIB))).await;
    half.reached().await;
    assert_eq!(zip_requests(&forge), 1);
    half.open();
    let digests = join_all(clients.iter_mut().map(Drink::end)).await;
    for digest in digests {
        assert_eq!(digest.expect("whole"), sha256(&forge));
    }
    assert_eq!(zip_requests(&forge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_lost_while_it_fetches_costs_a_second_fetch_and_no_client_of_another_node() {
    for lost in 0..3 {
        let bucket = TestBucket::start().await;
        let forge = some_forge().await;
        let mut fleet = Fleet::start(&bucket, &[&forge, &forge, &forge]).await;
        let half = forge.gate(zips(), len(&forge) / 2);
        let clients = join_all((0..3).map(|n| fleet.nodes[n].open(ZIP))).await;
        let mut clients: Vec<_> = clients.into_iter().map(Drink::of).collect();
        join_all(clients.iter_mut().map(|client| client.until(MIB / 2))).await;
        half.reached().await;
        fleet.isolate(lost);
        drop(fleet.nodes.remove(lost));
        half.open();
        let _ = clients.remove(lost).end().await;
        for digest in join_all(clients.iter_mut().map(Drink::end)).await {
            assert_eq!(digest.expect("whole"), sha256(&forge), "node {lost} is lost");
        }
        assert!(zip_requests(&forge) <= 2, "node {lost}: {} fetches", zip_requests(&forge));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_owner_the_next_node_fetches_for_all() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let fleet = Fleet::start(&bucket, &[&forge, &forge, &forge]).await;
    let owner = owner(3);
    fleet.isolate(owner);
    let others = fleet.nodes.iter().enumerate().filter(|(n, _)| *n != owner);
    for got in join_all(others.map(|(_, node)| node.get(ZIP))).await {
        assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    }
    assert_eq!(zip_requests(&forge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_sent_different_content_serve_one() {
    let bucket = TestBucket::start().await;
    let mut forges = Vec::new();
    for number in 0..3 {
        forges.push(forge(Lengths::Never, |r| r.file("a.txt", format!("content {number}"))).await);
    }
    let fleet = Fleet::start(&bucket, &[&forges[0], &forges[1], &forges[2]]).await;
    // No link works: each asks its own forge.
    (0..3).for_each(|n| fleet.isolate(n));
    let answers = join_all(fleet.nodes.iter().map(|node| node.request(reqwest::Method::GET, ZIP, &[]))).await;
    let whole: Vec<_> = answers.into_iter().flatten().filter(|got| got.status == 200).map(|got| got.sha256()).collect();
    assert!(!whole.is_empty() && whole.iter().all(|digest| *digest == whole[0]), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_down_new_versions_come_from_the_first_node_alone() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    forge.repo(PACKAGE).release("v2.0.0", |r| r.file("a.txt", "two"));
    let other = forge_with_other_content().await;
    let fleet = Fleet::start(&bucket, &[&forge, &other, &other]).await;
    bucket.script().down();
    for node in &fleet.nodes {
        let got = node.get(ZIP).await;
        assert_eq!((got.status, got.sha256()), (200, sha256(&forge)), "the first node's content");
    }
    assert_eq!(zip_requests(&other), 0);
    fleet.isolate(0);
    let got = fleet.nodes[1].get("/devsapp/fc3/zipball/v2.0.0").await;
    assert_eq!(got.status, 503, "{got:?}");
    assert_ne!(got.header("retry-after"), "");
    assert_eq!(fleet.nodes[1].get(ZIP).await.status, 200, "what is pinned goes on");
    assert_eq!(zip_requests(&other), 0);
}

async fn forge_with_other_content() -> Forge {
    let other = forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    other.repo(PACKAGE).release("v2.0.0", |r| r.file("a.txt", "other two"));
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_take_each_other_for_the_owner_do_not_wait_in_a_circle() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let files = tempfile::tempdir().expect("a directory");
    let authority = NodeAuthority::default();
    // By different names, each finds the other one before itself.
    let score = |name: &str| srm_mirror::entry::Digest::of(format!("{name}\ngithub/{PACKAGE}").as_bytes());
    let before = |name: &str| {
        let names = (0..1000).map(|n| format!("other{n}"));
        names.into_iter().find(|other| score(other) > score(name)).expect("a name")
    };
    let one_link = NodeLink::new().await;
    let two_link = NodeLink::new().await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let one_knows = [("one".to_owned(), nowhere), (before("one"), two_link.address)];
    let two_knows = [("two".to_owned(), nowhere), (before("two"), one_link.address)];
    let one = node(&forge, &bucket, &authority, files.path(), "one", &one_knows).start().await;
    let two = node(&forge, &bucket, &authority, files.path(), "two", &two_knows).start().await;
    one_link.lead_to(one.node_address.expect("a listener"));
    two_link.lead_to(two.node_address.expect("a listener"));
    let began = std::time::Instant::now();
    for got in join_all([one.get(ZIP), two.get(ZIP)]).await {
        assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    }
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert!(zip_requests(&forge) <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_with_a_certificate_of_the_authority_are_answered() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let fleet = Fleet::start(&bucket, &[&forge]).await;
    let address = fleet.nodes[0].node_address.expect("a listener");
    let url = format!("https://{address}/archives/github%2Fdevsapp%2Ffc3%2Ftag%2Fv1%2E0%2E0");
    let read = |name: &str| std::fs::read(fleet.files.path().join(name)).expect("a file");
    let ca = reqwest::Certificate::from_pem(&read("node0-ca.pem")).expect("a certificate");
    let client = || reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([ca.clone()]);
    let identity =
        |cert: &str, key: &str| reqwest::Identity::from_pem(&[read(cert), read(key)].concat()).expect("a pair");
    let plain = client().build().expect("a client").get(&url).send().await;
    plain.expect_err("without a certificate");
    NodeAuthority::default().files(fleet.files.path(), "stranger");
    let stranger = client().identity(identity("stranger-cert.pem", "stranger-key.pem")).build().expect("a client");
    stranger.get(&url).send().await.expect_err("of another authority");
    let own = client().identity(identity("node0-cert.pem", "node0-key.pem")).build().expect("a client");
    let got = own.get(&url).send().await.expect("an answer");
    assert_eq!(got.status(), 200);
    // Nothing else is answered there, and nothing of it elsewhere.
    let other = own.get(format!("https://{address}/devsapp/fc3/releases")).send().await.expect("an answer");
    assert_eq!(other.status(), 404);
    assert_eq!(fleet.nodes[0].get("/archives/github%2Fdevsapp%2Ffc3%2Ftag%2Fv1%2E0%2E0").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_on_one_node_holds_on_all_within_seconds_and_so_does_its_end() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let fleet = Fleet::start(&bucket, &[&forge, &forge, &forge]).await;
    for node in &fleet.nodes {
        assert_eq!(node.get(ZIP).await.status, 200);
    }
    let all_answer = async |status: u16| {
        join_all(fleet.nodes.iter().map(|node| node.get(ZIP))).await.iter().all(|got| got.status == status)
    };
    let began = std::time::Instant::now();
    let request = serde_json::json!({"pattern": "devsapp/fc3@1.0.0", "reason": "malicious"});
    fleet.nodes[1].admin(fleet.nodes[1].dir(), "block", request).await;
    assert_eq!(fleet.nodes[1].get(ZIP).await.status, 403, "here at once");
    eventually("blocked on all", async || all_answer(403).await).await;
    assert!(began.elapsed().as_secs() <= 10, "{:?}", began.elapsed());
    assert!(String::from_utf8_lossy(&fleet.nodes[0].get(ZIP).await.body).contains("malicious"));
    let request = serde_json::json!({"pattern": "devsapp/fc3@1.0.0"});
    fleet.nodes[2].admin(fleet.nodes[2].dir(), "unblock", request).await;
    eventually("served on all", async || all_answer(200).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_changes_on_one_node_holds_on_all_at_once_where_they_reach_each_other() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    // They do not ask the bucket by themselves for as long as the test runs.
    let never = |config: &mut srm_mirror::config::Config| {
        config.shared.as_mut().expect("a section").max_age = srm_mirror::value::Period::secs(3600);
    };
    let fleet = Fleet::start_with(&bucket, &[&forge, &forge, &forge], never).await;
    for node in &fleet.nodes {
        assert_eq!(node.get(ZIP).await.status, 200);
    }
    let all = async |status: u16| {
        join_all(fleet.nodes.iter().map(|node| node.get(ZIP))).await.iter().all(|got| got.status == status)
    };
    let of = |node: usize| (&fleet.nodes[node], fleet.nodes[node].dir());
    let (node, dir) = of(1);
    node.admin(dir, "block", serde_json::json!({"pattern": "devsapp/fc3", "reason": "malicious"})).await;
    eventually("blocked on all", async || all(403).await).await;
    let (node, dir) = of(2);
    node.admin(dir, "unblock", serde_json::json!({"pattern": "devsapp/fc3"})).await;
    eventually("served on all", async || all(200).await).await;
    let (node, dir) = of(0);
    node.admin(dir, "rm", serde_json::json!({"pattern": "devsapp/fc3", "forget": false})).await;
    let stored = |node: usize| crate::process::files(&of(node).1.join("blobs")).len();
    eventually("removed on all", async || stored(1) == 0 && stored(2) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_set_while_the_bucket_is_down_spreads_afterwards() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let fleet = Fleet::start(&bucket, &[&forge, &forge]).await;
    assert_eq!(fleet.nodes[1].get(ZIP).await.status, 200);
    bucket.script().down();
    let request = serde_json::json!({"pattern": "devsapp/fc3", "reason": "not yet"});
    fleet.nodes[0].admin(fleet.nodes[0].dir(), "block", request).await;
    assert_eq!(fleet.nodes[0].get(ZIP).await.status, 403);
    bucket.script().up();
    eventually("blocked on the other node", async || fleet.nodes[1].get(ZIP).await.status == 403).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_stops_and_links_that_break_under_load_damage_nothing_and_leave_no_queue() {
    const PACKAGES: u64 = 24;
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(PACKAGES, MIB / 2).await;
    let fleet = Fleet::start(&bucket, &[&forge, &forge, &forge]).await;
    let package = |number: u64| format!("load/p{number}");
    // Every zip is asked for on every node, in the middle of what happens to bucket and links.
    let client = async |node: usize, first: u64| {
        let mut served = 0;
        for number in (0..PACKAGES).map(|n| (n + first) % PACKAGES) {
            let path = format!("/{}/zipball/v1.0.0", package(number));
            let got = fleet.nodes[node].request(reqwest::Method::GET, &path, &[]).await;
            match got {
                Ok(got) if got.status == 200 => {
                    assert_eq!(got.sha256(), forge.sha256(&package(number), "v1.0.0"), "node {node}");
                    served += 1;
                }
                // Refused, or broken: never wrong.
                Ok(got) => assert!(matches!(got.status, 502 | 503), "{got:?}"),
                Err(_) => {}
            }
        }
        served
    };
    let disturb = async {
        for (zips, disturbance) in [(4, 0), (8, 1), (12, 2), (16, 3)] {
            eventually("some zips were asked for", async || zip_requests(&forge) >= zips).await;
            match disturbance {
                0 => bucket.script().down(),
                1 => fleet.links[1][0].cut(),
                2 => bucket.script().up(),
                _ => fleet.links[1][0].mend(),
            }
        }
    };
    let clients =
        join_all([(0, 0), (1, 8), (2, 16), (0, 12), (1, 20), (2, 4)].map(|(node, first)| client(node, first)));
    let (served, ()) = tokio::join!(clients, disturb);
    assert!(served.iter().sum::<u64>() > PACKAGES, "{served:?}");
    // Afterwards everything is served everywhere, and nothing waits.
    for node in &fleet.nodes {
        node.clock.advance(std::time::Duration::from_secs(600));
    }
    for node in 0..3 {
        assert_eq!(client(node, 0).await, PACKAGES);
    }
    for node in &fleet.nodes {
        eventually("the queue is empty", async || node.cache.uploads().archives == 0).await;
    }
    assert_eq!(bucket.names("claims").len() as u64, PACKAGES);
    assert_eq!(bucket.names("pins").len() as u64, PACKAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_found_by_their_name_in_dns_decide_nothing_alone() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let files = tempfile::tempdir().expect("a directory");
    let all = [("127.0.0.1".to_owned(), "127.0.0.1:1".parse().expect("an address"))];
    let setup = node(&forge, &bucket, &NodeAuthority::default(), files.path(), "127.0.0.1", &all);
    let setup = setup.with(|config| {
        let section = config.fleet.as_mut().expect("a section");
        section.nodes.clear();
        section.discover = Some("https://localhost:8470".parse().expect("an address"));
    });
    let mirror = setup.start().await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    bucket.script().down();
    assert_eq!(mirror.get(ZIP).await.status, 200, "what is stored is served");
    let refused = mirror.get(&format!("/{PACKAGE}/zipball/v2.0.0")).await;
    assert_eq!(refused.status, 503, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_certificates_and_authority_are_renewed_read_from_each_other_without_a_restart() {
    const PACKAGES: u64 = 400;
    let bucket = TestBucket::start().await;
    let forge = Forge::with_numbered_packages(PACKAGES, 1000).await;
    let often = |config: &mut srm_mirror::config::Config| {
        config.fleet.as_mut().expect("a section").refresh = srm_mirror::value::Period(Duration::from_millis(50));
    };
    let fleet = Fleet::start_with(&bucket, &[&forge, &forge], often).await;
    let renewed = NodeAuthority::default();
    let read = |name: &str| std::fs::read(fleet.files.path().join(name)).expect("a file");
    for own in ["node0", "node1"] {
        renewed.files(fleet.files.path(), own);
    }
    let ca = reqwest::Certificate::from_pem(&read("node0-ca.pem")).expect("a certificate");
    let pair = [read("node0-cert.pem"), read("node0-key.pem")].concat();
    let identity = reqwest::Identity::from_pem(&pair).expect("a pair");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).identity(identity);
    let client = client.build().expect("a client");
    for node in &fleet.nodes {
        let url = format!("https://{}/nothing", node.node_address.expect("a listener"));
        eventually("the listener uses its new files", async || client.get(&url).send().await.is_ok()).await;
    }
    // From here on, every connection is a new one.
    for link in fleet.links.iter().flatten() {
        link.cut();
        link.mend();
    }
    let figures = || fleet.nodes.iter().map(|node| node.cache.usage().fleet.expect("a fleet").read).sum::<u64>();
    let before = figures();
    let mut number = 0;
    eventually("a zip is read from another node", async || {
        let path = format!("/load/p{}/zipball/v1.0.0", number % PACKAGES);
        assert_eq!(fleet.nodes[usize::try_from(number % 2).expect("small")].get(&path).await.status, 200);
        number += 1;
        figures() > before
    })
    .await;
}
