//! Published zips that no record names are collected from the bucket, and nothing that a record names, written before, during
//! or after a collection.

use std::time::Duration;

use super::{kills::launch, *};
use crate::{
    bucket::BucketFault,
    bucket_garbage::{Collector, DAY, HOUR},
    process::Launch,
};

/// The first object of a zip.
fn object(zip: &[u8]) -> String {
    let sha256 = sha(zip);
    format!("hosted/blobs/{}/{sha256}", &sha256[..2])
}

/// The zip of the version `dev` with this content.
fn dev(content: &str) -> Vec<u8> {
    component_with("acme-x", "dev", &[("content", content.as_bytes())])
}

impl Mirrors {
    /// Writes a zip of two days ago that no record names.
    fn orphan(&self, zip: &[u8]) -> Collector {
        self.bucket.overwrite(&object(zip), zip.to_vec());
        self.advance(2 * DAY);
        Collector::of(&self.bucket)
    }

    fn advance(&self, by: Duration) {
        self.bucket.script().clock().advance(by);
    }

    /// Marks what no record names, and deletes it after the grace.
    async fn collect_marked(&self) {
        let collector = Collector::of(&self.bucket);
        for _ in 0..2 {
            self.advance(2 * DAY);
            collector.run().await;
        }
    }

    fn blobs(&self) -> Vec<String> {
        self.bucket.names("hosted/blobs/")
    }

    /// The objects that a record names: of its present zip first, then of earlier ones.
    fn named(&self, version: &str) -> Vec<String> {
        let record = self.bucket.object(&format!("hosted/releases/acme-x/{version}.json")).expect("a record");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        let previous = record["previous"].as_array().cloned().unwrap_or_default();
        let zips = [vec![record.clone()], previous].concat();
        zips.iter().map(|zip| zip["blob"].as_str().expect("a name").to_owned()).collect()
    }

    /// The zips of a version `dev` that was published twice before there was a bucket, and the directories of its mirror.
    async fn published_alone(&self) -> ([Vec<u8>; 2], [TempDir; 2]) {
        let zips = ["a", "b"].map(dev);
        let alone = self.alone().await;
        for zip in &zips {
            assert_eq!(alone.put("acme-x", "dev", zip.clone()).await.status, 201);
        }
        (zips, alone.stop().await.into())
    }

    /// A node without any zip serves a version.
    async fn assert_served(&self, version: &str, zip: &[u8]) {
        assert_eq!(self.node().await.fetch("acme-x", version).await.expect("fetched"), sha(zip));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zip_of_a_deleted_version_is_deleted_and_published_again_under_another_name() {
    let mirrors = Mirrors::new().await;
    let node = mirrors.node().await;
    let mut collector = Collector::of(&mirrors.bucket);
    // The real service's clock cannot be advanced.
    collector.rules.grace = Duration::ZERO;
    let kept = node.publish("acme-x", "1.0.0").await;
    let names = async || {
        let listed = collector.bucket.list("hosted/blobs/", None).await.expect("a list").objects;
        listed.into_iter().map(|object| object.name).filter(|name| *name != object(&kept)).collect::<Vec<_>>()
    };
    let zip = dev("a");
    // The first name has nothing at its end.
    for end in ["", ".1", ".2"] {
        assert_eq!(node.put("acme-x", "dev", zip.clone()).await.status, 201);
        assert_eq!(names().await, [format!("{}{end}", object(&zip))]);
        mirrors.assert_served("dev", &zip).await;
        let report = collector.run().await.published;
        assert_eq!((report.references, report.zips.objects, report.marked.objects), (2, 2, 0), "{report:?}");
        assert_eq!(node.delete("acme-x", "dev").await.status, 200);
        let report = collector.run().await.published;
        assert_eq!((report.references, report.marked.objects, report.deleted.objects), (2, 1, 0), "{report:?}");
        let report = collector.run().await;
        assert_eq!((report.published.deleted.objects, report.fetched.zips.objects), (1, 0), "{report:?}");
        assert_eq!(names().await, [""; 0]);
    }
    mirrors.assert_served("1.0.0", &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_published_zips_waits_for_the_grace_before_it_marks_and_before_it_deletes() {
    let mirrors = Mirrors::scripted().await;
    let node = mirrors.node().await;
    let collector = Collector::of(&mirrors.bucket);
    node.publish("acme-x", "1.0.0").await;
    node.delete("acme-x", "1.0.0").await;
    assert_eq!(collector.run().await.published.young.objects, 1, "its record may be on its way");
    mirrors.advance(DAY + HOUR);
    assert_eq!(collector.show().await.published.marked.objects, 1);
    assert_eq!(mirrors.bucket.names("gc"), [""; 0], "a dry run");
    assert_eq!(collector.run().await.published.marked.objects, 1);
    mirrors.advance(DAY - HOUR);
    assert_eq!(collector.run().await.published.waiting.objects, 1);
    assert_eq!(mirrors.blobs().len(), 1);
    mirrors.advance(2 * HOUR);
    assert_eq!(collector.run().await.published.deleted.objects, 1);
    assert_eq!((mirrors.blobs().len(), mirrors.bucket.names("gc").len()), (0, 1), "the mark stays");
    assert_eq!(node.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await.status, 409, "the tombstone, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earlier_zips_of_a_moving_version_stay_as_long_as_its_record_names_them() {
    let mirrors = Mirrors::scripted().await;
    let node = mirrors.node().await;
    let collector = Collector::of(&mirrors.bucket);
    let zips = ["a", "b", "c"].map(dev);
    for zip in &zips {
        assert_eq!(node.put("acme-x", "dev", zip.clone()).await.status, 201);
    }
    for _ in 0..3 {
        mirrors.advance(2 * DAY);
        let report = collector.run().await.published;
        assert_eq!((report.references, report.zips.objects, report.marked.objects), (1, 3, 0), "{report:?}");
    }
    // As when a hundred more were published: the record has forgotten the first one.
    let name = "hosted/releases/acme-x/dev.json";
    let record = mirrors.bucket.object(name).expect("a record");
    let mut record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    record["previous"].as_array_mut().expect("earlier zips").remove(0);
    mirrors.bucket.overwrite(name, record.to_string());
    collector.run().await;
    mirrors.advance(DAY + HOUR);
    assert_eq!(collector.run().await.published.deleted.objects, 1);
    let mut left = [object(&zips[1]), object(&zips[2])];
    left.sort_unstable();
    assert_eq!(mirrors.blobs(), left);
    node.delete("acme-x", "dev").await;
    collector.run().await;
    mirrors.advance(DAY + HOUR);
    assert_eq!(collector.run().await.published.deleted.objects, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_written_before_the_mark_keeps_its_zip_and_lost_bytes_are_published_again_under_its_name() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let collector = mirrors.orphan(&zip);
    let node = mirrors.node().await;
    // The collector has read all records, and the mark of the zip, which is none.
    let gate = mirrors.bucket.gate(Method::PUT, "gc/hosted/");
    let publishing = async {
        gate.reached().await;
        node.publish("acme-x", "1.0.0").await;
        gate.open();
    };
    let (report, ()) = join(collector.run(), publishing).await;
    assert_eq!((report.published.references, report.published.marked.objects), (0, 1), "{report:?}");
    mirrors.advance(DAY + HOUR);
    let report = collector.run().await.published;
    assert_eq!((report.references, report.deleted.objects), (1, 0), "the record counts: {report:?}");
    mirrors.assert_served("1.0.0", &zip).await;
    mirrors.bucket.overwrite(&object(&zip), "PK");
    assert_eq!(node.put("acme-x", "1.0.0", zip.clone()).await.status, 200);
    assert_eq!(mirrors.blobs(), [object(&zip)]);
    mirrors.assert_served("1.0.0", &zip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_arrives_late_meets_no_record() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let collector = mirrors.orphan(&zip);
    let node = mirrors.node().await;
    collector.run().await;
    mirrors.advance(DAY + HOUR);
    let gate = mirrors.bucket.gate(Method::DELETE, "hosted/blobs/");
    let second = format!("{}.1", object(&zip));
    let publishing = async {
        gate.reached().await;
        node.publish("acme-x", "1.0.0").await;
        assert_eq!(mirrors.blobs(), [object(&zip), second.clone()]);
        gate.open();
    };
    let (report, ()) = join(collector.run(), publishing).await;
    assert_eq!(report.published.deleted.objects, 1);
    assert_eq!((mirrors.blobs(), mirrors.named("1.0.0")), (vec![second.clone()], vec![second.clone()]));
    mirrors.assert_served("1.0.0", &zip).await;
    // Lost bytes are written again where the record has them.
    mirrors.bucket.overwrite(&second, "PK");
    assert_eq!(node.put("acme-x", "1.0.0", zip.clone()).await.status, 200);
    assert_eq!(mirrors.blobs(), [second]);
    mirrors.assert_served("1.0.0", &zip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_takes_longer_than_half_of_the_grace_looks_again_and_finds_the_mark() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let first = object(&zip);
    let collector = mirrors.orphan(&zip);
    // What is there is no whole zip, so it is uploaded again.
    mirrors.bucket.overwrite(&first, "PK");
    mirrors.advance(2 * DAY);
    let node = mirrors.node().await;
    let gate = mirrors.bucket.gate(Method::PUT, &first);
    let publishing = async {
        gate.reached().await;
        // It has found no mark, and sends the bytes for more than a day.
        assert_eq!(collector.run().await.published.marked.objects, 1);
        mirrors.advance(DAY + HOUR);
        assert_eq!(collector.run().await.published.deleted.objects, 1);
        node.mirror.clock.advance(HOUR);
        gate.open();
    };
    join(node.publish("acme-x", "1.0.0"), publishing).await;
    let second = format!("{first}.1");
    assert_eq!(mirrors.named("1.0.0")[0], second);
    mirrors.advance(2 * DAY);
    let report = collector.run().await.published;
    assert_eq!((report.references, report.deleted.objects), (1, 1), "no record names the first one: {report:?}");
    assert_eq!(mirrors.blobs(), [second]);
    mirrors.assert_served("1.0.0", &zip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_whose_node_was_killed_before_its_record_is_collected_and_can_be_published_again() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let cache = mirrors.accounts.cache();
    let store = tempfile::tempdir().expect("a directory");
    let launch = launch(&mirrors.forge, &mirrors.bucket, cache.path(), store.path());
    let process = launch.clone().start().await;
    let url = format!("http://{}/acme-x/zipball/1.0.0", process.address);
    let gate = mirrors.bucket.gate(Method::PUT, "hosted/releases/");
    let running = process.client.put(url).bearer_auth(&mirrors.accounts.ci).body(zip.clone()).send();
    let running = tokio::spawn(running);
    gate.reached().await;
    process.kill().await;
    assert!(running.await.expect("no panic").is_err(), "no answer");
    assert_eq!((mirrors.blobs(), mirrors.bucket.names("hosted/releases/").len()), (vec![object(&zip)], 0));
    mirrors.collect_marked().await;
    assert_eq!(mirrors.blobs(), [""; 0]);
    gate.open();
    let node = mirrors.node().await;
    node.publish("acme-x", "1.0.0").await;
    assert_eq!(mirrors.named("1.0.0"), [format!("{}.1", object(&zip))]);
    mirrors.assert_served("1.0.0", &zip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_before_there_was_a_bucket_is_uploaded_under_names_without_marks() {
    let mirrors = Mirrors::scripted().await;
    let (zips, directories) = mirrors.published_alone().await;
    zips.iter().for_each(|zip| mirrors.bucket.overwrite(&object(zip), zip.clone()));
    mirrors.collect_marked().await;
    assert_eq!(mirrors.blobs(), [""; 0]);
    let node = mirrors.node_in(directories).await;
    eventually("uploaded", async || mirrors.bucket.names("hosted/releases/").len() == 1).await;
    let names = [&zips[1], &zips[0]].map(|zip| format!("{}.1", object(zip)));
    assert_eq!(mirrors.named("dev"), names);
    mirrors.assert_served("dev", &zips[1]).await;
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn zips_that_a_node_alone_has_and_sends_slowly_are_looked_for_again_before_their_record() {
    let mirrors = Mirrors::scripted().await;
    let (zips, directories) = mirrors.published_alone().await;
    // The present zip is sent first.
    let gate = mirrors.bucket.gate(Method::PUT, &object(&zips[0]));
    let node = mirrors.node_in(directories).await;
    gate.reached().await;
    mirrors.collect_marked().await;
    assert_eq!(mirrors.blobs(), [""; 0], "no record names it yet");
    node.mirror.clock.advance(HOUR);
    gate.open();
    eventually("uploaded", async || mirrors.bucket.names("hosted/releases/").len() == 1).await;
    assert_eq!(mirrors.named("dev"), [format!("{}.1", object(&zips[1])), object(&zips[0])]);
    mirrors.assert_served("dev", &zips[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_fetched_and_published_have_a_mark_for_each() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let fetched = object(&zip).replacen("hosted/", "", 1);
    mirrors.bucket.overwrite(&fetched, zip.clone());
    let node = mirrors.node().await;
    node.publish("acme-x", "1.0.0").await;
    let collector = Collector::of(&mirrors.bucket);
    for _ in 0..3 {
        mirrors.advance(2 * DAY);
        collector.run().await;
    }
    assert_eq!((mirrors.bucket.names("blobs"), mirrors.blobs()), (vec![], vec![object(&zip)]));
    assert_eq!(mirrors.bucket.names("gc"), [format!("gc/{}", sha(&zip))]);
    node.delete("acme-x", "1.0.0").await;
    mirrors.bucket.overwrite(&format!("{fetched}.1"), zip.clone());
    assert_eq!(collector.run().await.published.marked.objects, 1);
    let mut marks = [format!("gc/{}", sha(&zip)), format!("gc/hosted/{}", sha(&zip))];
    marks.sort_unstable();
    assert_eq!(mirrors.bucket.names("gc"), marks);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_record_cannot_be_read_no_published_zip_is_marked_or_deleted_and_it_is_named() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let collector = mirrors.orphan(&zip);
    let node = mirrors.node().await;
    node.publish("acme-y", "1.0.0").await;
    collector.run().await;
    mirrors.advance(DAY + HOUR);
    let good = String::from_utf8(mirrors.bucket.object("hosted/releases/acme-y/1.0.0.json").expect("it").into());
    let good = good.expect("text");
    let other_folder = good.replace("\"blob\":\"hosted/blobs/", "\"blob\":\"blobs/");
    let bad = "hosted/releases/acme-z/1.0.0.json";
    mirrors.bucket.overwrite("blobs/ab/not-published", "PK");
    let orphan = "ab".repeat(32);
    mirrors.bucket.overwrite(&format!("blobs/ab/{orphan}"), "PK");
    mirrors.advance(2 * DAY);
    // The last two are whole records: one of another version, one whose zip is elsewhere.
    for unreadable in ["", "{}", &good, &other_folder.replace("acme-y", "acme-z")] {
        mirrors.bucket.overwrite(bad, unreadable.to_owned());
        let report = collector.run().await;
        assert_eq!(report.published.unreadable_references, [bad], "{unreadable}");
        assert_eq!((report.published.deleted.objects, mirrors.blobs().len()), (0, 2));
        assert_eq!(report.fetched.marked.objects + report.fetched.waiting.objects, 1, "the others are collected");
    }
    let run = async || {
        let launch = Launch::bare(&["shared", "gc", "--delete"]);
        mirrors.bucket.configure(launch).run().await
    };
    let ended = run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains(&format!("unreadable  {bad}\n")), "{ended:?}");
    assert!(ended.out.contains("\nno published zip was marked or deleted: a record"), "{ended:?}");
    mirrors.bucket.overwrite(bad, good.replace("acme-y", "acme-z"));
    mirrors.bucket.fault(Method::GET, "hosted/releases/acme-y", BucketFault::Status(503));
    assert!(collector.try_run().await.is_err(), "nor while the bucket fails");
    assert_eq!(mirrors.blobs().len(), 2);
    mirrors.bucket.script().clear_faults();
    mirrors.bucket.overwrite("claims/a.json", "?");
    let ended = run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let sums = "\n2 records of published versions, 2 zips (";
    assert!(ended.out.contains(sums) && ended.out.contains("\npublished, deleted: 1 zips ("), "{ended:?}");
    assert_eq!(mirrors.blobs().len(), 1, "a claim that cannot be read says nothing of published zips");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_a_published_zip_that_cannot_be_read_leaves_it_alone_and_refuses_its_publication() {
    let mirrors = Mirrors::scripted().await;
    let zip = component("acme-x", "1.0.0");
    let collector = mirrors.orphan(&zip);
    let node = mirrors.node().await;
    let mark = format!("gc/hosted/{}", sha(&zip));
    mirrors.bucket.overwrite(&mark, "{}");
    mirrors.advance(2 * DAY);
    let report = collector.run().await.published;
    assert_eq!(report.unreadable_marks[0], mark);
    assert_eq!(mirrors.blobs().len(), 1);
    let refused = node.put("acme-x", "1.0.0", zip.clone()).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    mirrors.bucket.overwrite(&mark, json!({"digest": sha(&zip), "generation": 7}).to_string());
    eventually("published", async || node.put("acme-x", "1.0.0", zip.clone()).await.status == 201).await;
    assert_eq!(mirrors.named("1.0.0"), [format!("{}.8", object(&zip))]);
}
