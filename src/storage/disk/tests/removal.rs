use std::time::Instant;

use super::*;

#[tokio::test]
async fn a_removal_of_many_keys_removes_files_rows_and_marks_and_keeps_the_other_keys() {
    let rig = rig(64);
    let shared = body(99, 9000);
    for name in ["kept", "other"] {
        store(&rig.disk, name, &shared).await;
    }
    let mut keys = Vec::new();
    for n in 0..20 {
        store(&rig.disk, &format!("p{n}"), &body(n, 5000)).await;
        keys.push(key(&format!("p{n}")));
    }
    for marked in [key("p3"), key("other")] {
        assert!(rig.disk.inventory().set_kept(&marked, true).await.expect("works"));
    }
    keys.extend([key("other"), key("never-stored")]);
    rig.disk.remove_all(keys.clone()).await.expect("removed");
    for removed in &keys {
        assert!(rig.disk.get(removed).await.expect("works").is_none(), "{removed}");
        assert!(!rig.disk.inventory().is_kept(removed).await.expect("works"), "{removed}");
    }
    assert_eq!(bytes_of(&get(&rig.disk, "kept").await.expect("still there")).await, shared);
    assert_eq!((rig.disk.usage().objects, files(&rig.path("blobs")).len()), (1, 2));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    let rig = rig.restart().await;
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_key_that_cannot_be_removed_does_not_stop_the_removal_of_the_others() {
    let rig = rig(64);
    let mut keys = Vec::new();
    for n in 0..5 {
        store(&rig.disk, &format!("p{n}"), &body(n, 5000)).await;
        keys.push(key(&format!("p{n}")));
    }
    // A folder in place of the file cannot be unlinked.
    let stuck = rig.disk.layout.sidecar(&Digest::of(&body(2, 5000)));
    fs::remove_file(&stuck).expect("there");
    fs::create_dir(&stuck).expect("made");
    assert!(rig.disk.remove_all(keys).await.is_err());
    assert_eq!(rig.disk.usage().objects, 1);
    let left = rig.disk.inventory().list(|_| true).await.expect("works");
    assert_eq!(left.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), [key("p2")]);
}

#[tokio::test]
async fn the_removal_of_many_pins_is_durable_and_leaves_the_others() {
    let rig = rig(64);
    let pin = |name: &str| Pin {
        key: key(name),
        digest: Digest([1; 32]),
        len: 10,
        first_seen: Timestamp::UNIX_EPOCH,
        verified: verified(b"1"),
    };
    for name in ["a", "b", "c"] {
        record(&rig.disk, &pin(name), PinEvent::Pin).await;
    }
    rig.disk.pins().forget_all(vec![key("a"), key("never-pinned"), key("c")]).await.expect("removed");
    let rig = rig.crash();
    assert_eq!(rig.disk.pins().keys().await.expect("works"), [key("b")]);
    assert_eq!(rig.disk.pins().get(&key("b")).await.expect("works").as_deref(), Some(&pin("b")));
}

#[tokio::test]
#[ignore = "writes 200,000 files; to be run with --ignored --nocapture"]
async fn a_hundred_thousand_archives_are_removed_in_seconds() {
    const COUNT: u32 = 100_000;
    let Rig { dir, disk } = rig(4096);
    disk.close().await.expect("closes");
    drop(disk);
    // Files as a lost index finds them: admitting each would take minutes.
    let layout = layout::Layout::new(dir.path());
    (0..=u8::MAX).for_each(|first| fs::create_dir_all(layout.shard(first)).expect("made"));
    let mut keys = Vec::new();
    for n in 0..COUNT {
        let bytes = n.to_le_bytes();
        let mut sidecar = sidecar::Sidecar::default();
        keys.push(key(&format!("p{n}")));
        sidecar.put(&keys[n as usize], meta(&bytes), false);
        let digest = Digest::of(&bytes);
        fs::write(layout.blob(&digest), bytes).expect("written");
        fs::write(layout.sidecar(&digest), sidecar.to_bytes().expect("text")).expect("written");
    }
    fs::remove_file(dir.path().join("index.redb")).expect("there");
    let disk = Disk::open(&config(4096), dir.path()).expect("opens");
    assert_eq!(disk.usage().objects, u64::from(COUNT));
    let begun = Instant::now();
    disk.remove_all(keys).await.expect("removed");
    let took = begun.elapsed();
    println!("{COUNT} archives were removed in {took:.1?}");
    assert_eq!((disk.usage().objects, files(&dir.path().join("blobs")).len()), (0, 0));
    // The target holds for a release build; a loaded machine takes longer.
    assert!(took.as_secs() < 30, "{took:?}");
}
