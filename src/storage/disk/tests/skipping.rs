use std::os::unix::fs::symlink;

use super::{documents::document, *};

/// Puts a file in place that opening fails for with an error of the system (ELOOP), also for root; returns its content.
fn make_unreadable(path: &Path) -> Vec<u8> {
    let content = fs::read(path).expect("there");
    fs::remove_file(path).expect("there");
    symlink(path, path).expect("linked");
    content
}

fn make_readable(path: &Path, content: Vec<u8>) {
    fs::remove_file(path).expect("there");
    fs::write(path, content).expect("written");
}

#[tokio::test]
async fn a_start_leaves_what_the_disk_cannot_read_serves_the_rest_and_says_so() {
    let rig = rig(64);
    for (name, seed) in [("a", 1), ("b", 2)] {
        store(&rig.disk, name, &body(seed, 50_000)).await;
        rig.disk.documents().put(&key(name), &document(b"{}")).await.expect("stored");
    }
    let sidecar = rig.disk.layout.sidecar(&Digest::of(&body(1, 50_000)));
    let list = rig.disk.layout.document(&layout::document_id(&key("a")));
    let leftover = rig.path("spool/7");
    fs::create_dir_all(leftover.join("a folder")).expect("made");
    let contents = [make_unreadable(&sidecar), make_unreadable(&list)];
    let Rig { dir, disk } = rig;
    drop(disk);
    fs::remove_file(dir.path().join("index.redb")).expect("there");

    let disk = Disk::open(&config(64), dir.path()).expect("starts");
    let reasons = disk.degraded();
    assert!(reasons.len() == 1 && reasons[0].ends_with(": 3") && disk.is_writable(), "{reasons:?}");
    assert!(get(&disk, "a").await.is_none());
    assert_eq!(bytes_of(&get(&disk, "b").await.expect("stored")).await, body(2, 50_000));
    assert!(disk.documents().get(&key("b")).await.expect("works").is_some());
    for n in 3..20 {
        store(&disk, "c", &body(n, 5000)).await;
    }
    drop(disk);

    let [old_sidecar, old_list] = contents;
    make_readable(&sidecar, old_sidecar);
    make_readable(&list, old_list);
    fs::remove_dir_all(leftover).expect("there");
    let rig = Rig { disk: Disk::open(&config(64), dir.path()).expect("starts"), dir };
    assert_eq!(rig.disk.degraded(), [] as [String; 0]);
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("still there")).await, body(1, 50_000));
    assert!(rig.disk.documents().get(&key("a")).await.expect("works").is_some());
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_document_that_cannot_be_removed_does_not_stop_the_trimming_of_the_others() {
    let rig = rig(64);
    let long: &'static str = "x".repeat(300_000).leak();
    for name in ["a", "b", "c"] {
        rig.disk.documents().put(&key(name), &document(long.as_bytes())).await.expect("stored");
    }
    // A folder in place of the oldest file cannot be unlinked.
    let oldest = rig.disk.layout.document(&layout::document_id(&key("a")));
    fs::remove_file(&oldest).expect("there");
    fs::create_dir(&oldest).expect("made");
    rig.disk.documents().put(&key("d"), &document(long.as_bytes())).await.expect("stored");
    let keys = rig.disk.documents().keys().await.expect("works");
    assert!(!keys.contains(&key("b")) && keys.contains(&key("c")) && keys.contains(&key("d")), "{keys:?}");
    assert!(rig.disk.inventory().usage().documents <= 1 << 20);
}

#[tokio::test]
async fn after_a_failed_admission_of_an_evicted_blob_the_counters_equal_the_disk() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    let digest = Digest::of(&bytes);
    drop(store(&rig.disk, "a", &bytes).await);
    store(&rig.disk, "other", &body(2, 50_000)).await;
    // Evicted, and its row is still in the index.
    let row = rig.disk.blobs.row(&digest).expect("works").expect("stored");
    rig.disk.blobs.unlink(&digest, &row).expect("unlinked");
    // A file in place of the folder: the blob cannot get its name.
    let shard = rig.disk.layout.shard(digest.0[0]);
    fs::remove_dir(&shard).expect("empty");
    fs::write(&shard, b"").expect("written");
    let spool = filled(&rig.disk, &bytes);
    assert!(rig.disk.admit(&key("a"), spool, meta(&bytes)).await.is_err());
    fs::remove_file(&shard).expect("there");
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
    rig.disk.remove(&key("a")).await.expect("nothing to remove");
    rig.disk.space.evict(1 << 30);
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (0, on_disk(&rig.disk, rig.dir.path())));
    store(&rig.disk, "a", &bytes).await;
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
}
