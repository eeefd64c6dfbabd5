use super::*;

const MIB: usize = 1 << 20;

/// A stored key and its keep mark.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    key: Key,
    kept: bool,
}

/// All stored keys with their marks, in order of keys.
async fn stored_marks(disk: &Disk) -> Vec<Mark> {
    let entries = disk.inventory().list(|_| true).await.expect("works");
    let mut marks: Vec<_> = entries.into_iter().map(|InventoryEntry { key, kept, .. }| Mark { key, kept }).collect();
    marks.sort();
    marks
}

fn marks(marks: &[(&str, bool)]) -> Vec<Mark> {
    marks.iter().map(|(name, kept)| Mark { key: key(name), kept: *kept }).collect()
}

/// The tier after a kill that lost the index writes since `index` was read.
fn killed(rig: &Rig, index: &[u8]) -> Rig {
    let dir = killed_copy(rig.dir.path());
    fs::write(dir.path().join("index.redb"), index).expect("written");
    let disk = Disk::open(&config(64), dir.path()).expect("needs no repair by hand");
    Rig { dir, disk }
}

#[tokio::test]
async fn the_keep_mark_of_a_missing_archive_can_be_cleared() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 5000)).await;
    assert!(rig.disk.inventory().set_kept(&key("a"), true).await.expect("kept"));
    assert!(rig.disk.inventory().kept_missing_keys().await.expect("read").is_empty());
    rig.disk.repair.quarantine(&Digest::of(&body(1, 5000)), "damaged by a test", || Ok(true)).expect("quarantined");
    assert_eq!(rig.disk.inventory().kept_missing_keys().await.expect("read"), [key("a")]);
    assert!(!rig.disk.inventory().set_kept(&key("a"), false).await.expect("done"), "nothing is stored");
    store(&rig.disk, "a", &body(1, 5000)).await;
    assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", false)]));
}

#[tokio::test]
async fn a_kept_archive_that_was_damaged_is_kept_again_once_it_is_stored_again() {
    for (lost, bytes) in [(false, 1), (true, 1), (false, 2)] {
        for clean in [None, Some(true), Some(false)] {
            let mut rig = rig(64);
            store(&rig.disk, "a", &body(1, 5000)).await;
            assert!(rig.disk.inventory().set_kept(&key("a"), true).await.expect("kept"));
            // Another key of the same bytes, without a mark.
            store(&rig.disk, "b", &body(1, 5000)).await;
            let digest = Digest::of(&body(1, 5000));
            if lost {
                fs::remove_file(rig.disk.layout.blob(&digest)).expect("there");
            } else {
                rig.disk.repair.quarantine(&digest, "damaged by a test", || Ok(true)).expect("quarantined");
            }
            rig = match clean {
                Some(true) => rig.restart().await,
                Some(false) => rig.crash(),
                None => rig,
            };
            assert!(get(&rig.disk, "a").await.is_none());
            for name in ["b", "a"] {
                store(&rig.disk, name, &body(bytes, 5000)).await;
            }
            assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", true), ("b", false)]), "{lost} {bytes} {clean:?}");
            let rig = rig.restart().await;
            assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", true), ("b", false)]), "{lost} {bytes} {clean:?}");
        }
    }
}

#[tokio::test]
async fn a_keep_mark_moves_to_a_new_packing_until_it_is_cleared_or_the_key_removed() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 5000)).await;
    rig.disk.inventory().set_kept(&key("a"), true).await.expect("kept");
    store(&rig.disk, "a", &body(2, 5000)).await;
    assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", true)]));
    rig.disk.inventory().set_kept(&key("a"), false).await.expect("not kept");
    store(&rig.disk, "a", &body(3, 5000)).await;
    assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", false)]));
    rig.disk.inventory().set_kept(&key("a"), true).await.expect("kept");
    rig.disk.remove(&key("a")).await.expect("removed");
    store(&rig.disk, "a", &body(3, 5000)).await;
    assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", false)]));
    assert_eq!(files(&rig.path("blobs")).len(), 2);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn kept_blobs_do_not_count_as_evictable_so_nothing_is_evicted_in_vain() {
    let rig = rig(16);
    store(&rig.disk, "kept", &body(1, 6 * MIB)).await;
    rig.disk.inventory().set_kept(&key("kept"), true).await.expect("kept");
    store(&rig.disk, "idle", &body(2, 3 * MIB)).await;
    for round in 0..2 {
        // Evicting all but the kept blob would leave about 10 MiB.
        assert!(matches!(rig.disk.spool(Some(12 << 20)), Err(SpoolError::NoSpace)));
        assert!(get(&rig.disk, "idle").await.is_some(), "evicted in vain, round {round}");
        assert!(get(&rig.disk, "kept").await.is_some());
    }
    let rig = rig.restart().await;
    assert!(matches!(rig.disk.spool(Some(12 << 20)), Err(SpoolError::NoSpace)));
    assert!(get(&rig.disk, "idle").await.is_some(), "the restart lost the keep mark");
    rig.disk.inventory().set_kept(&key("kept"), false).await.expect("not kept");
    rig.disk.spool(Some(12 << 20)).expect("room");
}

#[tokio::test]
async fn a_kill_between_a_sidecar_and_its_row_loses_no_intact_file() {
    let rig = rig(64);
    for name in ["a", "b"] {
        store(&rig.disk, name, &body(1, 5000)).await;
    }
    let before = fs::read(rig.path("index.redb")).expect("there");
    rig.disk.remove(&key("a")).await.expect("removed");
    let rig = killed(&rig, &before);
    for _ in 0..3 {
        rig.disk.scrub.check_next().expect("works");
    }
    assert_eq!(files(&rig.path("quarantine")), [] as [PathBuf; 0], "an intact file was quarantined");
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!(bytes_of(&get(&rig.disk, "b").await.expect("there")).await, body(1, 5000));
    assert_eq!(stored_marks(&rig.disk).await, marks(&[("b", false)]));
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
}

#[tokio::test]
async fn a_sidecar_that_a_kill_has_left_newer_takes_no_key_from_another_blob() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 5000)).await;
    let before = fs::read(rig.path("index.redb")).expect("there");
    store(&rig.disk, "c", &body(1, 5000)).await;
    let rig = killed(&rig, &before);
    assert!(get(&rig.disk, "c").await.is_none());
    store(&rig.disk, "c", &body(2, 5000)).await;
    let scrub = || (0..3).for_each(|_| rig.disk.scrub.check_next().expect("works"));
    scrub();
    assert_eq!(bytes_of(&get(&rig.disk, "c").await.expect("there")).await, body(2, 5000));
    // A mark on another key of those bytes takes it neither.
    rig.disk.inventory().set_kept(&key("a"), true).await.expect("kept");
    assert_eq!(bytes_of(&get(&rig.disk, "c").await.expect("there")).await, body(2, 5000));
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("there")).await, body(1, 5000));
    assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", true), ("c", false)]));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_keep_mark_that_a_kill_has_left_half_written_is_completed_by_the_next_call() {
    for kept_before in [false, true] {
        let rig = rig(64);
        store(&rig.disk, "a", &body(1, 5000)).await;
        rig.disk.inventory().set_kept(&key("a"), kept_before).await.expect("works");
        let before = fs::read(rig.path("index.redb")).expect("there");
        rig.disk.inventory().set_kept(&key("a"), !kept_before).await.expect("works");
        let rig = killed(&rig, &before);
        rig.disk.inventory().set_kept(&key("a"), !kept_before).await.expect("works");
        assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", !kept_before)]));
        let rig = rig.restart().await;
        assert_eq!(stored_marks(&rig.disk).await, marks(&[("a", !kept_before)]));
        assert_eq!(rig.disk.blobs.kept_count(), usize::from(!kept_before));
    }
}
