//! What an operator removes on one mirror of a bucket is removed on the others.

use http::Method;
use serde_json::json;

use crate::{
    bucket::TestBucket,
    forge::{Forge, Lengths},
    mirror::{Mirror, setup},
    process::Launch,
    shared_bucket::{first_node, node, some_forge, uploaded},
    zips::{ZIP, blobs, eventually, forge, pins, sha256, zip_requests},
};

const LIST: &str = "/devsapp/fc3/releases";

/// Two mirrors that have the zip and the list.
async fn two_mirrors(forge: &Forge, bucket: &TestBucket) -> [Mirror; 2] {
    let first = first_node(forge, bucket).await;
    let second = node(forge, bucket).start().await;
    assert_eq!(second.get(ZIP).await.status, 200);
    eventually("stored", || blobs(second.dir()) == 1).await;
    for mirror in [&first, &second] {
        assert_eq!(mirror.get(LIST).await.status, 200);
    }
    [first, second]
}

async fn remove(mirror: &Mirror, pattern: &str, forget: bool) {
    let report = mirror.admin(mirror.dir(), "rm", json!({"pattern": pattern, "forget": forget})).await;
    assert_eq!(report[0]["spreads"], true, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_removed_on_one_mirror_is_removed_on_the_others_with_its_lists() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    remove(&first, "devsapp/fc3", false).await;
    assert_eq!(blobs(first.dir()), 0);
    eventually("removed on the other one", || blobs(second.dir()) == 0).await;
    // The lists are asked of the forge again: the bucket has none either.
    forge.clear_log();
    let asked = async || {
        assert_eq!(second.get(LIST).await.status, 200);
        !forge.requests().is_empty()
    };
    crate::eventually::eventually("the list is asked for", asked).await;
    assert_eq!(zip_requests(&forge), 0);
    assert_eq!(second.get(ZIP).await.sha256(), sha256(&forge), "the bucket keeps the zip");
    assert_eq!(zip_requests(&forge), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_that_is_accepted_on_one_mirror_is_accepted_on_all() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let other_forge = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    let first_dir = first.stop().await.expect("its directory");
    let first = node(&other_forge, &bucket).start_in(first_dir.path()).await;
    first.admin(first_dir.path(), "rm", json!({"pattern": "devsapp/fc3@v1.0.0", "forget": true})).await;
    assert_eq!(first.get(ZIP).await.sha256(), sha256(&other_forge));
    uploaded(&first).await;
    let accepted = async || second.get(ZIP).await.sha256() == sha256(&other_forge);
    crate::eventually::eventually("the other one takes it, too", accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_after_a_removal_stays_on_the_mirror_that_removed() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    remove(&first, "devsapp/fc3", true).await;
    assert_eq!(first.get(ZIP).await.status, 200);
    eventually("stored again", || blobs(first.dir()) == 1).await;
    eventually("removed on the other one", || blobs(second.dir()) == 0 && pins(second.dir()).len() == 2).await;
    eventually("in the bucket again", || bucket.names("claims").len() == 1 && bucket.names("pins").len() == 1).await;
    // Each has asked for the removals again.
    let reads = bucket.requests(&Method::GET, "state/removals");
    eventually("asked again", || bucket.requests(&Method::GET, "state/removals") >= reads + 3).await;
    assert_eq!((blobs(first.dir()), bucket.names("claims").len(), bucket.names("pins").len()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_spreads_after_a_failure_of_the_bucket_and_a_restart() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    let second_dir = second.stop().await.expect("its directory");
    bucket.script().down();
    remove(&first, "devsapp/fc3@*", false).await;
    assert_eq!(blobs(first.dir()), 0, "removed here at once");
    let first_dir = first.stop().await.expect("its directory");
    bucket.script().up();
    let _first = node(&forge, &bucket).start_in(first_dir.path()).await;
    eventually("told", || bucket.names("state").contains(&"state/removals.json".to_owned())).await;
    // The other one was away.
    let second = node(&forge, &bucket).start_in(second_dir.path()).await;
    let record = || std::fs::read_to_string(second_dir.path().join("removals.json")).unwrap_or_default();
    eventually("removed on the other one, and recorded", || record().contains("\"done\": 1")).await;
    assert_eq!(blobs(second_dir.path()), 0);
    assert_eq!(second.get(ZIP).await.status, 200);
    eventually("stored again", || blobs(second_dir.path()) == 1).await;
    second.stop().await;
    bucket.script().clear_log();
    let _second = node(&forge, &bucket).start_in(second_dir.path()).await;
    eventually("asked", || bucket.requests(&Method::GET, "state/removals") >= 3).await;
    assert_eq!(blobs(second_dir.path()), 1, "it is removed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_written_while_its_version_is_forgotten_elsewhere_is_taken_away_again() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let gate = bucket.gate(Method::PUT, "claims");
    let slow = node(&forge, &bucket).start().await;
    assert_eq!(slow.get(ZIP).await.status, 200);
    gate.reached().await;
    // The mirror of the operator has never seen the version.
    let other = node(&forge, &bucket).start().await;
    remove(&other, "devsapp/fc3@v1.0.0", true).await;
    gate.open();
    eventually("forgotten", || bucket.names("pins").is_empty() && bucket.names("claims").is_empty()).await;
    eventually("removed", || blobs(slow.dir()) == 0).await;
    assert_eq!(slow.get(ZIP).await.status, 200);
    eventually("stored again", || bucket.names("claims").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_removes_on_other_mirrors_what_its_own_does_not_have() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    let dir = setup(&forge).start().await.stop().await.expect("an empty directory");
    let rm = |arguments: &[&str]| {
        let launch = Launch::over(&forge, dir.path(), &[&["cache", "rm", "devsapp/fc3"], arguments].concat());
        bucket.configure(launch)
    };
    let shown = rm(&["--dry-run"]).run().await;
    assert!(shown.out.contains("the other mirrors of the bucket remove what they have of it, too"), "{shown:?}");
    let removed = rm(&["--yes"]).run().await;
    assert_eq!((removed.code, removed.out.ends_with("removed\n")), (Some(0), true), "{removed:?}");
    // It is told by the command itself, or by the next process that holds the directory.
    let _mirror = node(&forge, &bucket).start_in(dir.path()).await;
    eventually("removed", || blobs(first.dir()) == 0).await;
}
