//! A version that an operator forgets while its zip is on its way to the bucket does not come back with it.

use http::Method;
use serde_json::{Value, json};
use srm_mirror::shared::Durability;

use crate::{
    bucket::{BucketGate, TestBucket},
    forge::Forge,
    mirror::Mirror,
    shared_bucket::{node, some_forge},
    zips::{PACKAGE, TAG, ZIP, eventually, sha256},
};

fn forgotten() -> Value {
    json!({"pattern": "devsapp/fc3@v1.0.0", "forget": true})
}

fn is_empty(bucket: &TestBucket) -> bool {
    bucket.names("claims").is_empty() && bucket.names("pins").is_empty()
}

/// A mirror over a bucket that holds the upload of its zip, which a client has.
async fn sending() -> (TestBucket, Forge, Mirror, BucketGate) {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let upload = bucket.gate(Method::PUT, "blobs");
    let mirror = node(&forge, &bucket).start().await;
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    upload.reached().await;
    (bucket, forge, mirror, upload)
}

/// Waits until an upload has taken away again what it has written.
async fn withdrawn(bucket: &TestBucket) {
    // The first deletion is the operator's.
    eventually("the claim is taken away", || bucket.requests(&Method::DELETE, "claims") >= 2).await;
    eventually("nothing is left", || is_empty(bucket)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_forgotten_while_its_zip_is_sent_does_not_come_back() {
    let (bucket, forge, mirror, gate) = sending().await;
    mirror.admin(mirror.dir(), "rm", forgotten()).await;
    assert!(is_empty(&bucket));
    gate.open();
    withdrawn(&bucket).await;
    forge.repo(PACKAGE).tag(TAG, |r| r.file("a.txt", "accepted"));
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    let other = node(&forge, &bucket).start().await;
    assert_eq!(other.get(ZIP).await.sha256(), sha256(&forge), "nor on other nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_written_while_the_version_is_being_forgotten_does_not_stay() {
    let (bucket, _forge, mirror, upload) = sending().await;
    // The bucket has no claim any more, and the mirror still has the pin.
    let removal = bucket.gate(Method::DELETE, "pins");
    let claiming = async {
        removal.reached().await;
        upload.open();
        eventually("claimed", || !bucket.names("claims").is_empty()).await;
        removal.open();
    };
    tokio::join!(mirror.admin(mirror.dir(), "rm", forgotten()), claiming);
    eventually("nothing is left", || is_empty(&bucket)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_forgotten_while_its_zip_is_sent_before_its_last_bytes_does_not_come_back() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let gate = bucket.gate(Method::PUT, "blobs");
    let section = srm_mirror::shared::Config { durable: Durability::BeforeLastBytes, ..bucket.section() };
    let mirror = node(&forge, &bucket).with(|config| config.shared = Some(section)).start().await;
    let removing = async {
        gate.reached().await;
        mirror.admin(mirror.dir(), "rm", forgotten()).await;
        gate.open();
    };
    let (got, ()) = tokio::join!(mirror.get(ZIP), removing);
    assert_eq!(got.sha256(), sha256(&forge));
    withdrawn(&bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_forgotten_while_it_is_settled_does_not_come_back() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    bucket.script().down();
    let mirror = node(&forge, &bucket).start().await;
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    eventually("queued", || mirror.cache.uploads().archives == 1).await;
    let gate = bucket.gate(Method::PUT, "pins");
    bucket.script().up();
    gate.reached().await;
    mirror.admin(mirror.dir(), "rm", forgotten()).await;
    gate.open();
    eventually("the pin is taken away", || bucket.requests(&Method::DELETE, "pins") >= 2).await;
    eventually("nothing is left", || is_empty(&bucket)).await;
}
