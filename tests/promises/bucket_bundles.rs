//! Bundles of what only the bucket has, and imports into mirrors that share one: from bucket to bucket.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use srm_mirror::{
    cache::policy::UpstreamMode,
    shared,
    value::{ByteSize, Period},
};
use tempfile::TempDir;

use crate::{
    bucket::{BucketFault, TestBucket},
    bundles,
    forge::{Forge, Lengths},
    mirror::{Mirror, setup},
    process::{Ended, Launch},
    removals,
    shared_bucket::{all_uploaded, first_node, node, some_forge, uploaded},
    zips::{ZIP, blobs, eventually, evict, forge, pins, sha256},
};

mod exports;
mod imports;

const PACKAGES: usize = 5;
const ZIP_BYTES: u64 = 1 << 18;

fn zip(number: usize) -> String {
    format!("/load/p{number}/zipball/v1.0.0")
}

fn list(number: usize) -> String {
    format!("/load/p{number}/releases")
}

fn key(number: usize) -> String {
    format!("github/load/p{number}/tag/v1.0.0")
}

fn command(forge: &Forge, bucket: &TestBucket, dir: &Path, arguments: &[&str]) -> Launch {
    bucket.configure(Launch::over(forge, dir, &[&["cache"], arguments].concat()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// What a command has printed as JSON.
fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// A bucket that has all packages of the forge, lists included.
async fn filled(bucket: &TestBucket) -> Forge {
    let forge = Forge::with_numbered_packages(PACKAGES as u64, ZIP_BYTES).await;
    let mirror = node(&forge, bucket).start().await;
    for number in 0..PACKAGES {
        assert_eq!(mirror.get(&list(number)).await.status, 200);
        assert_eq!(mirror.get(&zip(number)).await.status, 200);
    }
    all_uploaded(&mirror, PACKAGES as u64).await;
    // Documents on their way to the bucket are waited for.
    mirror.stop().await;
    forge
}

/// A bundle of what a mirror without a bucket has fetched.
async fn exported(forge: &Forge, paths: &[&str]) -> (TempDir, PathBuf) {
    let mirror = setup(forge).start().await;
    for path in paths {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    let dir = mirror.stop().await.expect("its directory");
    let bundle = dir.path().join("bundle.tar");
    let ended = Launch::over(forge, dir.path(), &["cache", "export", text(&bundle)]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    (dir, bundle)
}

/// Exports with `--shared`. The bundle, if there is one, is `shared.tar` in the directory that is returned.
async fn export(forge: &Forge, bucket: &TestBucket, dir: &Path, more: &[&str]) -> (Ended, TempDir) {
    let out = tempfile::tempdir().expect("a directory");
    let bundle = bundle_in(&out);
    let arguments = [&["export", text(&bundle), "--shared"], more].concat();
    (command(forge, bucket, dir, &arguments).run().await, out)
}

fn bundle_in(out: &TempDir) -> PathBuf {
    out.path().join("shared.tar")
}

async fn import(forge: &Forge, bucket: &TestBucket, dir: &Path, bundle: &Path, more: &[&str]) -> Ended {
    command(forge, bucket, dir, &[&["import", text(bundle)], more].concat()).run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_bucket_has_is_in_the_bundle_of_a_node_and_not_stored_there() {
    let bucket = TestBucket::start().await;
    let forge = filled(&bucket).await;
    let mirror = node(&forge, &bucket).start().await;
    assert_eq!(mirror.get(&zip(0)).await.status, 200);
    eventually("stored", || blobs(mirror.dir()) == 1).await;
    forge.down().await;

    // While the mirror runs, and without it.
    let (ended, out) = export(&forge, &bucket, mirror.dir(), &["--json"]).await;
    assert_eq!((ended.code, &report(&ended)["zips"]), (Some(0), &json!(PACKAGES)), "{ended:?}");
    assert_eq!((&report(&ended)["from_bucket"], &report(&ended)["left_out"]), (&json!(4), &json!([])), "{ended:?}");
    let with = std::fs::metadata(bundle_in(&out)).expect("a bundle").len();
    let dir = mirror.stop().await.expect("its directory");
    let (ended, out) = export(&forge, &bucket, dir.path(), &[]).await;
    let bundle = bundle_in(&out);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("5 zips (4 from the bucket), "), "{ended:?}");
    assert_eq!((std::fs::metadata(&bundle).expect("a bundle").len(), blobs(dir.path())), (with, 1));

    let alone = tempfile::tempdir().expect("a directory");
    let ended = Launch::over(&forge, alone.path(), &["cache", "import", text(&bundle)]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let alone = setup(&forge).with(|config| config.mode = UpstreamMode::Offline).start_in(alone.path()).await;
    for number in 0..PACKAGES {
        let got = alone.get(&zip(number)).await;
        assert_eq!((got.status, got.sha256()), (200, forge.sha256(&format!("load/p{number}"), "v1.0.0")));
        assert_eq!(alone.get(&list(number)).await.json()[0]["tag_name"], "v1.0.0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_reads_the_selected_claims_alone_page_by_page() {
    let bucket = TestBucket::scripted().await;
    let forge = filled(&bucket).await;
    bucket.script().set_page_objects(2);
    bucket.script().clear_log();
    let dir = tempfile::tempdir().expect("a directory");
    let (ended, _) = export(&forge, &bucket, dir.path(), &["load/p3", "--json"]).await;
    assert_eq!((ended.code, &report(&ended)["zips"]), (Some(0), &json!(1)), "{ended:?}");
    let of = |folder: &str| bucket.requests(&Method::GET, folder);
    let claims = of("claims/github") + of("documents/github");
    // The claim is read when it is listed, and when its zip is opened; the list of the package once.
    assert_eq!((claims, of("blobs")), (3, 1));
    assert_eq!(of("claims/") - of("claims/github"), PACKAGES.div_ceil(2), "pages");

    let (ended, out) = export(&forge, &bucket, dir.path(), &["load/none", "--json"]).await;
    assert_eq!(
        (ended.code, report(&ended)),
        (Some(1), json!({"zips": 0, "published_left_out": 0, "from_bucket": 0, "left_out": []}))
    );
    let bundle = bundle_in(&out);
    let without = Launch::over(&forge, dir.path(), &["cache", "export", text(&bundle), "--shared"]).run().await;
    assert_eq!((without.code, without.err.contains("no section [shared]")), (Some(64), true), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_missing_in_the_bucket_is_named_and_left_out_of_the_bundle() {
    let bucket = TestBucket::scripted().await;
    let forge = filled(&bucket).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(&zip(3)).await.status, 200);
    mirror.stop().await;
    evict(dir.path());
    let blob = |number: usize| {
        let sha256 = forge.sha256(&format!("load/p{number}"), "v1.0.0");
        format!("blobs/{}/{sha256}", &sha256[..2])
    };
    let claim = |number: usize| format!("claims/{}.json", key(number));
    let len = bucket.object(&blob(0)).expect("bytes").len();
    bucket.overwrite(&blob(0), vec![7; len]);
    bucket.fault(Method::GET, &blob(1), BucketFault::Status(404));
    bucket.overwrite(&claim(2), "{}");
    let mut other: Value = serde_json::from_slice(&bucket.object(&claim(3)).expect("a claim")).expect("JSON");
    other["manifest"] = json!("ab".repeat(32));
    bucket.overwrite(&claim(3), other.to_string());

    let (ended, out) = export(&forge, &bucket, dir.path(), &[]).await;
    let bundle = bundle_in(&out);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for (number, what) in ["damaged", "missing", "unreadable", "mismatch"].iter().enumerate() {
        assert!(ended.out.contains(&format!("{what}  {}: ", key(number))), "{ended:?}");
    }
    assert!(ended.out.contains("1 zips (1 from the bucket)"), "{ended:?}");
    let to = tempfile::tempdir().expect("a directory");
    let imported = Launch::over(&forge, to.path(), &["cache", "import", text(&bundle)]).run().await;
    assert!(imported.code == Some(0) && imported.out.starts_with("1 zips"), "{imported:?}");

    let (ended, _) = export(&forge, &bucket, dir.path(), &["load/p1", "--json"]).await;
    assert_eq!((ended.code, &report(&ended)["zips"]), (Some(1), &json!(0)), "{ended:?}");
    assert_eq!(report(&ended)["left_out"], json!([{"key": key(1), "why": "missing"}]));
    let (ended, _) = export(&forge, &bucket, dir.path(), &["load/p1"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.ends_with("\nall selected zips are left out; there is no bundle\n"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_after_short_failures_of_the_bucket() {
    let bucket = TestBucket::scripted().await;
    let forge = filled(&bucket).await;
    bucket.fault_times(2, Method::GET, "blobs", BucketFault::CutBody);
    bucket.fault_times(1, Method::GET, "claims", BucketFault::Status(503));
    bucket.fault_times(1, Method::GET, "claims/github", BucketFault::LostAnswer);
    bucket.fault_times(1, Method::GET, "documents/github", BucketFault::Status(500));
    // A source that counts on no mirror, and is read all the same.
    bucket.overwrite("sources/srm/acme/tool.json", "{}");
    bucket.fault_times(1, Method::GET, "sources/srm", BucketFault::Status(503));
    let dir = tempfile::tempdir().expect("a directory");
    let (ended, _) = export(&forge, &bucket, dir.path(), &["--json"]).await;
    assert_eq!((ended.code, &report(&ended)["from_bucket"]), (Some(0), &json!(PACKAGES)), "{ended:?}");
}

/// Checks that an export has failed for want of the bucket, and left nothing.
fn assert_no_bundle(ended: &Ended, out: &TempDir) {
    let left = std::fs::read_dir(out.path()).expect("a directory").count();
    assert_eq!((ended.code, ended.out.as_str(), left), (Some(69), "", 0), "{ended:?}");
    assert!(ended.err.contains("there is no bundle") && ended.err.contains("the bucket"), "{ended:?}");
    assert_eq!(ended.err.lines().filter(|line| line.contains("no bundle")).count(), 1, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_without_the_bucket_leaves_nothing_that_looks_like_a_bundle() {
    let bucket = TestBucket::scripted().await;
    let forge = filled(&bucket).await;
    let mirror = node(&forge, &bucket).start().await;
    bucket.script().down();
    let (ended, out) = export(&forge, &bucket, mirror.dir(), &[]).await;
    assert_no_bundle(&ended, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_bucket_fails_while_claims_are_read_leaves_nothing_that_looks_like_a_bundle() {
    let bucket = TestBucket::scripted().await;
    let forge = filled(&bucket).await;
    bucket.fault(Method::GET, &format!("claims/{}", key(3)), BucketFault::Status(503));
    let dir = tempfile::tempdir().expect("a directory");
    let (ended, out) = export(&forge, &bucket, dir.path(), &[]).await;
    assert_no_bundle(&ended, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_whose_bucket_fails_while_zips_are_sent_leaves_nothing_that_looks_like_a_bundle() {
    let bucket = TestBucket::scripted().await;
    let forge = filled(&bucket).await;
    let gate = bucket.gate(Method::GET, "blobs");
    let mirror = node(&forge, &bucket).start().await;
    let exporting = export(&forge, &bucket, mirror.dir(), &[]);
    let failing = async {
        gate.reached().await;
        bucket.script().down();
        gate.open();
    };
    let ((ended, out), ()) = tokio::join!(exporting, failing);
    assert_no_bundle(&ended, &out);
}

/// Imports what a mirror without a bucket has, of which the bucket has other content of one version; checks that the bucket's
/// counts.
async fn import_is_overruled(more: &[&str]) {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    first_node(&forge, &bucket).await.stop().await;
    let other = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    other.repo("devsapp/new").release("v1.0.0", |r| r.file("a.txt", "new"));
    let (_dir, bundle) = exported(&other, &[ZIP, "/devsapp/new/zipball/v1.0.0"]).await;
    let mirror = node(&forge, &bucket).start().await;
    forge.down().await;
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, more).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("overruled  github/devsapp/fc3/tag/v1.0.0: "), "{ended:?}");
    assert!(ended.out.contains("\n1 zips ("), "{ended:?}");
    uploaded(&mirror).await;
    let second = node(&forge, &bucket).start().await;
    for node in [&mirror, &second] {
        assert_eq!(node.get(ZIP).await.sha256(), sha256(&forge), "the bucket's content counts");
        assert_eq!(node.get("/devsapp/new/zipball/v1.0.0").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_other_content_than_the_bucket_has_is_refused_and_the_rest_is_imported() {
    import_is_overruled(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_with_force_replaces_no_pin_of_the_bucket() {
    import_is_overruled(&["--force", "--yes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_larger_than_the_queue_of_uploads_uploads_the_rest_itself() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(PACKAGES as u64, ZIP_BYTES).await;
    let paths: Vec<_> = (0..PACKAGES).map(zip).collect();
    let (_dir, bundle) = exported(&forge, &paths.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let limit = ZIP_BYTES * 3 / 2;
    let section = shared::Config { upload_queue: ByteSize(limit), ..bucket.section() };
    let mirror = node(&forge, &bucket).with(|config| config.shared = Some(section)).start().await;
    let gate = bucket.gate(Method::PUT, "blobs");
    let importing = import(&forge, &bucket, mirror.dir(), &bundle, &[]);
    let watching = async {
        // One waits in the queue, which is full; the import itself sends the next one.
        eventually("two are sent", || bucket.requests(&Method::PUT, "blobs") >= 2).await;
        let queued = mirror.cache.uploads();
        assert_eq!(queued.archives, 1);
        gate.open();
        queued.bytes
    };
    let (ended, queued) = tokio::join!(importing, watching);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(queued <= limit);
    uploaded(&mirror).await;
    assert_eq!((bucket.names("claims").len(), bucket.names("blobs").len()), (PACKAGES, PACKAGES));
    assert_eq!(blobs(mirror.dir()), PACKAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_the_bucket_says_so_and_can_be_repeated() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(2, ZIP_BYTES).await;
    let (_dir, bundle) = exported(&forge, &[&zip(0), &zip(1), &list(0)]).await;
    let mirror = node(&forge, &bucket).start().await;
    bucket.script().down();
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert_eq!((ended.code, ended.out.as_str(), pins(mirror.dir()).len()), (Some(69), "", 0), "{ended:?}");
    assert!(ended.err.contains("the shared bucket cannot be used"), "{ended:?}");
    bucket.script().up();
    // The lists come after the zips: a part is imported.
    bucket.fault(Method::PUT, "documents", BucketFault::Status(503));
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    bucket.script().clear_faults();
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert!(ended.code == Some(0) && ended.out.contains("2 zips were here already"), "{ended:?}");
    uploaded(&mirror).await;
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len()), (2, 2));
    assert!(bucket.object("documents/github/load/p0/releases.json").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_whose_answer_was_lost_is_the_imports_own() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(1, ZIP_BYTES).await;
    let (_dir, bundle) = exported(&forge, &[&zip(0)]).await;
    let mirror = node(&forge, &bucket).start().await;
    bucket.fault_times(1, Method::PUT, "pins", BucketFault::LostAnswer);
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    uploaded(&mirror).await;
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_removal_that_is_read_later_leaves_an_import_alone() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let (_dir, bundle) = exported(&forge, &[ZIP]).await;
    let removed_at = Timestamp::now();
    let section = shared::Config { response_timeout: Period::secs(60), ..bucket.section() };
    let mirror = node(&forge, &bucket).with(|config| config.shared = Some(section)).start().await;
    // It has looked: what is removed from now on is no earlier removal than its start.
    eventually("a look is answered", || bucket.requests(&Method::GET, "state/removals") >= 2).await;
    let gate = bucket.gate(Method::GET, "state/removals");
    gate.reached().await;
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    uploaded(&mirror).await;
    removals::tell(&bucket, "devsapp/fc3", removed_at);
    gate.open();
    removals::done(&mirror, 1).await;
    assert_eq!((blobs(mirror.dir()), pins(mirror.dir()).len()), (1, 1));
    assert_eq!((bucket.names("claims").len(), bucket.names("pins").len()), (1, 1));
}

/// What a node answers: status and bytes of zips, and the status of everything else.
async fn answers(mirror: &Mirror) -> Vec<(&'static str, u16, Option<String>)> {
    let mut answers = Vec::new();
    for path in bundles::PATHS {
        let got = mirror.get(path).await;
        answers.push((path, got.status, path.contains("/zipball/").then(|| got.sha256())));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_bucket_has_another_has_after_a_bundle_without_any_forge() {
    let from = TestBucket::start().await;
    let to = TestBucket::start().await;
    let forge = bundles::forge().await;
    let mirror = node(&forge, &from).start().await;
    let served = answers(&mirror).await;
    assert!(served.iter().all(|(_, status, _)| *status == 200), "{served:?}");
    all_uploaded(&mirror, 2).await;
    mirror.stop().await;
    forge.down().await;

    // Nodes with nothing of their own.
    let dir = tempfile::tempdir().expect("a directory");
    let (ended, out) = export(&forge, &from, dir.path(), &[]).await;
    let bundle = bundle_in(&out);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let first = node(&forge, &to).start().await;
    let ended = import(&forge, &to, first.dir(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    uploaded(&first).await;
    first.stop().await;
    let second = node(&forge, &to).start().await;
    assert_eq!(answers(&second).await, served);
}
