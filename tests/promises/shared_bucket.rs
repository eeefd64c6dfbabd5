//! Mirrors that share a bucket: what one has fetched the others need not fetch, what one has lost is not lost, and a version
//! has one content on all of them.
//!
//! With `SRM_MIRROR_TEST_BUCKET`, the tests without faults run over a real service.

use std::path::Path;

use http::Method;
use srm_mirror::{shared::BucketOperation, value::ByteSize};
use tempfile::TempDir;

use crate::{
    bucket::{BucketFault, TestBucket},
    forge::{Forge, Lengths},
    mirror::{Mirror, Setup, setup},
    zips::{Drink, ZIP, blobs, eventually, evict, forge, pins, sha256, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

/// A node over the bucket.
pub fn node(forge: &Forge, bucket: &TestBucket) -> Setup {
    let section = bucket.section();
    setup(forge).with(|config| config.shared = Some(section))
}

/// A forge whose package has files of some size.
pub async fn some_forge() -> Forge {
    forge(Lengths::Never, |r| r.file("a.txt", "a".repeat(9000)).noise("big.bin", 1, 2 * MIB)).await
}

/// Waits until an archive was uploaded and nothing is left.
pub async fn uploaded(mirror: &Mirror) {
    all_uploaded(mirror, 1).await;
}

/// Waits until this many zips of different content were uploaded, and nothing is left.
pub async fn all_uploaded(mirror: &Mirror, zips: u64) {
    let uploads = || {
        let requests = mirror.cache.bucket().expect("a bucket").bucket().status().requests;
        let of_kind = requests.into_iter().find(|counts| counts.operation == BucketOperation::Upload);
        of_kind.map_or(0, |counts| counts.succeeded)
    };
    eventually("everything is uploaded", || uploads() >= zips && mirror.cache.uploads().archives == 0).await;
}

/// A mirror that has fetched the zip and uploaded it.
pub async fn first_node(forge: &Forge, bucket: &TestBucket) -> Mirror {
    let mirror = node(forge, bucket).start().await;
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(forge)));
    eventually("stored", || blobs(mirror.dir()) == 1).await;
    uploaded(&mirror).await;
    mirror
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_mirror_has_fetched_another_takes_from_the_bucket() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    let list = first.get("/devsapp/fc3/releases").await;
    forge.clear_log();

    let second = node(&forge, &bucket).start().await;
    let got = second.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    assert_eq!(zip_requests(&forge), 0, "no zip is asked of the forge again");
    eventually("stored", || blobs(second.dir()) == 1).await;
    assert_eq!(second.get(ZIP).await.header("etag"), first.get(ZIP).await.header("etag"));
    // The pin is that of the first mirror, its time included.
    let first_seen = |mirror: &Mirror| pins(mirror.dir())[0]["pin"]["first_seen"].as_str().expect("a time").to_owned();
    assert_eq!(first_seen(&second), first_seen(&first));
    assert_eq!(second.get("/devsapp/fc3/releases").await.json()[0]["tag_name"], list.json()[0]["tag_name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_list_in_the_bucket_spares_a_request_to_the_forge() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let first = node(&forge, &bucket).start().await;
    let list = first.get("/devsapp/fc3/releases").await;
    let in_bucket = async || {
        let second = node(&forge, &bucket).start().await;
        forge.clear_log();
        let got = second.get("/devsapp/fc3/releases").await;
        assert_eq!(got.json()[0]["tag_name"], list.json()[0]["tag_name"]);
        forge.requests().is_empty()
    };
    crate::eventually::eventually("the list is in the bucket", in_bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_has_lost_its_disk_serves_without_the_forge() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    let list = first.get("/devsapp/fc3/releases").await;
    first.stop().await;
    forge.down().await;

    let replaced = node(&forge, &bucket).start().await;
    let got = replaced.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    let again = replaced.get("/devsapp/fc3/releases").await;
    assert_eq!((again.status, &again.json()[0]["tag_name"]), (200, &list.json()[0]["tag_name"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_the_content_that_was_pinned_first_on_all_mirrors() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let other_forge = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let end = forge.gate(zips(), 100);
    let slow = node(&forge, &bucket).start().await;
    // Both have found nothing in the bucket when the first one pins its content.
    let mut client = Drink::of(slow.open(ZIP).await);
    end.reached().await;
    let fast = node(&other_forge, &bucket).start().await;
    assert_eq!(fast.get(ZIP).await.sha256(), sha256(&other_forge));
    end.open();
    client.end().await.expect_err("the other content never ends as a whole zip");
    uploaded(&fast).await;

    let after = slow.get(ZIP).await;
    assert!(after.status == 502 || after.sha256() == sha256(&other_forge), "{after:?}");
    slow.stop().await;
    let again = node(&forge, &bucket).start().await;
    assert_eq!(again.get(ZIP).await.sha256(), sha256(&other_forge), "the bucket's content counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_pin_at_once_agree_on_one_content() {
    let bucket = TestBucket::start().await;
    let mut forges = Vec::new();
    let mut mirrors = Vec::new();
    for number in 0..6 {
        let forge = self::forge(Lengths::Never, |r| r.file("a.txt", format!("content {number}"))).await;
        mirrors.push(node(&forge, &bucket).start().await);
        forges.push(forge);
    }
    let answers = mirrors.iter().map(|mirror| mirror.request(Method::GET, ZIP, &[]));
    let answers = futures_util::future::join_all(answers).await;
    let whole: Vec<_> = answers.into_iter().flatten().filter(|got| got.status == 200).map(|got| got.sha256()).collect();
    assert!(!whole.is_empty(), "one wins");
    assert!(whole.iter().all(|digest| *digest == whole[0]), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_down_a_lone_mirror_goes_on_and_uploads_afterwards() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    bucket.script().down();
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    eventually("it is queued", || mirror.cache.uploads().archives == 1).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    mirror.stop().await;

    // The queue outlives the process.
    bucket.script().up();
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    uploaded(&mirror).await;
    assert_eq!((bucket.names("blobs").len(), bucket.names("claims").len(), bucket.names("pins").len()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_was_served_alone_gives_way_to_what_the_bucket_has() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let other_forge = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let alone = node(&forge, &bucket).start().await;
    bucket.script().down();
    assert_eq!(alone.get(ZIP).await.sha256(), sha256(&forge));
    eventually("it is queued", || alone.cache.uploads().archives == 1).await;
    let dir = alone.stop().await.expect("a directory");
    bucket.script().up();
    let other = node(&other_forge, &bucket).start().await;
    assert_eq!(other.get(ZIP).await.sha256(), sha256(&other_forge));
    uploaded(&other).await;

    let alone = node(&forge, &bucket).start_in(dir.path()).await;
    eventually("its own copy is gone", || alone.cache.uploads().archives == 0 && blobs(dir.path()) == 0).await;
    forge.clear_log();
    assert_eq!(alone.get(ZIP).await.sha256(), sha256(&other_forge), "the bucket's content counts");
    assert_eq!((zip_requests(&forge), bucket.names("pins").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_whose_answer_was_lost_is_the_mirrors_own() {
    for fault in [BucketFault::LostAnswer, BucketFault::StatusAfterWrite(500)] {
        let bucket = TestBucket::scripted().await;
        let forge = some_forge().await;
        let mirror = node(&forge, &bucket).start().await;
        bucket.fault_times(1, Method::PUT, "pins", fault);
        let got = mirror.get(ZIP).await;
        assert_eq!((got.status, got.sha256()), (200, sha256(&forge)), "{fault:?}");
        uploaded(&mirror).await;
        assert_eq!(bucket.names("pins").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_asks_the_bucket_nothing_and_a_miss_little() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    let of = |method: Method, folder: &str| bucket.requests(&method, folder);
    // A look for the claim, the pin, and by the upload: the claim, the mark and the bytes looked for, the bytes, the claim.
    assert_eq!((of(Method::GET, "claims"), of(Method::PUT, "pins"), of(Method::GET, "gc")), (2, 1, 1));
    assert_eq!((of(Method::HEAD, "blobs"), of(Method::PUT, "blobs"), of(Method::PUT, "claims")), (1, 1, 1));
    bucket.script().clear_log();
    for _ in 0..10 {
        assert_eq!(mirror.get(ZIP).await.status, 200);
    }
    assert_eq!(bucket.script().log(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_damaged_in_the_bucket_are_never_served_whole_and_are_written_again() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    let blob = bucket.names("blobs").remove(0);
    let len = first.get(ZIP).await.body.len();
    bucket.overwrite(&blob, vec![b'P'; len]);

    let second = node(&forge, &bucket).start().await;
    let got = second.request(Method::GET, ZIP, &[]).await;
    assert!(got.map_or(true, |got| got.status != 200), "damaged bytes");
    second.clock.advance(std::time::Duration::from_secs(600));
    let got = second.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, sha256(&forge)));
    uploaded(&second).await;
    let third = node(&forge, &bucket).start().await;
    forge.down().await;
    assert_eq!(third.get(ZIP).await.sha256(), sha256(&forge), "the bucket has the bytes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_bucket_cuts_is_continued_from_the_forge() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    drop(first_node(&forge, &bucket).await);
    let second = node(&forge, &bucket).start().await;
    bucket.fault(Method::GET, "blobs", BucketFault::CutBody);
    let mut client = Drink::of(second.open(ZIP).await);
    client.until(MIB / 4).await;
    bucket.script().down();
    assert_eq!(client.end().await.expect("whole"), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_delays_a_pinned_zip_by_its_deadline_and_others_not_at_all() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    uploaded(&mirror).await;
    mirror.stop().await;
    evict(dir.path());
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    bucket.fault(Method::GET, "", BucketFault::Hang);
    let began = std::time::Instant::now();
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    assert!(began.elapsed().as_secs() < 10, "the deadline of the bucket's responses is 2 s");
    assert_eq!(mirror.get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_upload_is_not_evicted() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(12, MIB).await;
    let mirror = node(&forge, &bucket).with(|config| config.disk.limit = ByteSize::mib(9)).start().await;
    bucket.fault(Method::PUT, "blobs", BucketFault::Status(503));
    let zip = |number: u64| format!("/load/p{number}/zipball/v1.0.0");
    assert_eq!(mirror.get(&zip(0)).await.status, 200);
    eventually("it is queued", || mirror.cache.uploads().archives == 1).await;
    for number in 1..12 {
        // Without room on disk a zip is sent all the same.
        assert_eq!(mirror.get(&zip(number)).await.status, 200, "{number}");
    }
    forge.clear_log();
    assert_eq!(mirror.get(&zip(0)).await.status, 200);
    assert_eq!(zip_requests(&forge), 0, "the first one is still here");
    bucket.script().clear_faults();
    uploaded(&mirror).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_must_be_durable_is_in_the_bucket_before_its_last_bytes_arrive() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mut section = bucket.section();
    section.durable = srm_mirror::shared::Durability::BeforeLastBytes;
    let mirror = setup(&forge).with(|config| config.shared = Some(section)).start().await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    assert_eq!((bucket.names("blobs").len(), bucket.names("claims").len()), (1, 1));
    assert_eq!(mirror.cache.uploads().archives, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_creates_an_object_twice_is_refused_unless_the_operator_accepts_it() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    bucket.fault(Method::PUT, "", BucketFault::Unconditional);
    let refused = start_error(&forge, &bucket, |_| {}).await;
    assert!(refused.contains("creates an object twice") && refused.contains("shared.arbiter"), "{refused}");
    let mut section = bucket.section();
    section.arbiter = srm_mirror::shared::Arbiter::Owner;
    let mirror = setup(&forge).with(|config| config.shared = Some(section)).start().await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    uploaded(&mirror).await;
    assert_eq!(bucket.names("pins").len(), 1);
}

/// Why a mirror does not start.
async fn start_error(
    forge: &Forge,
    bucket: &TestBucket,
    change: impl FnOnce(&mut srm_mirror::config::Config),
) -> String {
    let dir: TempDir = tempfile::tempdir().expect("a directory");
    let setup = node(forge, bucket).with(change);
    error_of(setup, dir.path()).await
}

async fn error_of(mut setup: Setup, dir: &Path) -> String {
    setup.config.disk.dir = Some(dir.to_owned());
    match srm_mirror::app::App::bind(setup.config, setup.credentials).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_signed_address_is_in_a_log_or_an_answer() {
    let _kept = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = node(&forge, &bucket).start().await;
    bucket.fault(Method::PUT, "blobs", BucketFault::Status(403));
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, 200);
    bucket.script().down();
    let status = mirror.get("/readyz").await;
    let text = format!("{:?}{}", got.headers, String::from_utf8_lossy(&status.body));
    for secret in ["testtest", "X-Amz-Signature"] {
        assert!(!text.contains(secret), "{text}");
        assert_eq!(crate::logs::lines(secret), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_an_operator_forgets_is_forgotten_in_the_bucket() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    forge.repo(crate::zips::PACKAGE).tag(crate::zips::TAG, |r| r.file("a.txt", "accepted"));
    let request = serde_json::json!({"pattern": "devsapp/fc3@v1.0.0", "forget": true});
    let got = mirror.control(mirror.dir(), Method::POST, "/-/rm", request.to_string()).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len()), (0, 0));
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    bucket.script().down();
    let got = mirror.control(mirror.dir(), Method::POST, "/-/rm", request.to_string()).await;
    assert_ne!(got.status, 200, "what the bucket has is not forgotten");
}
