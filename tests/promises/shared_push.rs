//! `srm-mirror shared push`: a directory that was filled without a bucket is uploaded.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    bucket::{BucketFault, TestBucket},
    forge::{Forge, Lengths},
    mirror::setup,
    process::{Ended, Launch, blob, files},
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
async fn a_push_names_what_is_damaged_in_the_bucket_and_uploads_the_rest() {
    let bucket = TestBucket::scripted().await;
    let (forge, dir) = numbered().await;
    bucket.overwrite("pins/github/load/p1/tag/v1.0.0.json", "{}");
    bucket.overwrite(&format!("gc/{}", forge.sha256("load/p2", "v1.0.0")), "{}");
    let (ended, report) = push(&forge, &bucket, &dir).await;
    // A pin, its zip, and one zip.
    assert_eq!((ended.code, &report["damaged"]), (Some(1), &json!(3)), "{ended:?}");
    assert_eq!((&report["pins"], &report["uploaded"]), (&json!(4), &json!(3)), "{report}");
    let ended = launch(&forge, &bucket, &dir, &["shared", "push"]).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.ends_with("; 3 are damaged in the bucket\n"), "{ended:?}");
    // An operator mends a pin.
    let forgotten = launch(&forge, &bucket, &dir, &["cache", "rm", "load/p1", "--forget", "--yes"]).run().await;
    assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
    assert_eq!(bucket.object("pins/github/load/p1/tag/v1.0.0.json"), None);
    // And a mark, as docs/fleet.md says: no name up to this number is used any more.
    let digest = forge.sha256("load/p2", "v1.0.0");
    bucket.overwrite(&format!("gc/{digest}"), json!({"digest": digest, "generation": 1000}).to_string());
    let (ended, report) = push(&forge, &bucket, &dir).await;
    assert_eq!((ended.code, &report["damaged"]), (Some(0), &json!(0)), "{ended:?}");
    let names = bucket.names("blobs");
    assert!(names.iter().any(|name| name.ends_with(&format!("{digest}.1001"))), "{names:?}");
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
    let last = lines.last().expect("an end");
    assert_eq!((&last["event"], &last["pins"], &last["uploaded"]), (&json!("end"), &json!(5), &json!(5)), "{last}");
    bucket.script().clear_log();
    let ended = launch(&forge, &bucket, &dir, &["shared", "push"]).run().await;
    assert_eq!(ended.out, "5 pins, 0 zips (0 B) uploaded, 5 were there\n", "{ended:?}");
    let of_versions = |name: &str| ["/pins/", "/claims/", "/blobs/"].iter().any(|folder| name.contains(folder));
    let requests = bucket.script().log().into_iter().filter(|seen| of_versions(&seen.name)).count();
    assert_eq!(requests, 4 * PACKAGES, "what docs/fleet.md says");
    mirror.stop().await;
    let without = Launch::over(&forge, dir.path(), &["shared", "push"]).run().await;
    assert_eq!((without.code, without.err.contains("no section [shared]")), (Some(64), true), "{without:?}");
}

/// The keys of the objects of a folder.
fn keys(bucket: &TestBucket, folder: &str) -> BTreeSet<String> {
    bucket.names(folder).into_iter().map(|name| name.split_once('/').expect("a folder").1.to_owned()).collect()
}

/// A bucket that has pinned the forge's content, and has no zip; and a directory with other content, whose forge is returned.
async fn other_content() -> (TestBucket, Forge, TempDir) {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let other_forge = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let dir = filled(&other_forge, &[ZIP.to_owned()]).await;
    bucket.fault(Method::PUT, "blobs", BucketFault::Status(403));
    let first = node(&forge, &bucket).start().await;
    assert_eq!(first.get(ZIP).await.sha256(), sha256(&forge));
    first.stop().await;
    bucket.script().clear_faults();
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len()), (1, 0));
    (bucket, other_forge, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_with_other_content_that_cannot_be_quarantined_is_not_claimed() {
    let (bucket, forge, dir) = other_content().await;
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
    let sidecar = blob(dir.path(), &sha256(&forge)).with_extension("json");
    std::fs::remove_file(&sidecar).expect("removed");
    std::fs::create_dir(&sidecar).expect("what cannot be removed as a file");
    let lines = mirror.admin(dir.path(), "shared/push", json!({})).await;
    assert_eq!(bucket.names("claims"), [""; 0], "{lines:?}");
    let last = lines.last().expect("an end");
    assert_eq!((&last["mismatches"], &last["unpinned"], &last["uploaded"]), (&json!(1), &json!(1), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_whose_pin_cannot_be_settled_is_not_claimed() {
    let (bucket, forge, dir) = other_content().await;
    // A journal beyond the limit of a file's size: the bucket's pin cannot be recorded.
    let journal = dir.path().join("pins.jsonl");
    let line = std::fs::read_to_string(&journal).expect("text");
    std::fs::write(&journal, line.repeat((9 << 20) / line.len())).expect("written");
    let script = "trap '' XFSZ; ulimit -f 8192 && exec \"$@\"";
    let launch = launch(&forge, &bucket, &dir, &["shared", "push", "--json"]);
    let ended = launch.by_way_of(&["sh", "-c", script, "sh"]).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("\"state\":\"unreadable\""), "{ended:?}");
    assert_eq!(bucket.names("claims"), [""; 0], "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_is_claimed_only_where_its_pin_agrees_with_the_buckets_at_that_time() {
    let bucket = TestBucket::scripted().await;
    let (forge, dir) = numbered().await;
    let section = srm_mirror::shared::Config { uploads: 1, ..bucket.section() };
    let mirror = node(&forge, &bucket).with(|config| config.shared = Some(section)).start_in(dir.path()).await;
    let gate = bucket.gate(Method::PUT, "blobs");
    let changing = async {
        gate.reached().await;
        // All pins are settled; one zip is on its way, and no other one.
        let log = bucket.script().log();
        let begun =
            log.iter().rev().find_map(|seen| seen.name.split_once("/claims/")).expect("a claim was asked for").1;
        for name in bucket.names("pins").into_iter().filter(|name| *name != format!("pins/{begun}")) {
            let text = bucket.object(&name).expect("a pin");
            let mut pin: Value = serde_json::from_slice(&text).expect("JSON");
            pin["manifest"] = json!("ab".repeat(32));
            bucket.overwrite(&name, pin.to_string());
        }
        gate.open();
        begun.to_owned()
    };
    let (lines, begun) = tokio::join!(mirror.admin(dir.path(), "shared/push", json!({})), changing);
    assert_eq!(keys(&bucket, "claims"), BTreeSet::from([begun]), "{lines:?}");
    let last = lines.last().expect("an end");
    assert_eq!((&last["uploaded"], &last["unpinned"]), (&json!(1), &json!(4)), "{last}");
}

#[tokio::test]
async fn a_push_whose_end_is_missing_is_no_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let line = "{\"event\":\"begin\",\"zips\":3,\"bytes\":5}\n";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{line}", line.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let launch = Launch::bare(&["shared", "push", "--server", &url]).variable("SRM_MIRROR_TOKEN", "srmt_any");
    let ended = launch.run().await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(69), ""), "{ended:?}");
    assert!(ended.err.contains("the mirror ended before everything was uploaded"), "{ended:?}");
}
