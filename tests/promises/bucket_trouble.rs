//! What a bucket does otherwise than expected, and how an operator sees it.

use http::Method;
use srm_mirror::value::ByteSize;

use crate::{
    bucket::{BucketFault, TestBucket},
    forge::{Forge, Lengths},
    mirror::setup,
    shared_bucket::{first_node, node, some_forge, uploaded},
    zips::{ZIP, blobs, eventually, forge},
};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_down_and_the_queue_is_full_new_versions_are_refused_and_others_go_on() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(6, MIB / 2).await;
    let mut section = bucket.section();
    section.upload_queue = ByteSize::mib(1);
    let mirror = setup(&forge).with(|config| config.shared = Some(section)).start().await;
    bucket.script().down();
    let zip = |number: u64| format!("/load/p{number}/zipball/v1.0.0");
    let mut refused = 0;
    for number in 0..6 {
        let got = mirror.get(&zip(number)).await;
        if got.status == 503 {
            assert_ne!(got.header("retry-after"), "");
            refused += 1;
        } else {
            assert_eq!(got.status, 200, "{got:?}");
        }
        // The queue is written when the zip is stored, after its last byte.
        eventually("it is stored or refused", || blobs(mirror.dir()) as u64 + refused == number + 1).await;
    }
    let queued = mirror.cache.uploads();
    assert!(refused > 0 && queued.bytes <= 3 * MIB / 2, "{refused} refused, {queued:?}");
    assert_eq!(mirror.get(&zip(0)).await.status, 200, "what is stored goes on");
    assert_eq!(mirror.get("/readyz").await.json()["status"], "degraded");
    bucket.script().up();
    uploaded(&mirror).await;
    mirror.clock.advance(std::time::Duration::from_secs(600));
    for number in 0..6 {
        assert_eq!(mirror.get(&zip(number)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_knows_a_header_of_its_own_arbitrates_by_it() {
    let bucket = TestBucket::scripted().await;
    bucket.fault(Method::PUT, "", BucketFault::OwnHeader);
    let forge = some_forge().await;
    let other_forge = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let one = node(&forge, &bucket).start().await;
    let two = node(&other_forge, &bucket).start().await;
    let answers = [one.request(Method::GET, ZIP, &[]), two.request(Method::GET, ZIP, &[])];
    let answers = futures_util::future::join_all(answers).await;
    let whole: Vec<_> = answers.into_iter().flatten().filter(|got| got.status == 200).map(|got| got.sha256()).collect();
    assert!(!whole.is_empty() && whole.iter().all(|digest| *digest == whole[0]), "{whole:?}");
    assert_eq!(bucket.names("pins").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_lost_with_the_index_is_made_again_from_what_is_stored() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    bucket.script().down();
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    eventually("it is queued", || mirror.cache.uploads().archives == 1).await;
    mirror.stop().await;
    std::fs::remove_file(dir.path().join("index.redb")).expect("removed");
    bucket.script().up();
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    uploaded(&mirror).await;
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len(), bucket.names("blobs").len()), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_on_documents_is_soon_left_alone() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(6, 1000).await;
    // Nothing else that succeeds is asked of it in between.
    let never = srm_mirror::value::Period::secs(3600);
    let setup = node(&forge, &bucket).with(|config| config.shared.as_mut().expect("a section").max_age = never);
    let mirror = setup.start().await;
    bucket.fault(Method::GET, "documents", BucketFault::Hang);
    for number in 0..6 {
        assert_eq!(mirror.get(&format!("/load/p{number}/releases")).await.status, 200);
    }
    let asked = bucket.requests(&Method::GET, "documents");
    assert!((3..6).contains(&asked), "{asked} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_have_the_bucket_and_its_queue_only_where_there_is_one() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    let text = String::from_utf8_lossy(&mirror.get("/metrics").await.body).into_owned();
    for line in [
        "srm_mirror_bucket_requests_total{operation=\"upload\",outcome=\"succeeded\"} 1",
        "srm_mirror_bucket_requests_total{operation=\"delete\",outcome=\"failed\"} 0",
        "srm_mirror_bucket_paused 0",
        "srm_mirror_upload_queue_archives 0",
        "srm_mirror_upload_queue_bytes 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let alone = setup(&forge).start().await;
    let text = String::from_utf8_lossy(&alone.get("/metrics").await.body).into_owned();
    assert!(!text.contains("srm_mirror_bucket") && !text.contains("srm_mirror_upload_queue"), "{text}");
}
