//! A node that is killed between two writes of a publication leaves all of the version or nothing.

use super::*;
use crate::{bucket::BucketFault, process::Launch};

/// A node of its own process.
pub(super) fn launch(forge: &Forge, bucket: &TestBucket, cache: &Path, store: &Path) -> Launch {
    let rules = r#"[{packages = ["*"], read = ["token:reader"], publish = ["token:ci"], delete = ["token:ci"]}]"#;
    let launch = Launch::serve(forge, cache)
        .set("access.enabled", "true")
        .set("access.rules", rules)
        .set("host.names", r#"["acme-*"]"#)
        .set("upstreams.hosted.dir", store.to_str().expect("text"))
        .set("upstreams.hosted.min_free", "1B");
    let secret = cache.join("secret");
    fs::write(&secret, "the secret of all mirrors of a test").expect("written");
    bucket.configure(launch).set("shared.secret_file", secret.to_str().expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_any_two_writes_of_a_publication_leaves_all_or_nothing() {
    let mirrors = Mirrors::scripted().await;
    let other = mirrors.node().await;
    // Asks for no version: it learns of them by what is noted.
    let watcher = mirrors.node().await;
    other.publish("acme-x", "0.1.0").await;
    watcher.eventually_lists("acme-x", &["0.1.0"]).await;
    let cache = mirrors.accounts.cache();
    let store = tempfile::tempdir().expect("a directory");
    let launch = launch(&mirrors.forge, &mirrors.bucket, cache.path(), store.path());
    let mut versions = vec!["0.1.0".to_owned()];
    let mut left = Vec::new();
    for folder in ["hosted/blobs/", "hosted/releases/", "hosted/changes.json"] {
        for fault in [BucketFault::Hang, BucketFault::HangAfterWrite] {
            let version = format!("1.{}.0", versions.len());
            let zip = component("acme-x", &version);
            let process = launch.clone().start().await;
            let url = format!("http://{}/acme-x/zipball/{version}", process.address);
            let publish = |client: &reqwest::Client, url: &str| {
                client.put(url).bearer_auth(&mirrors.accounts.ci).body(zip.clone()).send()
            };
            mirrors.bucket.fault(Method::PUT, folder, fault);
            let before = mirrors.bucket.requests(&Method::PUT, folder);
            let running = tokio::spawn(publish(&process.client, &url));
            let is_written = || {
                fault == BucketFault::Hang
                    || mirrors.bucket.names(folder).iter().any(|name| is_of(name, &zip, &version))
            };
            eventually("the write", async || mirrors.bucket.requests(&Method::PUT, folder) > before && is_written())
                .await;
            process.kill().await;
            assert!(running.await.expect("no panic").is_err(), "no answer");
            mirrors.bucket.script().clear_faults();

            let must_be_there =
                (folder, fault) == ("hosted/releases/", BucketFault::HangAfterWrite) || folder == "hosted/changes.json";
            let found = other.fetch("acme-x", &version).await;
            match &found {
                Ok(digest) => assert_eq!(digest, &sha(&zip), "{folder} {fault:?}"),
                Err(got) => assert_eq!(got.status, 404, "{got:?}"),
            }
            assert_eq!(found.is_ok(), must_be_there, "{folder} {fault:?}");
            left.push(found.is_ok());
            let process = launch.clone().start().await;
            let url = format!("http://{}/acme-x/zipball/{version}", process.address);
            let again = publish(&process.client, &url).await.expect("an answer").status().as_u16();
            assert_eq!(again, if must_be_there { 200 } else { 201 }, "{folder} {fault:?}");
            process.kill().await;
            eventually("fetched elsewhere", async || {
                other.fetch("acme-x", &version).await.is_ok_and(|found| found == sha(&zip))
            })
            .await;
            versions.insert(0, version);
            let all: Vec<_> = versions.iter().map(String::as_str).collect();
            watcher.eventually_lists("acme-x", &all).await;
        }
    }
    assert_eq!(left, [false, false, false, true, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_interrupted_and_is_repeated_holds_on_every_node_soon() {
    let mirrors = Mirrors::scripted().await;
    let other = mirrors.node().await;
    let cache = mirrors.accounts.cache();
    let store = tempfile::tempdir().expect("a directory");
    let launch = launch(&mirrors.forge, &mirrors.bucket, cache.path(), store.path());
    for folder in ["hosted/releases/", "hosted/changes.json"] {
        other.publish("acme-x", "dev").await;
        // It has read what it has noted itself.
        let copy = other.store.path().join("releases/acme-x/dev.json");
        let has_tag = async || fs::read_to_string(&copy).is_ok_and(|record| !record.contains("\"tag\":\"\""));
        eventually("read again", has_tag).await;
        let process = launch.clone().start().await;
        let delete = |process: &crate::process::Process| {
            let url = format!("http://{}/acme-x/zipball/dev", process.address);
            process.client.delete(url).bearer_auth(&mirrors.accounts.ci).send()
        };
        mirrors.bucket.fault(Method::PUT, folder, BucketFault::HangAfterWrite);
        let running = tokio::spawn(delete(&process));
        eventually("deleted", async || {
            let record = mirrors.bucket.object("hosted/releases/acme-x/dev.json").expect("a record");
            String::from_utf8_lossy(&record).contains("\"deleted\"")
        })
        .await;
        process.kill().await;
        assert!(running.await.expect("no panic").is_err(), "no answer");
        mirrors.bucket.script().clear_faults();
        let process = launch.clone().start().await;
        let again = delete(&process).await.expect("an answer").status().as_u16();
        assert_eq!(again, 200);
        process.kill().await;
        other.eventually_lists("acme-x", &[]).await;
    }
}

/// True for the object that a publication writes.
fn is_of(name: &str, zip: &[u8], version: &str) -> bool {
    name.contains(&sha(zip)) || name.contains(version) || name.ends_with("changes.json")
}
