//! A bucket that is down, loses answers or has damaged objects.

use super::*;
use crate::bucket::BucketFault;

fn retry_after(got: &TestResponse) -> u64 {
    got.header("retry-after").parse().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_down_nothing_is_published_or_changed_and_the_copy_is_served() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    second.eventually_lists("acme-x", &["1.0.0"]).await;
    mirrors.bucket.script().down();
    for refused in [
        first.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await,
        first.put("acme-y", "1.0.0", component("acme-y", "1.0.0")).await,
        first.delete("acme-x", "1.0.0").await,
    ] {
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(retry_after(&refused) > 0, "{refused:?}");
        let message = refused.json()["message"].as_str().expect("a sentence").to_owned();
        assert!(message.starts_with("the shared bucket, which keeps the published packages,"), "{message}");
    }
    let ask = json!({"package": "acme-x", "version": "1.0.0"}).to_string();
    let hidden = first.mirror.control(first.cache.path(), Method::POST, "/-/hosted/yank", ask).await;
    assert_eq!((hidden.status, &hidden.json()["code"]), (503, &json!("bucket")), "{hidden:?}");
    assert!(retry_after(&hidden) > 0);
    assert_eq!(first.fetch("acme-x", "1.0.0").await.expect("its copy"), sha(&zip));
    assert_eq!(first.listed("acme-x").await, ["1.0.0"]);
    let elsewhere = second.fetch("acme-x", "1.0.0").await.expect_err("no copy of the zip");
    assert_eq!((elsewhere.status, retry_after(&elsewhere) > 0), (503, true), "{elsewhere:?}");
    assert_eq!(second.listed("acme-x").await, ["1.0.0"]);
    // A start works with the copy.
    let [cache, store] = first.stop().await.into();
    let first = mirrors.node_in([cache, store]).await;
    assert_eq!(first.fetch("acme-x", "1.0.0").await.expect("its copy"), sha(&zip));
    let ready = first.mirror.get("/readyz").await;
    assert!(ready.status == 200 && String::from_utf8_lossy(&ready.body).contains("degraded"), "{ready:?}");
    mirrors.bucket.script().up();
    eventually("published", async || first.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await.status == 201)
        .await;
    assert!(second.fetch("acme-x", "1.1.0").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_never_seen_the_bucket_asks_no_upstream_for_a_name_that_may_be_published() {
    let mirrors = Mirrors::scripted().await;
    let first = mirrors.node().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    let asked = || mirrors.forge.count(|seen| seen.path().contains("acme-x"));
    let before = asked();
    let [cache, _] = mirrors.node().await.stop().await.into();
    mirrors.bucket.script().down();
    // It has its tokens, and nothing that is published.
    let store = tempfile::tempdir().expect("a directory");
    let second = mirrors.node_in([cache, store]).await;
    let refused = second.fetch("acme-x", "1.0.0").await.expect_err("unknown");
    assert_eq!((refused.status, retry_after(&refused) > 0), (503, true), "{refused:?}");
    mirrors.bucket.script().up();
    eventually("served", async || second.fetch("acme-x", "1.0.0").await.is_ok_and(|found| found == sha(&zip))).await;
    assert_eq!(asked(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_write_that_was_done_is_a_success() {
    let mirrors = Mirrors::scripted().await;
    let node = mirrors.node().await;
    node.publish("acme-x", "0.1.0").await;
    let faults = [BucketFault::LostAnswer, BucketFault::StatusAfterWrite(500), BucketFault::StatusAfterWrite(409)];
    for (number, fault) in faults.into_iter().enumerate() {
        let version = format!("1.{number}.0");
        for folder in ["hosted/blobs/", "hosted/releases/", "hosted/changes.json"] {
            // A service answers an upload that it has done with 500 or nothing, and never with a conflict.
            if folder != "hosted/blobs/" || fault == BucketFault::LostAnswer {
                mirrors.bucket.fault_times(1, Method::PUT, folder, fault);
            }
        }
        let zip = node.publish("acme-x", &version).await;
        assert_eq!(node.fetch("acme-x", &version).await.expect("fetched"), sha(&zip));
        mirrors.bucket.script().clear_faults();
        mirrors.bucket.fault_times(1, Method::PUT, "hosted/releases/", fault);
        assert_eq!(node.delete("acme-x", &version).await.status, 200, "{fault:?}");
        assert_eq!(node.fetch("acme-x", &version).await.expect_err("deleted").status, 404);
        mirrors.bucket.script().clear_faults();
    }
    assert_eq!(node.listed("acme-x").await, ["0.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_zip_in_the_bucket_reaches_no_client() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    let name = mirrors.bucket.names("hosted/blobs/")[0].clone();
    let mut damaged = zip.clone();
    damaged[100] ^= 1;
    mirrors.bucket.overwrite(&name, damaged);
    assert_eq!(second.fetch("acme-x", "1.0.0").await.expect_err("damaged").status, 500);
    mirrors.bucket.overwrite(&name, zip[..zip.len() / 2].to_vec());
    assert_eq!(second.fetch("acme-x", "1.0.0").await.expect_err("short").status, 500);
    assert!(crate::process::files(&second.store.path().join("blobs")).is_empty());
    assert_eq!(first.fetch("acme-x", "1.0.0").await.expect("its copy"), sha(&zip));
    // Published again, the whole one is there.
    assert_eq!(first.put("acme-x", "1.0.0", zip.clone()).await.status, 200);
    assert_eq!(second.fetch("acme-x", "1.0.0").await.expect("mended"), sha(&zip));
    mirrors.bucket.fault_times(1, Method::GET, "hosted/blobs/", BucketFault::CutBody);
    let third = mirrors.node().await;
    assert_eq!(third.fetch("acme-x", "1.0.0").await.expect_err("cut").status, 503);
    assert_eq!(third.fetch("acme-x", "1.0.0").await.expect("at the next try"), sha(&zip));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_did_not_come_is_in_every_list_soon() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    first.publish("acme-x", "1.0.0").await;
    first.publish("acme-x", "1.1.0").await;
    second.eventually_lists("acme-x", &["1.1.0", "1.0.0"]).await;
    let lose_one = || mirrors.bucket.fault_times(1, Method::PUT, "hosted/releases/", BucketFault::HangAfterWrite);
    lose_one();
    assert_eq!(first.put("acme-x", "1.2.0", component("acme-x", "1.2.0")).await.status, 503);
    second.eventually_lists("acme-x", &["1.2.0", "1.1.0", "1.0.0"]).await;
    lose_one();
    assert_eq!(first.delete("acme-x", "1.0.0").await.status, 503);
    second.eventually_lists("acme-x", &["1.2.0", "1.1.0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_keeps_no_node_from_following_the_others() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    first.publish("acme-x", "1.0.0").await;
    second.eventually_lists("acme-x", &["1.0.0"]).await;
    let bad = "hosted/releases/acme-bad/1.0.0.json";
    mirrors.bucket.fault(Method::GET, bad, BucketFault::Status(403));
    first.publish("acme-bad", "1.0.0").await;
    let asked = mirrors.bucket.requests(&Method::GET, bad);
    eventually("read", async || mirrors.bucket.requests(&Method::GET, bad) > asked).await;
    first.publish("acme-x", "1.1.0").await;
    second.eventually_lists("acme-x", &["1.1.0", "1.0.0"]).await;
    // One that starts has the others, too, and is told what has changed since.
    let third = mirrors.node().await;
    assert!(third.has("releases/acme-x/1.1.0.json"));
    first.publish("acme-x", "1.2.0").await;
    third.eventually_lists("acme-x", &["1.2.0", "1.1.0", "1.0.0"]).await;
    mirrors.bucket.script().clear_faults();
    for node in [&second, &third] {
        eventually("read", async || node.has("releases/acme-bad/1.0.0.json")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_uploaded_keeps_no_other_one_from_the_bucket_and_is_tried_again_alone() {
    let _log = crate::logs::keep();
    let mirrors = Mirrors::scripted().await;
    let alone = mirrors.alone().await;
    let zip = alone.publish("acme-a", "1.0.0").await;
    alone.publish("acme-b", "1.0.0").await;
    let mark = format!("gc/hosted/{}", sha(&zip));
    mirrors.bucket.overwrite(&mark, "damaged");
    let node = mirrors.node_in(alone.stop().await.into()).await;
    eventually("the other one is uploaded", async || mirrors.bucket.names("hosted/releases/acme-b").len() == 1).await;
    let lists = || mirrors.bucket.script().log().iter().filter(|seen| seen.name.ends_with("/hosted/releases/")).count();
    let tries = mirrors.bucket.requests(&Method::GET, &mark);
    eventually("tried again", async || mirrors.bucket.requests(&Method::GET, &mark) >= tries + 3).await;
    assert_eq!(lists(), 1, "all is listed once");
    assert_eq!(crate::logs::lines(&mark).iter().filter(|line| line.contains("ERROR")).count(), 1, "in the log");
    mirrors.bucket.overwrite(&mark, json!({"digest": sha(&zip), "generation": 0}).to_string());
    eventually("uploaded", async || mirrors.bucket.names("hosted/releases/acme-a").len() == 1).await;
    assert_eq!(node.fetch("acme-a", "1.0.0").await.expect("served"), sha(&zip));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_is_complete_as_soon_as_the_last_record_is_read() {
    let mirrors = Mirrors::scripted().await;
    mirrors.node().await.publish("acme-x", "1.0.0").await;
    let record = "hosted/releases/acme-x/1.0.0.json";
    mirrors.bucket.fault(Method::GET, record, BucketFault::Status(403));
    let node = mirrors.node().await;
    // By its start, by its first look, and once more.
    let asked = mirrors.bucket.requests(&Method::GET, record);
    eventually("read again", async || mirrors.bucket.requests(&Method::GET, record) >= asked + 2).await;
    assert!(!node.has("complete-copy"));
    mirrors.bucket.script().clear_faults();
    eventually("complete", async || node.has("complete-copy")).await;
    mirrors.bucket.script().down();
    let unknown = node.fetch("acme-unknown", "1.0.0").await.expect_err("unknown");
    assert_eq!(unknown.status, 404, "the upstreams are asked: {unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_bucket_refuses_is_sent_again_more_and_more_rarely() {
    let mirrors = Mirrors::scripted().await;
    let alone = mirrors.alone().await;
    alone.publish("acme-x", "1.0.0").await;
    mirrors.bucket.fault(Method::PUT, "hosted/blobs/", BucketFault::Status(403));
    let _node = mirrors.node_in(alone.stop().await.into()).await;
    let tries = || mirrors.bucket.requests(&Method::PUT, "hosted/blobs/");
    eventually("tried", async || tries() > 0).await;
    let looks = || mirrors.bucket.requests(&Method::GET, "hosted/changes.json");
    let before = looks();
    eventually("looks", async || looks() >= before + 20).await;
    assert!(tries() <= 10, "{}", tries());
    mirrors.bucket.script().clear_faults();
    eventually("uploaded", async || mirrors.bucket.names("hosted/releases/acme-x").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_upload_of_an_earlier_version_hangs_what_others_publish_is_in_every_list_soon() {
    let mirrors = Mirrors::scripted().await;
    let alone = mirrors.alone().await;
    let zip = alone.publish("acme-x", "1.0.0").await;
    let gate = mirrors.bucket.gate(Method::PUT, &format!("hosted/blobs/{}/{}", &sha(&zip)[..2], sha(&zip)));
    let [cache, store] = alone.stop().await.into();
    let patient = |config: &mut Config| {
        config.shared.as_mut().expect("a section").response_timeout = srm_mirror::value::Period::secs(300);
    };
    let bucket = Some(&mirrors.bucket);
    let node = Node::start_in(&mirrors.forge, bucket, &mirrors.accounts, cache, store, patient).await;
    gate.reached().await;
    let other = mirrors.node().await;
    other.publish("acme-y", "1.0.0").await;
    node.eventually_lists("acme-y", &["1.0.0"]).await;
    other.publish("acme-y", "1.1.0").await;
    node.eventually_lists("acme-y", &["1.1.0", "1.0.0"]).await;
    assert!(mirrors.bucket.names("hosted/releases/acme-x").is_empty());
    gate.open();
    other.eventually_lists("acme-x", &["1.0.0"]).await;
}
