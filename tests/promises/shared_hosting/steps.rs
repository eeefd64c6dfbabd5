//! The two steps in which the command line client publishes may reach different nodes.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::*;
use crate::{
    bucket::BucketFault,
    hosted_cli::{Cli, sentence, upload},
};

/// The address of another node for the same upload.
fn on(node: &Node, other: &Node, url: &str) -> String {
    url.replace(&node.mirror.url(""), &other.mirror.url(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_steps_of_a_publication_may_reach_different_nodes() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
    let cli = Cli::with_code(&first.mirror, &mirrors.accounts.code);
    let zip = component("acme-x", "1.0.0");
    let url = cli.reserve("acme-x", "1.0.0").await;
    let elsewhere = on(&first, &second, &url);
    let client = &second.mirror.client;
    let other = component("acme-x", "1.0.1");
    assert_eq!(upload(client, &elsewhere.replace("/1.0.0?", "/1.0.1?"), other).await, None, "another version");
    assert_eq!(upload(client, &elsewhere, zip.clone()).await, Some(201));
    assert_eq!(first.fetch("acme-x", "1.0.0").await.expect("fetched"), sha(&zip));
    let notes = second.get("/acme-x/releases/tags/1.0.0").await.json();
    assert_eq!(notes["body"], "The notes.", "what was announced on the other node is recorded");
    for url in [&url, &elsewhere] {
        assert_eq!(upload(client, url, zip.clone()).await, None, "it is spent");
    }
    // What was used elsewhere is none of the five that an account may have open.
    for number in 0..6 {
        let name = format!("acme-{number}");
        let url = cli.reserve(&name, "1.0.0").await;
        assert_eq!(upload(client, &on(&first, &second, &url), component(&name, "1.0.0")).await, Some(201), "{number}");
    }
    // A node that ends does not end its reservations.
    let url = cli.reserve("acme-x", "1.1.0").await;
    let elsewhere = on(&first, &second, &url);
    first.stop().await;
    assert_eq!(upload(client, &elsewhere, component("acme-x", "1.1.0")).await, Some(201));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_address_that_is_used_on_two_nodes_at_once_counts_once() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
    let cli = Cli::with_code(&first.mirror, &mirrors.accounts.code);
    for round in 0..5 {
        // Both would be published: a moving version takes any number of zips.
        let url = cli.reserve("acme-x", "dev").await;
        let elsewhere = on(&first, &second, &url);
        let zips = [b"1", b"2"].map(|more| component_with("acme-x", "dev", &[("more.js", more), ("round", &[round])]));
        let client = &first.mirror.client;
        let used = join_all([upload(client, &url, zips[0].clone()), upload(client, &elsewhere, zips[1].clone())]);
        let mut used = used.await;
        used.sort_unstable();
        assert_eq!(used, [None, Some(201)], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_reserved_for_one_account_on_all_nodes_and_a_newer_reservation_ends_the_earlier_one() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
    let cli = Cli::with_code(&first.mirror, &mirrors.accounts.code);
    let url = cli.reserve("acme-x", "1.0.0").await;
    let other = Cli::with_code(&second.mirror, &mirrors.accounts.other_code);
    let refused = other.announce("acme-x", "1.0.0").await;
    assert!(sentence(&refused).contains("is being published by token:ci-cli"), "{refused:?}");
    // The token `ci` is another account, too.
    let put = second.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await;
    assert_eq!((put.status, &put.json()["code"]), (409, &json!("being-published")), "{put:?}");
    let newer = Cli::with_code(&second.mirror, &mirrors.accounts.code).reserve("acme-x", "1.0.0").await;
    let zip = component("acme-x", "1.0.0");
    let client = &first.mirror.client;
    for ended in [url.clone(), on(&first, &second, &url)] {
        assert_eq!(upload(client, &ended, zip.clone()).await, None, "a newer one was made");
    }
    assert_eq!(upload(client, &on(&second, &first, &newer), zip).await, Some(201));
    // Another account may publish the next one at once.
    let url = other.reserve("acme-x", "1.1.0").await;
    assert_eq!(upload(client, &on(&second, &first, &url), component("acme-x", "1.1.0")).await, Some(201));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_publication_failed_is_shown_by_every_node_until_the_version_is_published() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
    let cli = Cli::with_code(&first.mirror, &mirrors.accounts.code);
    let elsewhere = Cli::with_code(&second.mirror, &mirrors.accounts.code);
    for version in ["1.0.0", "1.1.0"] {
        let url = cli.reserve("acme-x", version).await;
        let client = &first.mirror.client;
        assert_eq!(upload(client, &on(&first, &second, &url), b"no zip at all".to_vec()).await, None);
    }
    for cli in [&cli, &elsewhere] {
        let failed = cli.failed("acme-x").await;
        assert_eq!((failed.len(), &failed[0]["failed_version"]), (2, &json!("1.1.0")), "{failed:?}");
        assert!(failed[0]["reason"].as_str().is_some_and(|reason| reason.contains("the zip is not published")));
    }
    let url = elsewhere.reserve("acme-x", "1.1.0").await;
    assert_eq!(upload(&second.mirror.client, &url, component("acme-x", "1.1.0")).await, Some(201));
    assert!(first.fetch("acme-x", "1.1.0").await.is_ok());
    for cli in [&cli, &elsewhere] {
        eventually("one failure", async || cli.failed("acme-x").await.len() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_bucket_uses_up_no_address_and_a_lost_answer_ends_none() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    let cli = Cli::with_code(&first.mirror, &mirrors.accounts.code);
    let client = &first.mirror.client;
    for (number, fault) in [BucketFault::LostAnswer, BucketFault::StatusAfterWrite(500)].into_iter().enumerate() {
        let version = format!("1.{number}.0");
        mirrors.bucket.fault_times(1, Method::PUT, "hosted/reservations/", fault);
        let url = cli.reserve("acme-x", &version).await;
        mirrors.bucket.script().clear_faults();
        mirrors.bucket.fault_times(1, Method::PUT, "hosted/reservations/", fault);
        let elsewhere = on(&first, &second, &url);
        assert_eq!(upload(client, &elsewhere, component("acme-x", &version)).await, Some(201), "{fault:?}");
        mirrors.bucket.script().clear_faults();
    }
    let url = cli.reserve("acme-x", "2.0.0").await;
    let elsewhere = on(&first, &second, &url);
    mirrors.bucket.script().down();
    for url in [&url, &elsewhere] {
        assert_eq!(upload(client, url, component("acme-x", "2.0.0")).await, None, "not while the bucket is down");
    }
    mirrors.bucket.script().up();
    eventually("published", async || upload(client, &elsewhere, component("acme-x", "2.0.0")).await == Some(201)).await;
    assert!(first.fetch("acme-x", "2.0.0").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_zip_is_arriving_stays_reserved_on_every_node() {
    let mirrors = Mirrors::scripted().await;
    let nodes = mirrors.two().await;
    let advance = |secs: u64| nodes.iter().for_each(|node| node.mirror.clock.advance(Duration::from_secs(secs)));
    let url = Cli::with_code(&nodes[0].mirror, &mirrors.accounts.code).reserve("acme-x", "1.0.0").await;
    advance(590);
    let mut zip = component("acme-x", "1.0.0");
    let end = zip.split_off(100);
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let end = async move {
        may_go_on.await.expect("goes on");
        Ok::<_, std::io::Error>(end)
    };
    let parts = futures_util::stream::iter([Ok(zip)]).chain(futures_util::stream::once(end));
    let client = &nodes[0].mirror.client;
    let first = tokio::spawn(client.put(&url).body(reqwest::Body::wrap_stream(parts)).send());
    let stage = nodes[0].store.path().join("stage");
    eventually("the upload is under way", async || fs::read_dir(&stage).expect("a folder").count() == 1).await;
    let is_extended = || {
        let text = mirrors.bucket.object("hosted/reservations/acme-x/1.0.0.json").expect("a reservation");
        let reservation: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let end: jiff::Timestamp = reservation["expires_at"].as_str().expect("a time").parse().expect("a time");
        end > nodes[0].mirror.clock.now() + Duration::from_secs(300)
    };
    eventually("extended", async || is_extended()).await;
    advance(60);
    for node in &nodes {
        let refused = Cli::with_code(&node.mirror, &mirrors.accounts.other_code).announce("acme-x", "1.0.0").await;
        assert!(sentence(&refused).contains("is being published by token:ci-cli"), "{refused:?}");
    }
    go_on.send(()).expect("the upload waits");
    assert_eq!(first.await.expect("no panic").expect("a head").status(), 201);
}
