//! Changes of what is published: they hold on all nodes.

use super::*;

async fn two_nodes(forge: &Forge, bucket: &TestBucket, accounts: &Accounts) -> [Node; 2] {
    [Node::start(forge, bucket, accounts).await, Node::start(forge, bucket, accounts).await]
}

async fn yank(node: &Node, what: &str, version: &str) {
    let ask = json!({"package": "acme-x", "version": version});
    node.mirror.admin(node.cache.path(), what, ask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_hidden_shown_and_deleted_on_all_nodes() {
    let bucket = TestBucket::start().await;
    let forge = Forge::start().await;
    let accounts = Accounts::new(&forge).await;
    let [first, second] = two_nodes(&forge, &bucket, &accounts).await;
    let zip = first.publish("acme-x", "1.0.0").await;
    first.publish("acme-x", "1.1.0").await;
    second.eventually_lists("acme-x", &["1.1.0", "1.0.0"]).await;
    yank(&second, "hosted/yank", "1.1.0").await;
    first.eventually_lists("acme-x", &["1.0.0"]).await;
    assert!(first.fetch("acme-x", "1.1.0").await.is_ok(), "by its exact name");
    yank(&first, "hosted/unyank", "1.1.0").await;
    second.eventually_lists("acme-x", &["1.1.0", "1.0.0"]).await;

    assert_eq!(second.delete("acme-x", "1.1.0").await.status, 200);
    assert_eq!(second.fetch("acme-x", "1.1.0").await.expect_err("deleted").status, 404);
    first.eventually_lists("acme-x", &["1.0.0"]).await;
    assert_eq!(first.fetch("acme-x", "1.1.0").await.expect_err("deleted").status, 404);
    // The tombstone holds everywhere, also on a node that was never told.
    let third = Node::start(&forge, &bucket, &accounts).await;
    for node in [&first, &second, &third] {
        let again = node.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
        assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")), "{again:?}");
    }
    assert_eq!(third.fetch("acme-x", "1.0.0").await.expect("fetched"), sha(&zip));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moving_version_is_published_on_any_node_and_its_earlier_zips_are_kept() {
    let bucket = TestBucket::start().await;
    let forge = Forge::start().await;
    let accounts = Accounts::new(&forge).await;
    let nodes = two_nodes(&forge, &bucket, &accounts).await;
    let mut last = String::new();
    for number in 0..4_usize {
        let zip = component_with("acme-x", "dev", &[("number", number.to_string().as_bytes())]);
        assert_eq!(nodes[number % 2].put("acme-x", "dev", zip.clone()).await.status, 201);
        last = sha(&zip);
    }
    for node in &nodes {
        eventually("the last zip", async || node.fetch("acme-x", "dev").await.is_ok_and(|found| found == last)).await;
    }
    // At the same moment, one comes after the other.
    let at_once = nodes.iter().enumerate().map(|(number, node)| {
        let zip = component_with("acme-x", "dev", &[("other", number.to_string().as_bytes())]);
        async move { node.put("acme-x", "dev", zip).await.status }
    });
    assert_eq!(join_all(at_once).await, [201, 201]);
    let record = fs::read(nodes[0].store.path().join("releases/acme-x/dev.json")).expect("a record");
    let there = fs::read(nodes[1].store.path().join("releases/acme-x/dev.json")).expect("a record");
    let earlier = |text: &[u8]| {
        let record: serde_json::Value = serde_json::from_slice(text).expect("JSON");
        record["previous"].as_array().expect("zips").len()
    };
    assert_eq!(earlier(&record).max(earlier(&there)), 5, "none is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_kept_on_one_node_is_pruned_on_none() {
    let bucket = TestBucket::start().await;
    let forge = Forge::start().await;
    let accounts = Accounts::new(&forge).await;
    let [first, second] = two_nodes(&forge, &bucket, &accounts).await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        first.publish("acme-x", version).await;
    }
    second.eventually_lists("acme-x", &["1.2.0", "1.1.0", "1.0.0"]).await;
    let keep = json!({"pattern": "hosted:acme-x@1.0.0"});
    first.mirror.admin(first.cache.path(), "keep", keep).await;
    let prune = json!({"pattern": "acme-x", "keep_last": 1, "younger_than": "0s", "dry_run": false});
    let prunes = async || {
        let pruned = second.mirror.admin(second.cache.path(), "hosted/prune", prune.clone()).await;
        pruned
            .into_iter()
            .filter_map(|line| (line["event"] == "version").then(|| line["version"].as_str().expect("text").to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(prunes().await, ["1.1.0"]);
    first.eventually_lists("acme-x", &["1.2.0", "1.0.0"]).await;
}
