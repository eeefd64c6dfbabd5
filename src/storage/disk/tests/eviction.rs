use std::sync::atomic::Ordering;

use super::*;

const MIB: usize = 1 << 20;

/// How many of the names are stored, in their order.
async fn stored(disk: &Disk, names: &[&str]) -> Vec<bool> {
    let mut found = Vec::new();
    for name in names {
        found.push(disk.index.read(|txn| index::find_blob(txn, &key(name))).expect("works").is_some());
    }
    found
}

#[tokio::test]
async fn the_least_recently_used_blob_is_evicted_first() {
    let rig = rig(23);
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        store(&rig.disk, name, &body(seed, 6 * MIB)).await;
    }
    get(&rig.disk, "a").await.expect("there");
    let rig = rig.restart().await;
    store(&rig.disk, "d", &body(4, 6 * MIB)).await;
    assert_eq!(stored(&rig.disk, &["a", "b", "c", "d"]).await, [true, false, true, true]);
    get(&rig.disk, "c").await.expect("there");
    store(&rig.disk, "e", &body(5, 6 * MIB)).await;
    assert_eq!(stored(&rig.disk, &["a", "b", "c", "d", "e"]).await, [false, false, true, true, true]);
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_read_blob_is_never_evicted_because_that_would_free_nothing() {
    let rig = rig(15);
    let read = store(&rig.disk, "read", &body(1, 6 * MIB)).await;
    drop(store(&rig.disk, "idle", &body(2, 4 * MIB)).await);
    drop(store(&rig.disk, "new", &body(3, 3 * MIB)).await);
    assert_eq!(
        stored(&rig.disk, &["read", "idle"]).await,
        [true, false],
        "the idle blob is evicted although it was used later"
    );
    assert!(matches!(rig.disk.spool(Some(12 << 20)), Err(SpoolError::NoSpace)), "with the read one it would fit");
    assert_eq!(stored(&rig.disk, &["read", "new"]).await, [true, true], "and so nothing is evicted");
    assert_eq!(bytes_of(&read).await, body(1, 6 * MIB));
    drop(read);
    let mut spool = rig.disk.spool(Some(12 << 20)).expect("room, once it is not read");
    let chunk = body(4, MIB);
    (0..12).for_each(|_| spool.append(&[&chunk]).expect("room"));
    assert!(get(&rig.disk, "read").await.is_none());
}

#[tokio::test]
async fn an_announced_length_evicts_nothing_before_its_bytes_arrive() {
    let rig = rig(16);
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c")] {
        drop(store(&rig.disk, name, &body(seed, 4 * MIB)).await);
    }
    let mut spool = rig.disk.spool(Some(12 << 20)).expect("may fit");
    spool.append(&[&body(4, 135)]).expect("written");
    assert_eq!(stored(&rig.disk, &["a", "b", "c"]).await, [true, true, true]);
}

#[tokio::test]
async fn a_body_of_unknown_length_evicts_at_most_its_share() {
    let rig = rig(32);
    for (seed, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f")] {
        drop(store(&rig.disk, name, &body(seed, 4 * MIB)).await);
    }
    let mut spool = rig.disk.spool(None).expect("space");
    let chunk = body(7, MIB);
    let full = (0..64).find_map(|_| spool.append(&[&chunk]).err()).expect("full");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    // A quarter of 32 MiB is two of these blobs; what was free before came first.
    let left = stored(&rig.disk, &["a", "b", "c", "d", "e", "f"]).await.into_iter().filter(|stored| *stored).count();
    assert!(left >= 4, "{left} of 6 are left");
    assert!(spool.len() >= 8 << 20, "{} bytes", spool.len());
}

#[tokio::test]
async fn a_request_that_eviction_cannot_satisfy_evicts_nothing() {
    let rig = rig(16);
    store(&rig.disk, "a", &body(1, 3 * MIB)).await;
    assert!(matches!(rig.disk.spool(Some(1 << 30)), Err(SpoolError::NoSpace)));
    let mut spool = rig.disk.spool(None).expect("space");
    let chunk = body(2, MIB);
    let full = (0..64).find_map(|_| spool.append(&[&chunk]).err()).expect("full");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert!(rig.disk.usage().bytes <= rig.disk.usage().limit);
    drop(spool);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn quarantined_files_are_evicted_first() {
    let rig = rig(16);
    store(&rig.disk, "a", &body(1, 6 * MIB)).await;
    store(&rig.disk, "b", &body(2, 3 * MIB)).await;
    let digest = Digest::of(&body(1, 6 * MIB));
    rig.disk.repair.quarantine(&digest, "damaged by a test", || Ok(true)).expect("quarantined");
    assert_eq!(files(&rig.path("quarantine")).len(), 1);
    store(&rig.disk, "c", &body(3, 6 * MIB)).await;
    assert_eq!(files(&rig.path("quarantine")), [] as [PathBuf; 0]);
    assert_eq!(stored(&rig.disk, &["b", "c"]).await, [true, true]);
}

#[tokio::test]
async fn documents_are_not_evicted_by_archives() {
    let rig = rig(8);
    let document = super::documents::document(&body(1, 300_000));
    rig.disk.documents().put(&key("list"), &document).await.expect("stored");
    for seed in 1..8 {
        store(&rig.disk, &seed.to_string(), &body(seed, 2 * MIB)).await;
    }
    assert_eq!(rig.disk.documents().get(&key("list")).await.expect("works"), Some(document));
    assert!(rig.disk.usage().objects < 7);
}

#[tokio::test]
async fn a_lowered_limit_holds_after_the_start() {
    let rig = rig(64);
    for seed in 1..8 {
        store(&rig.disk, &seed.to_string(), &body(seed, 2 * MIB)).await;
    }
    rig.disk.close().await.expect("closes");
    let Rig { dir, disk } = rig;
    drop(disk);
    let disk = Disk::open(&config(10), dir.path()).expect("opens");
    assert!(disk.usage().bytes <= 10 << 20 && disk.usage().objects >= 2, "{:?}", disk.usage());
    assert!(get(&disk, "7").await.is_some());
}

#[tokio::test]
async fn the_next_start_repairs_a_kill_between_unlinking_and_the_index_write() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 50_000)).await;
    store(&rig.disk, "b", &body(2, 50_000)).await;
    let layout = &rig.disk.layout;
    let digest = Digest::of(&body(1, 50_000));
    fs::remove_file(layout.blob(&digest)).expect("there");
    let rig = rig.crash();
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
    assert!(get(&rig.disk, "a").await.is_none());
    assert!(get(&rig.disk, "b").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_users_stay_within_the_limit_and_every_byte_is_counted() {
    let rig = rig(12);
    let tasks = (0..8_u64).map(|task| {
        let disk = Arc::clone(&rig.disk);
        tokio::spawn(async move {
            for round in 0..30 {
                let seed = (task * 7 + round * 3) % 11;
                let name = (seed % 6).to_string();
                let bytes = body(seed, 200_000 + 150_000 * usize::try_from(seed).expect("small"));
                if let Some(object) = get(&disk, &name).await {
                    assert_eq!(Digest::of(&bytes_of(&object).await), object.meta.digest);
                }
                let spooled = tokio::task::block_in_place(|| {
                    let mut spool = disk.spool((round % 2 == 0).then_some(bytes.len() as u64))?;
                    spool.append(&[&bytes]).map(|()| spool).map_err(SpoolError::from)
                });
                if let Ok(spool) = spooled {
                    drop(disk.admit(&key(&name), spool, meta(&bytes)).await);
                }
                if round % 5 == task % 5 {
                    disk.remove(&key(&name)).await.expect("removed");
                }
                let usage = disk.usage();
                assert!(usage.bytes <= usage.limit, "{usage:?}");
            }
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.expect("no panic");
    }
    let check = |rig: &Rig| {
        assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
        assert_eq!(files(&rig.path("blobs")).len() as u64, 2 * rig.disk.usage().objects);
        assert_eq!(files(&rig.path("spool")), [] as [PathBuf; 0]);
    };
    check(&rig);
    check(&rig.restart().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_row_of_unlinked_files_never_looks_like_one_of_stored_files() {
    let rig = rig(12);
    let bytes = body(1, 5000);
    let digest = Digest::of(&bytes);
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watch = || {
        let disk = Arc::clone(&rig.disk);
        let ended = Arc::clone(&ended);
        crate::blocking::spawn_blocking(move || {
            while !ended.load(Ordering::SeqCst) {
                let lock = disk.blobs.lock(&digest);
                let has_row = disk.blobs.row(&digest).expect("works").is_some();
                let has_file = disk.layout.blob(&digest).exists();
                drop(lock);
                assert!(has_file || !has_row, "its bytes would be released twice");
                std::thread::yield_now();
            }
        })
    };
    let watchers = [watch(), watch()];
    for _ in 0..100 {
        drop(store(&rig.disk, "a", &bytes).await);
        let disk = Arc::clone(&rig.disk);
        // Eviction skips the blob while a watcher holds its lock.
        crate::blocking::spawn_blocking(move || while disk.space.evict(1) == 0 {}).await.expect("evicted");
    }
    ended.store(true, Ordering::SeqCst);
    for watcher in watchers {
        watcher.await.expect("no such row");
    }
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (0, on_disk(&rig.disk, rig.dir.path())));
}
