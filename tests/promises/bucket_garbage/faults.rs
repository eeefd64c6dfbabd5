//! What is damaged, not dated or renewed is left alone, and the rest is collected.

use http::Method;
use srm_mirror::shared::{Arbiter, BucketError, Config, GarbageReport};

use super::{Collector, DAY, HOUR, bucket_with_orphan};
use crate::{
    bucket::{BucketFault, TestBucket},
    process::{Ended, Launch},
    shared_bucket::some_forge,
};

/// A part of a report, as `--json` prints it.
fn member(report: &GarbageReport, name: &str) -> serde_json::Value {
    serde_json::to_value(report).expect("JSON").pointer(name).cloned().unwrap_or_default()
}

async fn run(bucket: &TestBucket, arguments: &[&str], keys: &[(&str, &str)]) -> Ended {
    let launch = bucket.configure(Launch::bare(&[&["shared", "gc"], arguments].concat()));
    keys.iter().fold(launch, |launch, (key, value)| launch.set(key, value)).run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_read_leaves_its_zip_alone_and_is_named_and_the_others_are_collected() {
    let forge = some_forge().await;
    let (bucket, collector, _) = bucket_with_orphan(&forge).await;
    let other = "ab".repeat(32);
    bucket.overwrite(&format!("blobs/ab/{other}"), "PK");
    bucket.script().clock().advance(2 * DAY);
    let mark = format!("gc/{other}");
    for damaged in ["", "{}", &"x".repeat(5000)] {
        bucket.overwrite(&mark, damaged.to_owned());
        let report = collector.try_run().await.expect("a report");
        assert_eq!(member(&report, "/fetched/unreadable_marks"), serde_json::json!([mark]));
    }
    bucket.overwrite("nonces/a", "{}");
    bucket.script().clock().advance(DAY + HOUR);
    let ended = run(&bucket, &["--delete"], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains(&format!("unreadable  {mark}\n")), "{ended:?}");
    assert_eq!(bucket.names("blobs"), [format!("blobs/ab/{other}")], "the other zip is deleted: {ended:?}");
    assert_eq!(bucket.names("nonces"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_marked_or_deleted_by_the_clock_of_the_machine() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    bucket.overwrite("nonces/a", "{}");
    // The service's clock is behind the machine's.
    let before = bucket.names("");
    bucket.fault(Method::GET, "claims/", BucketFault::NoDate);
    for _ in 0..2 {
        assert_eq!(collector.try_run().await.err(), Some(BucketError::Damaged));
        bucket.script().clock().advance(2 * DAY);
    }
    assert_eq!(bucket.names(""), before);
    bucket.script().clear_faults();
    assert_eq!(collector.run().await.fetched.marked.objects, 1, "{blob}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_was_renewed_since_it_was_listed_stays() {
    let bucket = TestBucket::scripted().await;
    let collector = Collector::of(&bucket);
    let [renewed, old] = ["1.0.0", "1.1.0"].map(|version| format!("hosted/reservations/acme-x/{version}.json"));
    bucket.overwrite(&renewed, "{}");
    bucket.overwrite(&old, "{}");
    bucket.script().clock().advance(2 * DAY);
    bucket.script().freeze_lists();
    bucket.overwrite(&renewed, "{}");
    assert_eq!(collector.run().await.short_lived, 1);
    assert_eq!(bucket.names("hosted"), [renewed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_would_be_refused_is_announced_without_delete() {
    let owner = [("shared.arbiter", "owner")];
    let bucket = TestBucket::scripted().await;
    let shown = run(&bucket, &[], &owner).await;
    assert_eq!((shown.code, shown.out.contains("refused")), (Some(0), false), "the service arbitrates: {shown:?}");
    bucket.fault(Method::PUT, "", BucketFault::Unconditional);
    let shown = run(&bucket, &[], &owner).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("\n--delete would be refused: "), "{shown:?}");
    assert_eq!(run(&bucket, &["--delete"], &owner).await.code, Some(69));
    assert_eq!(bucket.names(""), [""; 0], "what a probe creates it deletes");
    let section = Config { arbiter: Arbiter::Owner, ..bucket.section() };
    let report = Collector::over(&section).show().await;
    assert_eq!(member(&report, "/deletion_refused"), true);
}
