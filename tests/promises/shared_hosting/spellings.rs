//! Spellings of names that were published before there was a bucket.

use super::*;

/// How often the log says that a version of a package is not uploaded.
fn errors_on(package: &str) -> usize {
    let lines = crate::logs::lines("is not uploaded to the shared bucket");
    lines.iter().filter(|line| line.contains("ERROR") && line.contains(package)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_another_spelling_than_the_buckets_stays_where_it_was_published() {
    let _log = crate::logs::keep();
    let mirrors = Mirrors::new().await;
    let alone = mirrors.alone().await;
    let zip = alone.publish("Acme-Spelt", "1.0.0").await;
    let second = mirrors.node().await;
    second.publish("acme-spelt", "1.1.0").await;
    let mut first = mirrors.node_in(alone.stop().await.into()).await;
    let errors = || errors_on("acme-spelt");
    eventually("in the log", async || errors() == 1).await;
    for version in ["1.2.0", "1.3.0"] {
        assert_eq!(first.fetch("acme-spelt", "1.0.0").await.expect("served here"), sha(&zip));
        let refused = first.put("Acme-Spelt", version, component("Acme-Spelt", version)).await;
        assert_eq!(refused.status, 409, "{refused:?}");
        first.publish("acme-spelt", version).await;
        first = mirrors.node_in(first.stop().await.into()).await;
    }
    second.eventually_lists("acme-spelt", &["1.3.0", "1.2.0", "1.1.0"]).await;
    assert_eq!(second.fetch("acme-spelt", "1.0.0").await.expect_err("not in the bucket").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spelling_that_was_taken_counts_before_an_earlier_one_of_a_single_node() {
    let _log = crate::logs::keep();
    let mirrors = Mirrors::scripted().await;
    let alone = mirrors.alone().await;
    alone.publish("Acme-Late", "1.0.0").await;
    // The first publication has failed afterwards.
    mirrors.bucket.overwrite("hosted/names/acme-late.json", json!({"name": "acme-late"}).to_string());
    let node = mirrors.node_in(alone.stop().await.into()).await;
    let refused = node.put("Acme-Late", "1.1.0", component("Acme-Late", "1.1.0")).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let errors = || errors_on("acme-late");
    eventually("in the log", async || errors() == 1).await;
    assert!(mirrors.bucket.names("hosted/releases/").is_empty());
    // The spelling of what is uploaded is taken.
    let other = mirrors.alone().await;
    other.publish("Acme-First", "1.0.0").await;
    let gate = mirrors.bucket.gate(Method::PUT, "hosted/releases/acme-first/");
    let _other = mirrors.node_in(other.stop().await.into()).await;
    gate.reached().await;
    let refused = node.put("acme-first", "1.1.0", component("acme-first", "1.1.0")).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    gate.open();
    node.eventually_lists("acme-first", &["1.0.0"]).await;
}
