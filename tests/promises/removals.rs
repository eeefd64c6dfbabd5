//! What an operator removes on one mirror of a bucket is removed on the others.

use std::{collections::BTreeSet, path::Path, time::Duration};

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use srm_mirror::entry::Key;
use tempfile::TempDir;

use crate::{
    bucket::{BucketFault, BucketGate, TestBucket},
    forge::{Forge, Lengths},
    mirror::{Mirror, setup},
    process::Launch,
    shared_bucket::{first_node, node, some_forge, uploaded},
    zips::{ZIP, blobs, eventually, forge, pins, sha256, zip_requests},
};

#[path = "removals/lists.rs"]
mod lists;

const LIST: &str = "/devsapp/fc3/releases";
/// The list of removals in the bucket.
const REMOVALS: &str = "state/removals.json";
/// A list of releases in the bucket.
const RELEASES: &str = "documents/github/devsapp/fc3/releases.json";

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

/// Tells all mirrors that an operator of another one has forgotten a package at this time: the list has nothing else.
pub fn tell(bucket: &TestBucket, pattern: &str, at: Timestamp) {
    tell_next(bucket, 1, pattern, at);
}

/// As [`tell`], with the number of the removal.
fn tell_next(bucket: &TestBucket, number: u64, pattern: &str, at: Timestamp) {
    tell_removal(bucket, number, json!({"pattern": pattern, "forget": true, "at": at}));
}

/// As [`tell_next`], for anything that the list can have.
fn tell_removal(bucket: &TestBucket, number: u64, mut removal: Value) {
    removal["by"] = "b".repeat(64).into();
    let list = json!({"list": "a".repeat(64), "last": number, "removals": [removal]});
    bucket.overwrite(REMOVALS, list.to_string());
}

/// A mirror's own file on removals.
fn own_file(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("removals.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Waits until the mirror over a directory has done this many removals of the list.
async fn done_in(dir: &Path, number: u64) {
    eventually("the removals are done", || own_file(dir)["done"] == number).await;
}

/// As [`done_in`].
pub async fn done(mirror: &Mirror, number: u64) {
    done_in(mirror.dir(), number).await;
}

/// Waits until a mirror that has asked for a list has put it in the bucket.
async fn in_bucket(mirror: &Mirror, bucket: &TestBucket) {
    assert_eq!(mirror.get(LIST).await.status, 200);
    eventually("the list is in the bucket", || bucket.object(RELEASES).is_some()).await;
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
    done_in(second_dir.path(), 1).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_first_seen_after_a_removal_stays_also_where_the_removal_is_read_later() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    // Mirrors that have nothing at their first look do no earlier removal.
    tell(&bucket, "acme/one", Timestamp::now());
    let mirrors = [node(&forge, &bucket).start().await, node(&forge, &bucket).start().await];
    for mirror in &mirrors {
        done(mirror, 1).await;
    }
    // None looks between the zip and the removal.
    let gate = bucket.gate(Method::GET, "state/removals");
    let removed_at = Timestamp::now();
    for mirror in &mirrors {
        assert_eq!(mirror.get(ZIP).await.status, 200);
        eventually("stored", || blobs(mirror.dir()) == 1).await;
    }
    uploaded(&mirrors[0]).await;
    tell_next(&bucket, 2, "devsapp/fc3@v1.0.0", removed_at);
    gate.open();
    for mirror in &mirrors {
        done(mirror, 2).await;
        assert_eq!((blobs(mirror.dir()), pins(mirror.dir()).len()), (1, 1));
    }
    assert_eq!((bucket.names("claims").len(), bucket.names("pins").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_whose_clock_is_slow_removes_is_removed_where_it_was_stored_before() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    bucket.script().clear_log();
    eventually("looked", || bucket.requests(&Method::GET, "state/removals") >= 2).await;
    tell(&bucket, "devsapp/fc3", Timestamp::now() - Duration::from_secs(300));
    done(&mirror, 1).await;
    assert_eq!(blobs(mirror.dir()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_starts_with_nothing_does_no_earlier_removal() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    in_bucket(&first, &bucket).await;
    first.stop().await;
    // The bucket still has a pin that is older than the removal.
    tell(&bucket, "devsapp/fc3", Timestamp::now());
    let gate = bucket.gate(Method::GET, "state/removals");
    let second = node(&forge, &bucket).start().await;
    gate.reached().await;
    for path in [ZIP, LIST] {
        assert_eq!(second.get(path).await.status, 200);
    }
    eventually("stored", || blobs(second.dir()) == 1).await;
    gate.open();
    done(&second, 1).await;
    for folder in ["claims", "pins", "documents"] {
        assert_eq!(bucket.requests(&Method::DELETE, folder), 0, "{folder}");
    }
    assert_eq!((blobs(second.dir()), pins(second.dir()).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_only_other_mirrors_have_are_removed_from_the_bucket() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    in_bucket(&first, &bucket).await;
    let operators = node(&forge, &bucket).start().await;
    remove(&operators, "devsapp/fc3", false).await;
    eventually("removed", || bucket.object(RELEASES).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_removed_from_a_bucket_that_was_down_when_its_service_is_back() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    in_bucket(&mirror, &bucket).await;
    bucket.script().down();
    remove(&mirror, "devsapp/fc3", false).await;
    let dir = mirror.stop().await.expect("its directory");
    bucket.script().up();
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    eventually("removed", || bucket.object(RELEASES).is_none()).await;
    // Once: a list that is fetched afterwards stays.
    in_bucket(&mirror, &bucket).await;
    bucket.script().clear_log();
    eventually("asked", || bucket.requests(&Method::GET, "state/removals") >= 2).await;
    assert!(bucket.object(RELEASES).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn removals_that_follow_a_restored_backup_of_the_bucket_are_done_and_earlier_ones_remove_nothing_later() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    remove(&first, "devsapp/fc3", false).await;
    done(&second, 1).await;
    assert_eq!(second.get(ZIP).await.status, 200);
    eventually("stored again", || blobs(second.dir()) == 1).await;
    let backup = bucket.object(REMOVALS).expect("a list");
    remove(&first, "acme/two", false).await;
    done(&second, 2).await;
    bucket.overwrite(REMOVALS, backup);
    remove(&first, "acme/three", false).await;
    eventually("done", || own_file(second.dir())["last_done"]["pattern"] == "acme/three").await;
    assert_eq!(blobs(second.dir()), 1, "it was stored after its removal");
    remove(&first, "devsapp/fc3", false).await;
    eventually("removed", || blobs(second.dir()) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pins_are_forgotten_in_the_bucket_at_once() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    forge.repo("devsapp/fc3").release("v2.0.0", |r| r.file("a.txt", "another version"));
    let [first, second] = two_mirrors(&forge, &bucket).await;
    assert_eq!(second.get("/devsapp/fc3/zipball/v2.0.0").await.status, 200);
    eventually("stored", || blobs(second.dir()) == 2).await;
    uploaded(&second).await;
    first.stop().await;
    let gate = bucket.gate(Method::GET, "claims");
    bucket.script().clear_log();
    tell(&bucket, "devsapp/fc3", Timestamp::now());
    let asked = || {
        let log = bucket.script().log();
        let names = log.iter().filter(|seen| seen.name.contains("/claims/")).map(|seen| &seen.name);
        names.collect::<BTreeSet<_>>().len()
    };
    eventually("both are asked for before one is answered", || asked() == 2).await;
    gate.open();
    eventually("forgotten", || bucket.names("pins").is_empty() && bucket.names("claims").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_marks_of_zips_that_are_not_stored_are_removed_on_the_others_too() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    second.admin(second.dir(), "keep", json!({"pattern": "devsapp/fc3", "kept": true})).await;
    // It has its mark from the list by then.
    done(&second, 1).await;
    let key = Key::new("github/devsapp/fc3/tag/v1.0.0");
    let object = second.cache.archive_tiers().peek(&key).await.expect("readable").expect("stored");
    second.cache.archive_tiers().quarantine(&object).await;
    let marks = async || second.cache.disk().inventory().kept_missing_keys().await.expect("readable");
    assert_eq!(marks().await, [key]);
    remove(&first, "devsapp/fc3", false).await;
    crate::eventually::eventually("the mark is removed", async || marks().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_has_missed_more_removals_than_the_list_has_says_so_in_its_log() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    tell(&bucket, "acme/one", Timestamp::now());
    done(&mirror, 1).await;
    // The second one is no longer in the list.
    let mut list: Value = serde_json::from_slice(&bucket.object(REMOVALS).expect("a list")).expect("JSON");
    list["last"] = 3.into();
    list["removals"][0]["pattern"] = "acme/three".into();
    bucket.overwrite(REMOVALS, list.to_string());
    done(&mirror, 3).await;
    assert_eq!(crate::logs::lines("removed more than the list of removals has").len(), 1);
}

/// Whether the zip that a mirror has stored is marked as kept.
async fn is_kept(mirror: &Mirror) -> bool {
    let key = Key::new("github/devsapp/fc3/tag/v1.0.0");
    mirror.cache.disk().inventory().is_kept(&key).await.expect("readable")
}

async fn keep(mirror: &Mirror, dir: &std::path::Path, kept: bool) {
    let report = mirror.admin(dir, "keep", json!({"pattern": "devsapp/*", "kept": kept})).await;
    assert_eq!(report[0]["spreads"], true, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_marked_as_kept_on_one_mirror_is_kept_on_all_until_the_mark_is_taken_away_on_any() {
    let bucket = TestBucket::start().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    keep(&first, first.dir(), true).await;
    assert!(is_kept(&first).await, "at once on its own");
    crate::eventually::eventually("kept on the other one", async || is_kept(&second).await).await;
    keep(&second, second.dir(), false).await;
    assert!(!is_kept(&second).await);
    crate::eventually::eventually("evictable on the other one", async || !is_kept(&first).await).await;
    assert_eq!((blobs(first.dir()), blobs(second.dir())), (1, 1), "nothing is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mirrors_end_with_the_last_mark_of_the_bucket_also_where_it_was_down() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let [first, second] = two_mirrors(&forge, &bucket).await;
    bucket.script().down();
    keep(&first, first.dir(), true).await;
    keep(&second, second.dir(), false).await;
    let first_dir = first.stop().await.expect("its directory");
    bucket.script().up();
    done(&second, 1).await;
    // Its mark, which is older, comes into the list later.
    let first = node(&forge, &bucket).start_in(first_dir.path()).await;
    crate::eventually::eventually("kept on both", async || is_kept(&first).await && is_kept(&second).await).await;
    done_in(first_dir.path(), 2).await;
    assert!(is_kept(&first).await && is_kept(&second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_told_later_keeps_nothing_that_was_stored_after_it() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let marked_at = Timestamp::now();
    let mirror = first_node(&forge, &bucket).await;
    tell_removal(&bucket, 1, json!({"pattern": "*", "forget": false, "at": marked_at, "mark": "keep"}));
    done(&mirror, 1).await;
    assert!(!is_kept(&mirror).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_marks_on_other_mirrors_what_its_own_does_not_have() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    let dir = setup(&forge).start().await.stop().await.expect("an empty directory");
    let launch = Launch::over(&forge, dir.path(), &["cache", "keep", "devsapp/fc3"]);
    let marked = bucket.configure(launch).run().await;
    assert_eq!(marked.code, Some(0), "{marked:?}");
    assert_eq!(marked.out, "0 of 0 zips are kept now; the other mirrors of the bucket mark what they have, too\n");
    let _mirror = node(&forge, &bucket).start_in(dir.path()).await;
    crate::eventually::eventually("kept", async || is_kept(&first).await).await;
    let other = setup(&forge).start().await.stop().await.expect("an empty directory");
    let alone = Launch::over(&forge, other.path(), &["cache", "keep", "devsapp/fc3"]).run().await;
    assert_eq!((alone.code, alone.out.as_str()), (Some(1), "no stored zip matches\n"), "without a bucket");
}
