//! `srm-mirror shared push`: a directory that was filled without a bucket is uploaded.

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    bucket::{BucketFault, TestBucket},
    forge::{Forge, Lengths},
    mirror::setup,
    process::{Ended, Launch, files},
    shared_bucket::{node, some_forge},
    zips::{ZIP, blobs, eventually, forge, sha256, zip_requests},
};

const PACKAGES: usize = 5;

fn zip(number: usize) -> String {
    format!("/load/p{number}/zipball/v1.0.0")
}

/// A directory that a mirror without a bucket has filled.
async fn filled(forge: &Forge, zips: &[String]) -> TempDir {
    let mirror = setup(forge).start().await;
    for zip in zips {
        assert_eq!(mirror.get(zip).await.status, 200);
    }
    eventually("stored", || blobs(mirror.dir()) == zips.len()).await;
    mirror.stop().await.expect("its directory")
}

async fn numbered() -> (Forge, TempDir) {
    let forge = Forge::with_numbered_packages(PACKAGES as u64, 1 << 18).await;
    let dir = filled(&forge, &(0..PACKAGES).map(zip).collect::<Vec<_>>()).await;
    (forge, dir)
}

fn launch(forge: &Forge, bucket: &TestBucket, dir: &TempDir, arguments: &[&str]) -> Launch {
    bucket.configure(Launch::over(forge, dir.path(), arguments))
}

async fn push(forge: &Forge, bucket: &TestBucket, dir: &TempDir) -> (Ended, Value) {
    let ended = launch(forge, bucket, dir, &["shared", "push", "--json"]).run().await;
    let last = ended.out.lines().last().map(|line| serde_json::from_str(line).expect("JSON"));
    (ended, last.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_directory_is_uploaded_and_another_node_needs_no_forge() {
    let bucket = TestBucket::start().await;
    let (forge, dir) = numbered().await;
    // One pin is left without its zip.
    let removed = launch(&forge, &bucket, &dir, &["cache", "rm", "load/p0", "--yes"]).run().await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    let (ended, report) = push(&forge, &bucket, &dir).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        (&report["pins"], &report["uploaded"], &report["present"]),
        (&json!(5), &json!(4), &json!(0)),
        "{report}"
    );
    let (ended, report) = push(&forge, &bucket, &dir).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        (&report["pins"], &report["uploaded"], &report["present"]),
        (&json!(5), &json!(0), &json!(4)),
        "{report}"
    );

    let other = node(&forge, &bucket).start().await;
    forge.clear_log();
    for number in 1..PACKAGES {
        assert_eq!(other.get(&zip(number)).await.status, 200);
    }
    assert_eq!(zip_requests(&forge), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_has_pinned_counts_and_the_other_zip_is_quarantined() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let other_forge = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let dir = filled(&other_forge, &[ZIP.to_owned()]).await;
    crate::shared_bucket::first_node(&forge, &bucket).await;

    let (ended, report) = push(&other_forge, &bucket, &dir).await;
    assert_eq!((ended.code, &report["mismatches"]), (Some(1), &json!(1)), "{ended:?}");
    assert!(ended.out.contains("\"event\":\"mismatch\",\"key\":\"github/devsapp/fc3/tag/v1.0.0\""), "{ended:?}");
    assert_eq!((blobs(dir.path()), files(&dir.path().join("quarantine")).len()), (0, 1));
    let mirror = node(&other_forge, &bucket).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge), "the bucket's content counts");
    mirror.stop().await;
    assert_eq!(push(&other_forge, &bucket, &dir).await.0.code, Some(0), "it is said once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_on_after_a_short_failure_and_can_be_repeated_after_a_long_one() {
    let bucket = TestBucket::scripted().await;
    let (forge, dir) = numbered().await;
    bucket.fault_times(3, Method::PUT, "pins", BucketFault::Status(503));
    bucket.fault_times(1, Method::PUT, "pins", BucketFault::LostAnswer);
    bucket.fault_times(1, Method::PUT, "claims", BucketFault::LostAnswer);
    bucket.fault(Method::PUT, "blobs", BucketFault::Status(503));
    let (ended, report) = push(&forge, &bucket, &dir).await;
    assert_eq!((ended.code, &report["pins"], &report["uploaded"]), (Some(69), &json!(5), &json!(0)), "{ended:?}");
    assert!(ended.err.contains("can be repeated"), "{ended:?}");
    bucket.script().clear_faults();
    bucket.fault_times(1, Method::PUT, "claims", BucketFault::LostAnswer);
    let (ended, report) = push(&forge, &bucket, &dir).await;
    // A claim whose answer was lost is found when it is tried again.
    let claimed = ["uploaded", "present"].map(|state| report[state].as_u64().expect("a number")).iter().sum::<u64>();
    assert_eq!((ended.code, claimed), (Some(0), 5), "{ended:?}");
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len(), bucket.names("blobs").len()), (5, 5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_killed_is_continued() {
    let bucket = TestBucket::scripted().await;
    let (forge, dir) = numbered().await;
    let gate = bucket.gate(Method::PUT, "claims");
    let job = launch(&forge, &bucket, &dir, &["shared", "push"]).begin();
    gate.reached().await;
    job.kill().await;
    gate.open();
    let (ended, report) = push(&forge, &bucket, &dir).await;
    assert_eq!((ended.code, &report["pins"]), (Some(0), &json!(5)), "{ended:?}");
    assert_eq!((bucket.names("claims").len(), bucket.names("blobs").len()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_mirror_uploads_what_it_had_before_it_had_a_bucket() {
    let bucket = TestBucket::scripted().await;
    let (forge, dir) = numbered().await;
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    let lines = mirror.admin(dir.path(), "shared/push", json!({})).await;
    assert_eq!(lines.iter().filter(|line| line["state"] == "uploaded").count(), PACKAGES, "{lines:?}");
    let ended = launch(&forge, &bucket, &dir, &["shared", "push"]).run().await;
    assert_eq!(ended.out, "5 pins, 0 zips (0 B) uploaded, 5 were there\n", "{ended:?}");
    mirror.stop().await;
    let without = Launch::over(&forge, dir.path(), &["shared", "push"]).run().await;
    assert_eq!((without.code, without.err.contains("no section [shared]")), (Some(64), true), "{without:?}");
}
