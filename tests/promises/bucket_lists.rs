//! Lists of the bucket's objects, over a scripted bucket and over a real one.

use std::{sync::Arc, time::Duration};

use http::Method;
use srm_mirror::shared::{Bucket, BucketError, ListedObject, StateWrite};

use crate::bucket::{BucketFault, TestBucket};

fn open(bucket: &TestBucket) -> Arc<Bucket> {
    Arc::new(Bucket::new(&bucket.section(), Vec::new()).expect("a client"))
}

/// Writes a state of each kind.
async fn write(bucket: &Bucket, kinds: &[&'static str]) {
    for kind in kinds {
        let read = bucket.read_state::<String>(kind).await.expect("read");
        assert_eq!(bucket.write_state(kind, &(*kind).to_owned(), read).await.expect("written"), StateWrite::Written);
    }
}

/// All objects below a folder, page by page, and the number of pages.
async fn list(bucket: &Bucket, folder: &str) -> Result<(Vec<ListedObject>, usize), BucketError> {
    let mut objects: Vec<ListedObject> = Vec::new();
    let mut pages = 0;
    loop {
        let page = bucket.list(folder, objects.last().map(|object| object.name.as_str())).await?;
        objects.extend(page.objects);
        pages += 1;
        if page.is_last {
            return Ok((objects, pages));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_the_objects_of_a_folder_and_no_others_in_order() {
    let bucket = TestBucket::start().await;
    let client = open(&bucket);
    assert_eq!(list(&client, "state/").await.expect("a list").0, []);
    write(&client, &["b", "a", "c d+e%2F=ä&<"]).await;
    let page = client.list("state/", None).await.expect("a page");
    let names: Vec<_> = page.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["state/a.json", "state/b.json", "state/c d+e%2F=ä&<.json"]);
    assert_eq!((page.objects[0].len, page.is_last), (3, true));
    let age = page.answered_at.expect("a time").duration_since(page.objects[0].modified_at);
    assert!(age.as_secs().abs() < 60, "{age}");
    let rest = client.list("state/", Some("state/a.json")).await.expect("a page");
    assert_eq!(rest.objects, page.objects[1..]);
    assert_eq!(list(&client, "stat/").await.expect("a list").0, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_has_each_object_once() {
    let bucket = TestBucket::scripted().await;
    bucket.script().set_page_objects(2);
    let client = open(&bucket);
    write(&client, &["a", "b", "c", "d", "e"]).await;
    let listed = list(&client, "state/").await.expect("a list");
    let names: Vec<_> = listed.0.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["state/a.json", "state/b.json", "state/c.json", "state/d.json", "state/e.json"]);
    assert_eq!(listed.1, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_waits_for_a_bounded_time_and_its_connection_is_tried_again() {
    let bucket = TestBucket::scripted().await;
    let client = open(&bucket);
    bucket.fault_times(1, Method::GET, "state", BucketFault::Hang);
    assert_eq!(client.list("state/", None).await.expect_err("no answer"), BucketError::TimedOut);
    bucket.fault_times(1, Method::GET, "state", BucketFault::LostAnswer);
    assert!(client.list("state/", None).await.expect("the second request").is_last);
    bucket.fault_times(1, Method::GET, "state", BucketFault::Status(503));
    assert_eq!(client.list("state/", None).await.expect_err("refused"), BucketError::Status(503));
    let requests = client.status().requests;
    let figures = requests.iter().find(|counts| counts.operation.name() == "list").expect("figures");
    assert_eq!((figures.succeeded, figures.failed), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scripted_list_can_be_old_and_its_clock_advanced() {
    let bucket = TestBucket::scripted().await;
    let client = open(&bucket);
    write(&client, &["a"]).await;
    bucket.script().freeze_lists();
    bucket.script().clock().advance(Duration::from_secs(3600));
    write(&client, &["b"]).await;
    assert_eq!(list(&client, "state/").await.expect("a list").0.len(), 1);
    bucket.script().thaw_lists();
    let objects = list(&client, "state/").await.expect("a list").0;
    let between = objects[1].modified_at.duration_since(objects[0].modified_at);
    assert!(between.as_secs() >= 3600, "{between}");
}
