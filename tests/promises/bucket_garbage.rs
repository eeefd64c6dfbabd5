//! Garbage of the bucket is collected, and nothing that a claim names, written before, during or after a collection.

use std::{sync::Arc, time::Duration};

use http::Method;
use srm_mirror::{
    clock::Clock,
    entry::Key,
    hosted::zips_of_record,
    shared::{Bucket, BucketError, Config, GarbageMode, GarbageReport, GarbageRules, SharedArchives, collect_garbage},
};

use crate::{
    bucket::{BucketFault, TestBucket},
    forge::Forge,
    mirror::Mirror,
    process::Launch,
    shared_bucket::{first_node, node, some_forge},
    zips::{ZIP, eventually, sha256, zip_requests},
};

mod faults;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A collector with a client of its own, and the grace of a day.
pub struct Collector {
    pub bucket: Arc<Bucket>,
    pub rules: GarbageRules,
}

impl Collector {
    pub fn of(bucket: &TestBucket) -> Self {
        Self::over(&bucket.section())
    }

    fn over(section: &Config) -> Self {
        let bucket = Arc::new(Bucket::new(section, Vec::new()).expect("a client"));
        Self { bucket, rules: GarbageRules { mode: GarbageMode::Delete, grace: DAY, documents_older_than: None } }
    }

    pub async fn try_run(&self) -> Result<GarbageReport, BucketError> {
        collect_garbage(&self.bucket, &self.rules, zips_of_record, &|_| {}).await
    }

    pub async fn run(&self) -> GarbageReport {
        self.try_run().await.expect("a report")
    }

    pub async fn show(&self) -> GarbageReport {
        let rules = GarbageRules { mode: GarbageMode::Report, ..self.rules };
        collect_garbage(&self.bucket, &rules, zips_of_record, &|_| {}).await.expect("a report")
    }

    /// Takes the claim and the pin of the mirror's zip away, as `cache rm --forget` does.
    async fn forget(&self) {
        let claims = self.bucket.list("claims/", None).await.expect("a list").objects;
        let name = claims[0].name.strip_prefix("claims/").and_then(|name| name.strip_suffix(".json"));
        let key = Key::new(name.expect("the name of a plain key"));
        SharedArchives::new(self.bucket.clone(), Clock::default()).forget(&key).await.expect("forgotten");
    }
}

/// A bucket with a zip of two days ago that nothing names any more, and its name.
async fn bucket_with_orphan(forge: &Forge) -> (TestBucket, Collector, String) {
    let bucket = TestBucket::scripted().await;
    first_node(forge, &bucket).await;
    let collector = Collector::of(&bucket);
    collector.forget().await;
    bucket.script().clock().advance(2 * DAY);
    let blob = bucket.names("blobs").remove(0);
    (bucket, collector, blob)
}

/// Fetches the zip with a new node, which claims it.
async fn claim(forge: &Forge, bucket: &TestBucket) -> Mirror {
    let mirror = node(forge, bucket).start().await;
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(forge));
    eventually("claimed", || bucket.names("claims").len() == 1).await;
    mirror
}

/// The zip is in the bucket: a node without a disk serves it and asks no forge.
async fn assert_in_bucket(forge: &Forge, bucket: &TestBucket) {
    forge.clear_log();
    let mirror = node(forge, bucket).start().await;
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(forge));
    assert_eq!(zip_requests(forge), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_no_claim_names_is_deleted_by_a_second_collection_and_stored_again_under_another_name() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    first_node(&forge, &bucket).await;
    let mut collector = Collector::of(&bucket);
    // The real service's clock cannot be advanced.
    collector.rules.grace = Duration::ZERO;
    let report = collector.run().await;
    assert_eq!(
        (
            report.fetched.references,
            report.fetched.zips.objects,
            report.fetched.marked.objects,
            report.fetched.deleted.objects
        ),
        (1, 1, 0, 0)
    );
    collector.forget().await;
    let report = collector.run().await;
    assert_eq!(
        (report.fetched.references, report.fetched.marked.objects, report.fetched.deleted.objects),
        (0, 1, 0),
        "marked: {report:?}"
    );
    let report = collector.run().await;
    assert_eq!((report.fetched.marked.objects, report.fetched.deleted.objects), (0, 1), "deleted: {report:?}");
    assert!(report.fetched.deleted.bytes > 0);
    assert_eq!(collector.run().await.fetched.zips.objects, 0);

    first_node(&forge, &bucket).await;
    let report = collector.run().await;
    assert_eq!(
        (report.fetched.references, report.fetched.zips.objects, report.fetched.marked.objects),
        (1, 1, 0),
        "{report:?}"
    );
    let names = collector.bucket.list("blobs/", None).await.expect("a list").objects;
    assert!(names[0].name.ends_with(".1"), "{names:?}");
    assert_in_bucket(&forge, &bucket).await;
    // The same once more: each name is used once.
    collector.forget().await;
    assert_eq!(collector.run().await.fetched.marked.objects, 1);
    assert_eq!(collector.run().await.fetched.deleted.objects, 1);
    first_node(&forge, &bucket).await;
    let names = collector.bucket.list("blobs/", None).await.expect("a list").objects;
    assert!(names[0].name.ends_with(".2"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_waits_for_the_grace_before_it_marks_and_before_it_deletes() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    first_node(&forge, &bucket).await;
    let collector = Collector::of(&bucket);
    collector.forget().await;
    assert_eq!(collector.run().await.fetched.young.objects, 1, "its claim may be on its way");
    assert_eq!(bucket.names("gc"), Vec::<String>::new());
    bucket.script().clock().advance(DAY + HOUR);
    assert_eq!(collector.run().await.fetched.marked.objects, 1);
    bucket.script().clock().advance(DAY - HOUR);
    assert_eq!(collector.run().await.fetched.waiting.objects, 1);
    assert_eq!(bucket.names("blobs").len(), 1);
    bucket.script().clock().advance(2 * HOUR);
    assert_eq!(collector.run().await.fetched.deleted.objects, 1);
    assert_eq!((bucket.names("blobs").len(), bucket.names("gc").len()), (0, 1), "the mark stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_and_deletes_nothing() {
    let forge = some_forge().await;
    let (bucket, mut collector, _) = bucket_with_orphan(&forge).await;
    bucket.overwrite("probe/old", "first");
    bucket.script().clock().advance(2 * DAY);
    collector.rules.documents_older_than = Some(DAY);
    bucket.script().clear_log();
    assert_eq!(collector.show().await.fetched.marked.objects, 1);
    let writes = |log: Vec<crate::bucket::BucketRequest>| log.into_iter().any(|seen| seen.method != Method::GET);
    assert!(!writes(bucket.script().log()));
    collector.rules.documents_older_than = None;
    collector.run().await;
    bucket.overwrite("probe/old", "first");
    bucket.script().clock().advance(2 * DAY);
    bucket.script().clear_log();
    let report = collector.show().await;
    assert_eq!((report.fetched.deleted.objects, report.short_lived), (1, 1), "what the next collection will do");
    assert!(!writes(bucket.script().log()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_written_before_the_mark_keeps_its_zip() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    // The collector has read all claims, and the mark of the zip, which is none.
    let gate = bucket.gate(Method::PUT, "gc/");
    let collection = async { collector.run().await };
    let claiming = async {
        gate.reached().await;
        claim(&forge, &bucket).await;
        gate.open();
    };
    let (report, ()) = tokio::join!(collection, claiming);
    assert_eq!((report.fetched.references, report.fetched.marked.objects), (0, 1));
    bucket.script().clock().advance(DAY + HOUR);
    let report = collector.run().await;
    assert_eq!((report.fetched.references, report.fetched.deleted.objects), (1, 0), "the claim counts: {report:?}");
    assert_eq!(bucket.names("blobs"), [blob]);
    assert_in_bucket(&forge, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_takes_longer_than_half_of_the_grace_starts_again_and_finds_the_mark() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    // What is there is no whole zip, so it is uploaded again.
    bucket.overwrite(&blob, "PK");
    bucket.script().clock().advance(2 * DAY);
    let gate = bucket.gate(Method::PUT, &blob);
    let slow = node(&forge, &bucket).start().await;
    assert_eq!(slow.get(ZIP).await.sha256(), sha256(&forge));
    gate.reached().await;
    // It has found no mark, and sends the bytes for more than a day.
    assert_eq!(collector.run().await.fetched.marked.objects, 1);
    bucket.script().clock().advance(DAY + HOUR);
    assert_eq!(collector.run().await.fetched.deleted.objects, 1);
    slow.clock.advance(HOUR);
    gate.open();
    eventually("claimed", || bucket.names("claims").len() == 1).await;
    let second = format!("{blob}.1");
    assert_eq!(bucket.names("blobs"), [blob.clone(), second.clone()]);
    bucket.script().clock().advance(2 * DAY);
    let report = collector.run().await;
    assert_eq!(
        (report.fetched.references, report.fetched.deleted.objects),
        (1, 1),
        "the first name is never claimed: {report:?}"
    );
    assert_eq!(bucket.names("blobs"), [second]);
    assert_in_bucket(&forge, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_arrives_late_meets_no_claim() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    collector.run().await;
    bucket.script().clock().advance(DAY + HOUR);
    let gate = bucket.gate(Method::DELETE, "blobs/");
    let claiming = async {
        gate.reached().await;
        claim(&forge, &bucket).await;
        assert_eq!(bucket.names("blobs"), [blob.clone(), format!("{blob}.1")]);
        gate.open();
    };
    let (report, ()) = tokio::join!(collector.run(), claiming);
    assert_eq!(report.fetched.deleted.objects, 1);
    assert_eq!(bucket.names("blobs"), [format!("{blob}.1")]);
    assert_in_bucket(&forge, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_waited_in_the_queue_is_claimed_under_a_name_without_a_mark() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    bucket.script().down();
    let late = node(&forge, &bucket).start().await;
    assert_eq!(late.get(ZIP).await.sha256(), sha256(&forge));
    eventually("queued", || late.cache.uploads().archives == 1).await;
    let dir = late.stop().await.expect("its directory");
    bucket.script().up();
    collector.run().await;
    bucket.script().clock().advance(DAY + HOUR);
    assert_eq!(collector.run().await.fetched.deleted.objects, 1);
    let _late = node(&forge, &bucket).start_in(dir.path()).await;
    eventually("claimed", || bucket.names("claims").len() == 1).await;
    assert_eq!(bucket.names("blobs"), [format!("{blob}.1")]);
    assert_in_bucket(&forge, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_collectors_do_what_one_does() {
    let forge = some_forge().await;
    let (bucket, one, _) = bucket_with_orphan(&forge).await;
    let other = Collector::of(&bucket);
    tokio::join!(one.run(), other.run());
    assert_eq!((bucket.names("blobs").len(), bucket.names("gc").len()), (1, 1));
    bucket.script().clock().advance(DAY + HOUR);
    tokio::join!(one.run(), other.run());
    assert_eq!((bucket.names("blobs").len(), bucket.names("gc").len()), (0, 1));
    claim(&forge, &bucket).await;
    assert_in_bucket(&forge, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_dies_is_continued_by_the_next_one() {
    let forge = some_forge().await;
    let (bucket, collector, _) = bucket_with_orphan(&forge).await;
    for (method, folder) in [(Method::PUT, "gc/"), (Method::DELETE, "blobs/")] {
        let gate = bucket.gate(method, folder);
        tokio::select! {
            _ = collector.try_run() => panic!("the gate is closed"),
            () = gate.reached() => {}
        }
        gate.open();
        collector.run().await;
        bucket.script().clock().advance(DAY + HOUR);
    }
    assert_eq!(bucket.names("blobs").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_a_mark_or_a_deletion_changes_nothing() {
    let forge = some_forge().await;
    let (bucket, collector, _) = bucket_with_orphan(&forge).await;
    bucket.fault_times(1, Method::PUT, "gc/", BucketFault::LostAnswer);
    assert_eq!(collector.run().await.fetched.marked.objects, 1);
    bucket.script().clock().advance(DAY + HOUR);
    bucket.fault_times(1, Method::DELETE, "blobs/", BucketFault::LostAnswer);
    assert_eq!(collector.run().await.fetched.deleted.objects, 1);
    assert_eq!(bucket.names("blobs").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_claim_cannot_be_read_no_zip_is_marked_or_deleted() {
    let forge = some_forge().await;
    let (bucket, collector, _) = bucket_with_orphan(&forge).await;
    collector.run().await;
    bucket.script().clock().advance(DAY + HOUR);
    for unreadable in ["", "{}", r#"{"blob":"zips/1"}"#] {
        bucket.overwrite("claims/github/acme/x.json", unreadable);
        let report = collector.run().await;
        assert_eq!(report.fetched.unreadable_references, ["claims/github/acme/x.json"], "{unreadable}");
        assert_eq!((report.fetched.deleted.objects, bucket.names("blobs").len()), (0, 1));
    }
    bucket.fault(Method::GET, "claims/github", BucketFault::Status(503));
    assert!(collector.try_run().await.is_err(), "nor while the bucket fails");
    assert_eq!(bucket.names("blobs").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_old_delete_nothing_that_is_claimed() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    bucket.script().freeze_lists();
    claim(&forge, &bucket).await;
    assert_eq!(collector.run().await.fetched.marked.objects, 1, "the claim is in no list");
    bucket.script().thaw_lists();
    bucket.script().clock().advance(DAY + HOUR);
    assert_eq!(collector.run().await.fetched.deleted.objects, 0);
    assert_eq!(bucket.names("blobs"), [blob]);
    // A list that still has what was deleted: it is deleted once more.
    let other = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&other).await;
    collector.run().await;
    bucket.script().clock().advance(DAY + HOUR);
    bucket.script().freeze_lists();
    collector.run().await;
    claim(&other, &bucket).await;
    assert_eq!(collector.run().await.fetched.deleted.objects, 1);
    assert_eq!(bucket.names("blobs"), [format!("{blob}.1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_under_a_later_name_are_written_again() {
    let forge = some_forge().await;
    let (bucket, collector, blob) = bucket_with_orphan(&forge).await;
    collector.run().await;
    let mirror = claim(&forge, &bucket).await;
    let len = mirror.get(ZIP).await.body.len();
    let second = format!("{blob}.1");
    bucket.overwrite(&second, vec![b'P'; len]);
    let damaged = node(&forge, &bucket).start().await;
    let got = damaged.request(Method::GET, ZIP, &[]).await;
    assert!(got.map_or(true, |got| got.status != 200), "damaged bytes");
    eventually("deleted", || !bucket.names("blobs").contains(&second)).await;
    damaged.clock.advance(Duration::from_secs(600));
    assert_eq!(damaged.get(ZIP).await.sha256(), sha256(&forge));
    eventually("written", || bucket.names("blobs").contains(&second)).await;
    eventually("uploaded", || damaged.cache.uploads().archives == 0).await;
    assert_in_bucket(&forge, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_served_its_purpose_is_deleted_after_a_day_and_documents_on_demand() {
    let bucket = TestBucket::scripted().await;
    let mut collector = Collector::of(&bucket);
    for name in ["probe/a", "nonces/a", "documents/a.json", "state/blocks.json"] {
        bucket.overwrite(name, "{}");
    }
    assert_eq!(collector.run().await.short_lived, 0);
    bucket.script().clock().advance(DAY + HOUR);
    bucket.overwrite("nonces/b", "{}");
    bucket.script().set_page_objects(1);
    let report = collector.run().await;
    assert_eq!((report.short_lived, report.documents), (2, 0));
    assert_eq!(bucket.names(""), ["documents/a.json", "nonces/b", "state/blocks.json"]);
    collector.rules.documents_older_than = Some(DAY);
    assert_eq!(collector.run().await.documents, 1);
    assert_eq!(bucket.names(""), ["nonces/b", "state/blocks.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_published_packages_need_is_no_garbage() {
    let bucket = TestBucket::scripted().await;
    let mut collector = Collector::of(&bucket);
    collector.rules.documents_older_than = Some(DAY);
    let digest = "ab".repeat(32);
    let zip = format!("hosted/blobs/ab/{digest}");
    let record = format!(
        r#"{{"name":"acme-x","version":"1.0.0","digest":"{digest}","len":2,"publisher":"a","published_at":"2026-11-30T00:00:00Z"}}"#
    );
    bucket.overwrite("hosted/releases/acme-x/1.0.0.json", record);
    for name in [&*zip, "hosted/changes.json", "hosted/failed/acme-x.json", "hosted/reservations/acme-x/1.0.0.json"] {
        bucket.overwrite(name, "{}");
    }
    for _ in 0..3 {
        bucket.script().clock().advance(2 * DAY);
        let report = collector.run().await;
        assert_eq!((report.published.references, report.published.zips.objects), (1, 1), "{report:?}");
    }
    let kept = [&*zip, "hosted/changes.json", "hosted/failed/acme-x.json", "hosted/releases/acme-x/1.0.0.json"];
    assert_eq!(bucket.names(""), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_what_it_would_do_and_does_it_on_demand() {
    let forge = some_forge().await;
    let (bucket, _, _) = bucket_with_orphan(&forge).await;
    let run = async |arguments: &[&str]| {
        let launch = Launch::bare(&[&["shared", "gc"], arguments].concat());
        bucket.configure(launch).run().await
    };
    let shown = run(&[]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("would be marked, to be deleted after 1d: 1 zips ("), "{shown:?}");
    assert!(bucket.names("gc").is_empty());
    let marked = run(&["--delete", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&marked.out).expect("JSON");
    assert_eq!((&report["dry_run"], &report["fetched"]["marked"]["objects"]), (&false.into(), &1.into()), "{report}");
    bucket.script().clock().advance(DAY + HOUR);
    let deleted = run(&["--delete"]).await;
    assert!(deleted.out.contains("\ndeleted: 1 zips ("), "{deleted:?}");
    assert!(deleted.out.contains("\n0 records of published versions, 0 zips ("), "{deleted:?}");
    bucket.overwrite("claims/a.json", "?");
    let unreadable = run(&["--delete"]).await;
    assert_eq!(unreadable.code, Some(1));
    assert!(unreadable.out.contains("unreadable  claims/a.json\n"), "{unreadable:?}");
    assert_eq!(run(&["--grace", "59m"]).await.code, Some(64));
    assert_eq!(Launch::bare(&["shared", "gc"]).run().await.code, Some(64), "no bucket");
    bucket.script().down();
    let ended = run(&[]).await;
    assert_eq!((ended.code, ended.err.contains("testtest")), (Some(69), false), "{ended:?}");
}
