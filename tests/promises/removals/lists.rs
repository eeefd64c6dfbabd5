//! Lists and revisions that are removed, and those of later that stay.

use std::path::PathBuf;

use super::*;
use crate::{bundles::import, cache_ops::cache, moving_versions::revisions};

/// True when the mirror has the list on its disk.
async fn has_list(mirror: &Mirror) -> bool {
    let keys = mirror.cache.disk().documents().keys().await.expect("readable");
    keys.contains(&Key::new("github/devsapp/fc3/releases"))
}

/// A mirror that has stored something, and reads the removals when the gate is opened.
async fn late_reader(forge: &Forge, bucket: &TestBucket) -> (Mirror, TempDir, BucketGate) {
    let dir = first_node(forge, bucket).await.stop().await.expect("its directory");
    let gate = bucket.gate(Method::GET, REMOVALS);
    let mirror = node(forge, bucket).start_in(dir.path()).await;
    gate.reached().await;
    (mirror, dir, gate)
}

/// A bundle of one revision of a moving version.
async fn bundle_of_revision(forge: &Forge) -> (TempDir, PathBuf) {
    forge.registry().component("fc3").version("dev");
    let alone = setup(forge).start().await;
    assert_eq!(alone.get("/official/fc3/flat/dev").await.status, 200);
    eventually("stored", || blobs(alone.dir()) == 1).await;
    let from = alone.stop().await.expect("its directory");
    let bundle = from.path().join("bundle.tar");
    let exported = cache(from.path(), &["export", bundle.to_str().expect("text")]).await;
    assert_eq!(exported.status.code(), Some(0));
    (from, bundle)
}

/// A time before what is done next, also by the dates of a service, which are of whole seconds.
fn some_seconds_ago() -> Timestamp {
    Timestamp::now() - Duration::from_secs(10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_fetched_after_a_removal_stays_where_the_removal_is_read_later() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let (mirror, dir, gate) = late_reader(&forge, &bucket).await;
    in_bucket(&mirror, &bucket).await;
    tell(&bucket, "devsapp/fc3", some_seconds_ago());
    gate.open();
    done_in(dir.path(), 1).await;
    assert!(has_list(&mirror).await && bucket.object(RELEASES).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_imported_after_a_removal_stays_where_the_removal_is_read_later() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let alone = setup(&forge).start().await;
    assert_eq!(alone.get(LIST).await.status, 200);
    let key = Key::new("github/devsapp/fc3/releases");
    let document = alone.cache.document_tiers().peek(&key).await.expect("stored");
    let mut meta = serde_json::to_value(&*document.meta).expect("JSON");
    // It was confirmed long before the removal.
    meta["validated_at"] = "2026-01-01T00:00:00Z".into();
    let body = std::str::from_utf8(&document.body).expect("JSON");
    let (mirror, dir, gate) = late_reader(&forge, &bucket).await;
    mirror.admin(dir.path(), "import/document", json!({"key": key, "meta": meta, "body": body})).await;
    assert!(has_list(&mirror).await && bucket.object(RELEASES).is_some());
    tell(&bucket, "devsapp/fc3", some_seconds_ago());
    gate.open();
    done_in(dir.path(), 1).await;
    assert!(has_list(&mirror).await && bucket.object(RELEASES).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_imported_after_a_removal_stays_where_the_removal_is_read_later() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let (_from, bundle) = bundle_of_revision(&forge).await;
    let removed_at = Timestamp::now();
    let (mirror, dir, gate) = late_reader(&forge, &bucket).await;
    // It keeps the date of when it was fetched.
    let (code, said) = import(dir.path(), &bundle, &[]).await;
    assert!(code == Some(0) && revisions(&mirror).await == 1, "{said}");
    tell(&bucket, "official:fc3", removed_at);
    gate.open();
    done_in(dir.path(), 1).await;
    assert_eq!(revisions(&mirror).await, 1);
    tell_next(&bucket, 2, "official:fc3", Timestamp::now());
    done_in(dir.path(), 2).await;
    assert_eq!(revisions(&mirror).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_imported_after_a_mark_is_not_kept_where_the_mark_is_read_later() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let (_from, bundle) = bundle_of_revision(&forge).await;
    let marked_at = Timestamp::now();
    let (mirror, dir, gate) = late_reader(&forge, &bucket).await;
    let (code, said) = import(dir.path(), &bundle, &[]).await;
    assert!(code == Some(0) && revisions(&mirror).await == 1, "{said}");
    let is_kept = async || {
        let rows = mirror.admin(dir.path(), "stock", json!({"pattern": "official:fc3"})).await;
        rows.iter().filter(|row| row["kept"] == true).count() == 1
    };
    let keep = |at: Timestamp| json!({"pattern": "official:fc3", "forget": false, "at": at, "mark": "keep"});
    tell_removal(&bucket, 1, keep(marked_at));
    gate.open();
    done_in(dir.path(), 1).await;
    assert!(!is_kept().await);
    tell_removal(&bucket, 2, keep(Timestamp::now()));
    done_in(dir.path(), 2).await;
    assert!(is_kept().await);
    let unkeep = json!({"pattern": "official:fc3", "forget": false, "at": Timestamp::now(), "mark": "unkeep"});
    tell_removal(&bucket, 3, unkeep);
    done_in(dir.path(), 3).await;
    assert!(!is_kept().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_fetched_after_its_removal_stays_when_the_bucket_is_back() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    in_bucket(&mirror, &bucket).await;
    bucket.script().down();
    remove(&mirror, "devsapp/fc3", false).await;
    assert!(!has_list(&mirror).await);
    assert_eq!(mirror.get(LIST).await.status, 200);
    assert!(has_list(&mirror).await);
    bucket.script().up();
    eventually("the bucket's is removed", || bucket.object(RELEASES).is_none()).await;
    let is_nothing_left = || own_file(mirror.dir())["left_documents"].as_object().is_some_and(|left| left.is_empty());
    eventually("nothing is left to do", is_nothing_left).await;
    assert!(has_list(&mirror).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_left_in_the_bucket_are_removed_in_steps_and_after_the_removals_of_others() {
    const LISTS: usize = 1500;
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let mirror = first_node(&forge, &bucket).await;
    let dir = mirror.stop().await.expect("its directory");
    let name = |number: usize| format!("github/acme/p{number:04}/releases");
    for number in 0..LISTS {
        bucket.overwrite(&format!("documents/{}.json", name(number)), "{}");
    }
    let left = (0..LISTS).map(|number| (name(number), json!(Timestamp::now()))).collect::<serde_json::Map<_, _>>();
    std::fs::write(dir.path().join("removals.json"), json!({"left_documents": left}).to_string()).expect("written");
    tell(&bucket, "devsapp/fc3", Timestamp::now());
    // The last one cannot be removed.
    bucket.fault(Method::DELETE, &format!("documents/{}", name(LISTS - 1)), BucketFault::Status(503));
    bucket.script().clear_log();
    let _mirror = node(&forge, &bucket).start_in(dir.path()).await;
    let left = || own_file(dir.path())["left_documents"].as_object().map_or(LISTS, |left| left.len());
    eventually("all but the last step is recorded", || left() <= 500).await;
    let log = bucket.script().log();
    let first = |folder: &str| log.iter().position(|seen| seen.name.contains(folder)).expect("a request");
    assert!(first(REMOVALS) < first("documents/"), "the removals of others are read first");
    bucket.script().clear_faults();
    eventually("all are removed", || left() == 0 && bucket.names("documents").is_empty()).await;
}

/// A mirror over the directory of an earlier one, which has left this many lists in the bucket; their names.
async fn leave_lists(forge: &Forge, bucket: &TestBucket, lists: usize) -> (TempDir, Vec<String>) {
    let dir = first_node(forge, bucket).await.stop().await.expect("its directory");
    let names: Vec<_> = (0..lists).map(|number| format!("github/acme/p{number:04}/releases")).collect();
    let left = names.iter().map(|name| (name.clone(), json!(Timestamp::now()))).collect::<serde_json::Map<_, _>>();
    for name in &names {
        bucket.overwrite(&format!("documents/{name}.json"), "{}");
    }
    std::fs::write(dir.path().join("removals.json"), json!({"left_documents": left}).to_string()).expect("written");
    (dir, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_the_bucket_does_not_delete_keep_no_other_one_there() {
    const LISTS: usize = 1100;
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let (dir, names) = leave_lists(&forge, &bucket, LISTS).await;
    let locked = [0, 1, 2, 3, 499];
    for number in locked {
        bucket.fault(Method::DELETE, &format!("documents/{}", names[number]), BucketFault::Status(403));
    }
    let mirror = node(&forge, &bucket).start_in(dir.path()).await;
    let left = || own_file(dir.path())["left_documents"].as_object().map_or(LISTS, |left| left.len());
    eventually("all others are removed", || left() == locked.len()).await;
    assert_eq!(bucket.names("documents/github/acme").len(), locked.len());
    // Each is tried again, and none of the tries makes the mirror leave the bucket alone.
    for number in locked {
        let name = format!("documents/{}", names[number]);
        let tries = bucket.requests(&Method::DELETE, &name);
        eventually("tried again", || bucket.requests(&Method::DELETE, &name) > tries).await;
    }
    assert_eq!(mirror.get("/readyz").await.status, 200);
    bucket.script().clear_faults();
    eventually("all are removed", || left() == 0 && bucket.names("documents/github/acme").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_keeps_no_list_in_the_bucket_that_was_left_there() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let (dir, _) = leave_lists(&forge, &bucket, 1).await;
    for folder in ["claims/", "pins/"] {
        bucket.fault(Method::DELETE, folder, BucketFault::Status(403));
    }
    tell(&bucket, "devsapp/fc3", Timestamp::now());
    let _mirror = node(&forge, &bucket).start_in(dir.path()).await;
    eventually("the list is removed", || bucket.names("documents/github/acme").is_empty()).await;
    assert_ne!(own_file(dir.path())["done"], 1, "the removal is not done");
    bucket.script().clear_faults();
    done_in(dir.path(), 1).await;
}
