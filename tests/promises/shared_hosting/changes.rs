//! Changes of what is published: they hold on all nodes.

use super::*;

async fn yank(node: &Node, what: &str, version: &str) {
    let ask = json!({"package": "acme-x", "version": version});
    node.mirror.admin(node.cache.path(), what, ask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_hidden_shown_and_deleted_on_all_nodes() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
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
    let third = mirrors.node().await;
    for node in [&first, &second, &third] {
        let again = node.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
        assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")), "{again:?}");
    }
    assert_eq!(third.fetch("acme-x", "1.0.0").await.expect("fetched"), sha(&zip));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moving_version_is_published_on_any_node_and_its_earlier_zips_are_kept() {
    let mirrors = Mirrors::new().await;
    let nodes = mirrors.two().await;
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
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_later_change_is_not_overwritten_by_an_earlier_one() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    let is_deleted = || {
        let record = mirrors.bucket.object("hosted/releases/acme-x/1.0.0.json");
        record.is_some_and(|record| String::from_utf8_lossy(&record).contains("\"deleted\""))
    };
    let notes = mirrors.bucket.gate(Method::PUT, "hosted/changes.json");
    let zip = component("acme-x", "1.0.0");
    let change = async {
        notes.reached().await;
        let deletion = second.delete("acme-x", "1.0.0");
        let next = async {
            eventually("deleted", async || is_deleted()).await;
            let publication = first.put("acme-x", "1.1.0", component("acme-x", "1.1.0"));
            let open = async {
                // For the next version, the first node has read what there is.
                eventually("published", async || !mirrors.bucket.names("hosted/releases/acme-x/1.1.0").is_empty())
                    .await;
                assert_eq!(first.fetch("acme-x", "1.0.0").await.expect_err("deleted").status, 404);
                notes.open();
            };
            join(publication, open).await.0
        };
        join(deletion, next).await
    };
    let watch = async {
        let published = first.put("acme-x", "1.0.0", zip).await;
        (published, first.fetch("acme-x", "1.0.0").await)
    };
    let ((published, found), (deleted, next)) = join(watch, change).await;
    assert_eq!((published.status, deleted.status, next.status), (201, 200, 201));
    assert_eq!(found.expect_err("deleted").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_passed_while_its_zip_was_uploaded_is_not_published() {
    let mirrors = Mirrors::scripted().await;
    let nodes = mirrors.two().await;
    for (number, node) in nodes.iter().enumerate() {
        let low = format!("{number}.1.0");
        let zip = component("acme-x", &low);
        let digest = sha(&zip);
        let upload = mirrors.bucket.gate(Method::PUT, &format!("hosted/blobs/{}/{digest}", &digest[..2]));
        let passed = async {
            upload.reached().await;
            node.publish("acme-x", &format!("{number}.2.0")).await;
            upload.open();
        };
        let (refused, ()) = join(nodes[0].put("acme-x", &low, zip), passed).await;
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("version-exists")), "{refused:?}");
    }
}
