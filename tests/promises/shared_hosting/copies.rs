//! The directory of a node is a copy, which it may lose.

use std::time::Duration;

use super::*;
use crate::bucket::BucketFault;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_lost_its_directory_serves_everything_again() {
    let mirrors = Mirrors::new().await;
    let first = mirrors.node().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    first.publish("acme-x", "1.1.0").await;
    assert_eq!(first.delete("acme-x", "1.1.0").await.status, 200);
    first.stop().await;
    let replaced = mirrors.node().await;
    assert_eq!(replaced.listed("acme-x").await, ["1.0.0"]);
    assert_eq!(replaced.fetch("acme-x", "1.0.0").await.expect("fetched"), sha(&zip));
    // While it runs, too.
    fs::remove_dir_all(replaced.store.path().join("blobs")).expect("removed");
    fs::remove_dir_all(replaced.store.path().join("releases")).expect("removed");
    replaced.publish("acme-x", "1.2.0").await;
    assert_eq!(replaced.get("/acme-x/releases/tags/1.0.0").await.status, 200);
    let again = replaced.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
    assert_eq!(again.status, 409, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_reads_no_record_that_it_has() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    for number in 0..20 {
        first.publish("acme-x", &format!("1.{number}.0")).await;
    }
    eventually("all are copied", async || second.listed("acme-x").await.len() == 20).await;
    let [cache, store] = second.stop().await.into();
    // It reads its own changes once more.
    first.stop().await;
    mirrors.bucket.script().clear_log();
    let again = mirrors.node_in([cache, store]).await;
    assert_eq!(again.listed("acme-x").await.len(), 20);
    assert_eq!(mirrors.bucket.requests(&Method::GET, "hosted/releases/acme-x/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_a_node_does_not_have_is_read_once_for_all_who_ask() {
    let mirrors = Mirrors::scripted().await;
    let [first, second] = mirrors.two().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    second.eventually_lists("acme-x", &["1.0.0"]).await;
    let fetched = join_all((0..30).map(|_| second.fetch("acme-x", "1.0.0"))).await;
    for found in fetched {
        assert_eq!(found.expect("fetched"), sha(&zip));
    }
    assert_eq!(mirrors.bucket.requests(&Method::GET, "hosted/blobs/"), 1);
    mirrors.bucket.script().clear_log();
    assert!(second.fetch("acme-x", "1.0.0").await.is_ok());
    assert_eq!(mirrors.bucket.requests(&Method::GET, "hosted/blobs/"), 0, "a hit asks nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn zips_that_the_bucket_has_make_room_for_others() {
    let mirrors = Mirrors::new().await;
    let first = mirrors.node().await;
    let noise = vec![7; 400_000];
    let mut zips = Vec::new();
    for number in 0..5 {
        let version = format!("1.{number}.0");
        let zip = stored_component("acme-x", &version, &[("noise", &noise)]);
        assert_eq!(first.put("acme-x", &version, zip.clone()).await.status, 201);
        zips.push((version, sha(&zip)));
    }
    let small = |config: &mut Config| {
        config.hosted.as_mut().expect("a section").quota = ByteSize(1_000_000);
    };
    let second = mirrors.node_with(small).await;
    for _ in 0..2 {
        for (version, digest) in &zips {
            assert_eq!(&second.fetch("acme-x", version).await.expect("fetched"), digest);
            let files = crate::process::files(&second.store.path().join("blobs"));
            let bytes: u64 = files.iter().map(|(_, len)| len).sum();
            assert!(bytes <= 1_000_000, "{bytes}");
        }
    }
    let next = stored_component("acme-x", "1.5.0", &[("noise", &noise)]);
    assert_eq!(second.put("acme-x", "1.5.0", next.clone()).await.status, 201);
    assert_eq!(first.fetch("acme-x", "1.5.0").await.expect("fetched"), sha(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_before_there_was_a_bucket_is_uploaded() {
    let mirrors = Mirrors::new().await;
    let alone = mirrors.alone().await;
    let other = mirrors.alone().await;
    let zip = alone.publish("acme-x", "1.0.0").await;
    alone.publish("acme-x", "1.1.0").await;
    assert_eq!(alone.delete("acme-x", "1.1.0").await.status, 200);
    // Other content under the same name, and something of its own.
    let conflicting = component_with("acme-x", "1.0.0", &[("more.js", b"2")]);
    assert_eq!(other.put("acme-x", "1.0.0", conflicting.clone()).await.status, 201);
    let own = other.publish("acme-y", "1.0.0").await;
    let [cache, store] = alone.stop().await.into();
    let first = mirrors.node_in([cache, store]).await;
    let third = mirrors.node().await;
    eventually("uploaded", async || third.fetch("acme-x", "1.0.0").await.is_ok()).await;
    let [cache, store] = other.stop().await.into();
    let second = mirrors.node_in([cache, store]).await;
    eventually("uploaded", async || third.fetch("acme-y", "1.0.0").await.is_ok()).await;
    for node in [&first, &second, &third] {
        assert_eq!(node.fetch("acme-x", "1.0.0").await.expect("fetched"), sha(&zip), "the bucket's counts");
        assert_eq!(node.fetch("acme-y", "1.0.0").await.expect("fetched"), sha(&own));
        let again = node.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
        assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")), "{again:?}");
    }
    let aside = fs::read(second.store.path().join("conflicts").join(sha(&conflicting))).expect("set aside");
    assert_eq!(sha(&aside), sha(&conflicting));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_and_a_verification_read_the_bucket_where_a_node_has_no_zip() {
    let mirrors = Mirrors::scripted().await;
    let first = mirrors.node().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    let other = first.publish("acme-x", "1.1.0").await;
    let second = mirrors.node().await;
    let got = second.mirror.control(second.cache.path(), Method::POST, "/-/hosted/export", "{}").await;
    assert_eq!(got.status, 200, "{got:?}");
    let mut names = Vec::new();
    let mut archive = tar::Archive::new(&got.body[..]);
    for entry in archive.entries().expect("an archive") {
        names.push(entry.expect("an entry").path().expect("a name").display().to_string());
    }
    for zip in [&zip, &other] {
        assert!(names.contains(&format!("blobs/{}", sha(zip))), "{names:?}");
    }
    assert!(!String::from_utf8_lossy(&got.body).contains("\"tag\""), "the tags of copies are in no export");
    fs::remove_dir_all(second.store.path().join("blobs")).expect("removed");
    let name =
        mirrors.bucket.names("hosted/blobs/").into_iter().find(|name| name.ends_with(&sha(&zip))).expect("its zip");
    mirrors.bucket.overwrite(&name, vec![0; zip.len()]);
    let steps = second.mirror.admin(second.cache.path(), "hosted/verify", json!({})).await;
    let damaged: Vec<_> = steps.iter().filter(|step| step.to_string().contains("acme-x@")).collect();
    assert!(damaged.len() == 1 && damaged[0].to_string().contains("acme-x@1.0.0"), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_against_the_bucket_and_cannot_be_set_aside_is_not_overwritten() {
    let mirrors = Mirrors::new().await;
    let alone = mirrors.alone().await;
    let own = component_with("acme-x", "1.0.0", &[("more.js", b"2")]);
    assert_eq!(alone.put("acme-x", "1.0.0", own.clone()).await.status, 201);
    let first = mirrors.node().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    let directories: [TempDir; 2] = alone.stop().await.into();
    fs::write(directories[1].path().join("conflicts"), b"in the way").expect("written");
    let second = mirrors.node_in(directories).await;
    let record = || fs::read_to_string(second.store.path().join("releases/acme-x/1.0.0.json")).expect("a record");
    assert!(second.has_zip(&sha(&own)) && record().contains(&sha(&own)));
    // A change of the version, which the bucket makes, takes nothing away here either.
    assert_eq!(second.delete("acme-x", "1.0.0").await.status, 200);
    assert!(second.has_zip(&sha(&own)) && record().contains(&sha(&own)));
    first.eventually_lists("acme-x", &[]).await;
    let directories: [TempDir; 2] = second.stop().await.into();
    fs::remove_file(directories[1].path().join("conflicts")).expect("removed");
    let second = mirrors.node_in(directories).await;
    assert!(second.has(&format!("conflicts/{}", sha(&own))));
    assert_eq!(second.fetch("acme-x", "1.0.0").await.expect_err("deleted").status, 404);
    assert_ne!(sha(&zip), sha(&own));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zips_that_were_not_asked_for_the_longest_make_room_first_and_their_bytes_are_free_at_once() {
    let mirrors = Mirrors::new().await;
    let first = mirrors.node().await;
    let noise = vec![7; 3_900_000];
    let versions: Vec<String> = (0..5).map(|number| format!("1.{number}.0")).collect();
    let mut zips = Vec::new();
    for version in &versions {
        let zip = stored_component("acme-x", version, &[("noise", &noise)]);
        assert_eq!(first.put("acme-x", version, zip.clone()).await.status, 201);
        zips.push(sha(&zip));
    }
    let four = |config: &mut Config| config.hosted.as_mut().expect("a section").quota = ByteSize(17_000_000);
    let second = mirrors.node_with(four).await;
    let stored = || (0..5).filter(|number| second.has_zip(&zips[*number])).collect::<Vec<_>>();
    let ask = async |number: usize| {
        assert_eq!(second.fetch("acme-x", &versions[number]).await.expect("fetched"), zips[number]);
    };
    // A whole zip that is asked for again within a second is sent again without a look.
    let ask_again = async |number: usize| {
        let headers = [("authorization", &*format!("Bearer {}", second.reader)), ("range", "bytes=0-9")];
        let got = second.mirror.get_with(&format!("/acme-x/flat/{}", versions[number]), &headers).await;
        assert_eq!(got.status, 206, "{got:?}");
    };
    for number in 0..4 {
        ask(number).await;
    }
    ask_again(0).await;
    assert_eq!(stored(), [0, 1, 2, 3]);
    ask(4).await;
    assert_eq!(stored(), [0, 2, 3, 4], "the first one was asked for again");
    ask_again(2).await;
    ask(1).await;
    assert_eq!(stored(), [0, 1, 2, 4]);
    let store = second.store.path();
    let open_and_removed = || {
        let files =
            fs::read_dir("/proc/self/fd").expect("a folder").filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.filter(|file| file.starts_with(store) && file.to_string_lossy().ends_with("(deleted)")).count()
    };
    eventually("closed", async || open_and_removed() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_counts_each_zip_once_and_says_what_it_could_not_verify() {
    let mirrors = Mirrors::scripted().await;
    let first = mirrors.node().await;
    let noise = vec![7; 3_900_000];
    for number in 0..4 {
        let version = format!("1.{number}.0");
        let zip = stored_component("acme-x", &version, &[("noise", &noise)]);
        assert_eq!(first.put("acme-x", &version, zip).await.status, 201);
    }
    // Room for two of them: what is downloaded takes the place of what was verified.
    let two = |config: &mut Config| config.hosted.as_mut().expect("a section").quota = ByteSize(9_000_000);
    let second = mirrors.node_with(two).await;
    assert!(second.fetch("acme-x", "1.3.0").await.is_ok());
    let verify = async || {
        let steps = second.mirror.admin(second.cache.path(), "hosted/verify", json!({})).await;
        let end = steps.last().expect("the end").clone();
        ["zips", "damaged", "unchecked"].map(|field| end[field].as_u64().expect("a number"))
    };
    assert_eq!(verify().await, [4, 0, 0]);
    mirrors.bucket.script().down();
    let [zips, damaged, unchecked] = verify().await;
    assert_eq!((zips + unchecked, damaged), (4, 0));
    assert!(unchecked >= 2, "{unchecked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_bucket_lacks_is_uploaded_again() {
    let mirrors = Mirrors::new().await;
    let first = mirrors.node().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    first.publish("acme-x", "1.1.0").await;
    assert_eq!(first.delete("acme-x", "1.1.0").await.status, 200);
    let directories: [TempDir; 2] = first.stop().await.into();
    // The backup is from before the first publication.
    let mirrors = Mirrors { bucket: TestBucket::start().await, ..mirrors };
    let first = mirrors.node_in(directories).await;
    let second = mirrors.node().await;
    eventually("uploaded", async || second.fetch("acme-x", "1.0.0").await.is_ok_and(|found| found == sha(&zip))).await;
    eventually("uploaded", async || {
        let again = second.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
        again.status == 409 && again.json()["code"] == "version-deleted"
    })
    .await;
    assert_eq!(first.fetch("acme-x", "1.0.0").await.expect("its copy"), sha(&zip));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_over_a_bucket_is_imported_into_a_mirror_without_one() {
    let mirrors = Mirrors::new().await;
    let [first, second] = mirrors.two().await;
    let zip = first.publish("acme-x", "1.0.0").await;
    first.publish("acme-x", "1.1.0").await;
    assert_eq!(first.delete("acme-x", "1.1.0").await.status, 200);
    second.eventually_lists("acme-x", &["1.0.0"]).await;
    let got = second.mirror.control(second.cache.path(), Method::POST, "/-/hosted/export", "{}").await;
    let [files, store] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let file = files.path().join("sunday.tar");
    fs::write(&file, &got.body).expect("written");
    let arguments = ["host", "import", file.to_str().expect("text"), "--dir", store.path().to_str().expect("text")];
    let imported = crate::process::Launch::bare(&arguments).run().await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let alone = Node::start_in(&mirrors.forge, None, &mirrors.accounts, mirrors.accounts.cache(), store, |_| ()).await;
    assert_eq!(alone.listed("acme-x").await, ["1.0.0"]);
    assert_eq!(alone.fetch("acme-x", "1.0.0").await.expect("its own"), sha(&zip));
    let again = alone.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_known_is_looked_up_once_for_all_who_ask_and_a_failure_is_remembered() {
    let mirrors = Mirrors::scripted().await;
    let node = mirrors.node().await;
    let lists = || mirrors.bucket.requests(&Method::GET, "hosted/releases/acme-new/");
    let gate = mirrors.bucket.gate(Method::GET, "hosted/releases/acme-new/");
    let asks = join_all((0..30).map(|_| node.get("/acme-new/releases")));
    let opened = async {
        gate.reached().await;
        gate.open();
    };
    let (found, ()) = join(asks, opened).await;
    assert!(found.iter().all(|got| got.status == found[0].status), "{found:?}");
    assert_eq!(lists(), 1);
    node.mirror.clock.advance(Duration::from_secs(3));
    mirrors.bucket.fault_times(1, Method::GET, "hosted/releases/acme-new/", BucketFault::Status(403));
    for _ in 0..5 {
        assert_eq!(node.get("/acme-new/releases").await.status, found[0].status);
    }
    assert_eq!(lists(), 2, "a failure is remembered for a moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_source_is_recorded_waits_for_no_lookup_of_published_packages() {
    let mirrors = Mirrors::scripted().await;
    mirrors.forge.repo("devsapp/fc").release("1.0.0", |release| release.file("a.txt", "a"));
    let node = mirrors.node_with(|config| config.names.default_owner = Some("devsapp".into())).await;
    assert_eq!(node.get("/fc/zipball/1.0.0").await.status, 200);
    node.mirror.clock.advance(Duration::from_secs(61));
    let lists = mirrors.bucket.requests(&Method::GET, "hosted/releases/fc/");
    assert_eq!(node.get("/fc/releases/tags/1.0.0").await.status, 200);
    assert_eq!(mirrors.bucket.requests(&Method::GET, "hosted/releases/fc/"), lists);
}
