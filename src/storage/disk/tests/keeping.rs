use super::*;

const MIB: usize = 1 << 20;

/// The stored keys and whether each is kept.
async fn kept(disk: &Disk) -> Vec<(String, bool)> {
    let all = disk.inventory(|_| true).await.expect("works");
    let mut all: Vec<_> = all.into_iter().map(|stored| (stored.key.as_str().to_owned(), stored.kept)).collect();
    all.sort();
    all
}

fn marks(marks: &[(&str, bool)]) -> Vec<(String, bool)> {
    marks.iter().map(|(name, kept)| (key(name).as_str().to_owned(), *kept)).collect()
}

/// A tier over the directory as it was when the index was last read into `index`.
fn killed(rig: &Rig, index: &[u8]) -> Rig {
    let dir = killed_copy(rig.dir.path());
    fs::write(dir.path().join("index.redb"), index).expect("written");
    let disk = Disk::open(&config(64), dir.path()).expect("needs no repair by hand");
    Rig { dir, disk }
}

#[tokio::test]
async fn a_mark_that_waits_for_what_is_not_stored_can_be_taken_away() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 5000)).await;
    assert!(rig.disk.keep(&key("a"), true).await.expect("kept"));
    assert!(rig.disk.waiting().await.expect("read").is_empty());
    rig.disk.store.set_aside(&Digest::of(&body(1, 5000)), "a test says so", || true).expect("set aside");
    assert_eq!(rig.disk.waiting().await.expect("read"), [key("a")]);
    assert!(!rig.disk.keep(&key("a"), false).await.expect("done"), "nothing is stored");
    store(&rig.disk, "a", &body(1, 5000)).await;
    assert_eq!(kept(&rig.disk).await, marks(&[("a", false)]));
}

#[tokio::test]
async fn what_is_kept_is_kept_again_when_it_comes_back_after_it_was_damaged() {
    for (lost, bytes) in [(false, 1), (true, 1), (false, 2)] {
        for clean in [None, Some(true), Some(false)] {
            let mut rig = rig(64);
            store(&rig.disk, "a", &body(1, 5000)).await;
            assert!(rig.disk.keep(&key("a"), true).await.expect("kept"));
            // Another key of the same bytes, which nobody keeps.
            store(&rig.disk, "b", &body(1, 5000)).await;
            let digest = Digest::of(&body(1, 5000));
            if lost {
                fs::remove_file(rig.disk.store.layout.blob(&digest)).expect("there");
            } else {
                rig.disk.store.set_aside(&digest, "a test says so", || true).expect("set aside");
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
            assert_eq!(kept(&rig.disk).await, marks(&[("a", true), ("b", false)]), "{lost} {bytes} {clean:?}");
            let rig = rig.restart().await;
            assert_eq!(kept(&rig.disk).await, marks(&[("a", true), ("b", false)]), "{lost} {bytes} {clean:?}");
        }
    }
}

#[tokio::test]
async fn a_kept_key_is_kept_in_its_new_packing_until_it_is_unkept_or_removed() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 5000)).await;
    rig.disk.keep(&key("a"), true).await.expect("kept");
    store(&rig.disk, "a", &body(2, 5000)).await;
    assert_eq!(kept(&rig.disk).await, marks(&[("a", true)]));
    rig.disk.keep(&key("a"), false).await.expect("not kept");
    store(&rig.disk, "a", &body(3, 5000)).await;
    assert_eq!(kept(&rig.disk).await, marks(&[("a", false)]));
    rig.disk.keep(&key("a"), true).await.expect("kept");
    rig.disk.remove(&key("a")).await.expect("removed");
    store(&rig.disk, "a", &body(3, 5000)).await;
    assert_eq!(kept(&rig.disk).await, marks(&[("a", false)]));
    assert_eq!(files(&rig.path("blobs")).len(), 2);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn what_is_kept_makes_no_room_and_so_nothing_else_goes_for_it_in_vain() {
    let rig = rig(16);
    store(&rig.disk, "kept", &body(1, 6 * MIB)).await;
    rig.disk.keep(&key("kept"), true).await.expect("kept");
    store(&rig.disk, "idle", &body(2, 3 * MIB)).await;
    for round in 0..2 {
        // With all that is not kept gone, there would be some ten.
        assert!(matches!(rig.disk.spool(Some(12 << 20)), Err(SpoolError::NoSpace)));
        assert!(get(&rig.disk, "idle").await.is_some(), "evicted for nothing, round {round}");
        assert!(get(&rig.disk, "kept").await.is_some());
    }
    let rig = rig.restart().await;
    assert!(matches!(rig.disk.spool(Some(12 << 20)), Err(SpoolError::NoSpace)));
    assert!(get(&rig.disk, "idle").await.is_some(), "what is kept was forgotten by the restart");
    rig.disk.keep(&key("kept"), false).await.expect("not kept");
    rig.disk.spool(Some(12 << 20)).expect("room");
}

#[tokio::test]
async fn a_kill_between_a_sidecar_and_its_row_costs_no_good_file() {
    let rig = rig(64);
    for name in ["a", "b"] {
        store(&rig.disk, name, &body(1, 5000)).await;
    }
    let before = fs::read(rig.path("index.redb")).expect("there");
    rig.disk.remove(&key("a")).await.expect("removed");
    let rig = killed(&rig, &before);
    for _ in 0..3 {
        rig.disk.store.scrub_next().expect("works");
    }
    assert_eq!(files(&rig.path("quarantine")), [] as [PathBuf; 0], "a good file was set aside");
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!(bytes_of(&get(&rig.disk, "b").await.expect("there")).await, body(1, 5000));
    assert_eq!(kept(&rig.disk).await, marks(&[("b", false)]));
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
}

#[tokio::test]
async fn a_sidecar_that_a_kill_has_left_newer_takes_no_key_back() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 5000)).await;
    let before = fs::read(rig.path("index.redb")).expect("there");
    store(&rig.disk, "c", &body(1, 5000)).await;
    let rig = killed(&rig, &before);
    assert!(get(&rig.disk, "c").await.is_none());
    store(&rig.disk, "c", &body(2, 5000)).await;
    let look = || (0..3).for_each(|_| rig.disk.store.scrub_next().expect("works"));
    look();
    assert_eq!(bytes_of(&get(&rig.disk, "c").await.expect("there")).await, body(2, 5000));
    // Nor does a mark on another key of those bytes.
    rig.disk.keep(&key("a"), true).await.expect("kept");
    assert_eq!(bytes_of(&get(&rig.disk, "c").await.expect("there")).await, body(2, 5000));
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("there")).await, body(1, 5000));
    assert_eq!(kept(&rig.disk).await, marks(&[("a", true), ("c", false)]));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_mark_that_a_kill_has_left_half_written_is_written_by_the_next_try() {
    for kept_before in [false, true] {
        let rig = rig(64);
        store(&rig.disk, "a", &body(1, 5000)).await;
        rig.disk.keep(&key("a"), kept_before).await.expect("works");
        let before = fs::read(rig.path("index.redb")).expect("there");
        rig.disk.keep(&key("a"), !kept_before).await.expect("works");
        let rig = killed(&rig, &before);
        rig.disk.keep(&key("a"), !kept_before).await.expect("works");
        assert_eq!(kept(&rig.disk).await, marks(&[("a", !kept_before)]));
        let rig = rig.restart().await;
        assert_eq!(kept(&rig.disk).await, marks(&[("a", !kept_before)]));
        assert_eq!(lock(&rig.disk.store.kept).len(), usize::from(!kept_before));
    }
}
