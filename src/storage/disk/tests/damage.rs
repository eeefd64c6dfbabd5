use std::fs::File;

use super::*;

fn blob(rig: &Rig, bytes: &[u8]) -> PathBuf {
    rig.disk.layout.blob(&Digest::of(bytes))
}

/// Stores an object, restarts, damages it, and expects that it is absent, quarantined, and can be stored again.
async fn is_repaired(damage: impl Fn(&Path)) -> Rig {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    store(&rig.disk, "a", &bytes).await;
    store(&rig.disk, "b", &body(2, 50_000)).await;
    let rig = rig.restart().await;
    damage(&blob(&rig, &bytes));
    assert!(get(&rig.disk, "a").await.is_none(), "damage was served");
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!(rig.disk.usage().objects, 1);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    assert_eq!(bytes_of(&get(&rig.disk, "b").await.expect("untouched")).await, body(2, 50_000));
    store(&rig.disk, "a", &bytes).await;
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("repaired")).await, bytes);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    rig
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[tokio::test]
async fn a_flipped_byte_is_found_at_the_first_use_after_a_start() {
    let rig = is_repaired(flip).await;
    assert_eq!(files(&rig.path("quarantine")).len(), 1);
    let rig = rig.restart().await;
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_truncated_file_is_found() {
    let cut = |path: &Path| File::options().write(true).open(path).expect("there").set_len(100).expect("cut");
    is_repaired(cut).await;
}

#[tokio::test]
async fn a_missing_file_is_found() {
    is_repaired(|path| fs::remove_file(path).expect("there")).await;
}

#[tokio::test]
async fn a_missing_or_damaged_sidecar_is_found() {
    is_repaired(|path| fs::remove_file(path.with_extension("json")).expect("there")).await;
    is_repaired(|path| fs::write(path.with_extension("json"), b"{\"entr").expect("there")).await;
}

#[tokio::test]
async fn a_file_that_is_truncated_while_open_is_found_at_the_next_use() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    let object = store(&rig.disk, "a", &bytes).await;
    File::options().write(true).open(blob(&rig, &bytes)).expect("there").set_len(100).expect("cut");
    let error = object.read(0, 50_000).await.expect_err("shrunk");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(get(&rig.disk, "a").await.is_none());
}

#[tokio::test]
async fn an_admission_of_the_same_bytes_repairs_a_damaged_unused_blob() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    store(&rig.disk, "a", &bytes).await;
    let rig = rig.restart().await;
    flip(&blob(&rig, &bytes));
    store(&rig.disk, "b", &bytes).await;
    for name in ["a", "b"] {
        assert_eq!(bytes_of(&get(&rig.disk, name).await.expect("there")).await, bytes);
    }
    assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
}

#[tokio::test]
async fn a_missing_truncated_or_garbage_index_is_rebuilt() {
    let pin = |bytes: &[u8]| Pin {
        key: key("a"),
        digest: Digest::of(bytes),
        len: bytes.len() as u64,
        first_seen: Timestamp::UNIX_EPOCH,
        verified: verified(bytes),
    };
    type Damage = fn(&Path);
    let lose: Damage = |path| fs::remove_file(path).expect("there");
    let cut: Damage = |path| File::options().write(true).open(path).expect("there").set_len(5000).expect("cut");
    let empty: Damage = |path| fs::write(path, b"").expect("written");
    let garbage: Damage = |path| fs::write(path, body(9, 200_000)).expect("written");
    for damage in [lose, cut, empty, garbage] {
        let rig = rig(64);
        let bytes = body(1, 50_000);
        store(&rig.disk, "a", &bytes).await;
        store(&rig.disk, "b", &bytes).await;
        record(&rig.disk, &pin(&bytes), PinEvent::Pin).await;
        rig.disk.close().await.expect("closes");
        damage(&rig.path("index.redb"));
        let rig = rig.crash();
        assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("adopted")).await, bytes);
        assert!(get(&rig.disk, "b").await.is_some());
        assert_eq!(rig.disk.pins().get(&key("a")).await.expect("works").as_deref(), Some(&pin(&bytes)));
        assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
    }
}

#[tokio::test]
async fn the_scrub_finds_damage_without_a_request() {
    let rig = rig(64);
    for seed in 1..=3 {
        store(&rig.disk, &seed.to_string(), &body(seed, 20_000)).await;
    }
    flip(&blob(&rig, &body(2, 20_000)));
    for _ in 0..4 {
        rig.disk.scrub.check_next().expect("works");
    }
    assert_eq!(rig.disk.usage().objects, 2);
    assert_eq!(files(&rig.path("quarantine")).len(), 1);
    assert!(get(&rig.disk, "2").await.is_none());
}

#[tokio::test]
async fn concurrent_first_uses_share_one_open_file() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(1, 50_000)).await;
    let rig = rig.restart().await;
    let all = futures_util::future::join_all((0..8).map(|_| get(&rig.disk, "a"))).await;
    let file = |object: &Option<Object>| match &object.as_ref().expect("there").content {
        ObjectContent::Disk(file) => Arc::as_ptr(file),
        ObjectContent::Memory(_) => unreachable!("the disk tier hands out files"),
    };
    assert!(all.iter().all(|object| file(object) == file(&all[0])));
}

#[tokio::test]
async fn an_index_of_another_version_is_rebuilt_without_losing_an_object_or_a_pin() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    store(&rig.disk, "a", &bytes).await;
    let pin = Pin {
        key: key("a"),
        digest: Digest::of(&bytes),
        len: 50_000,
        first_seen: Timestamp::UNIX_EPOCH,
        verified: verified(&bytes),
    };
    record(&rig.disk, &pin, PinEvent::Pin).await;
    rig.disk.index.write(|txn| index::set_counter(txn, "form", 1)).expect("written");
    let rig = rig.restart().await;
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("there")).await, bytes);
    assert_eq!(rig.disk.pins().get(&key("a")).await.expect("works").map(|pin| pin.digest), Some(Digest::of(&bytes)));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn flushed_hit_counts_survive_a_crash_and_a_change_of_the_row() {
    let rig = rig(64);
    let bytes = body(1, 5000);
    store(&rig.disk, "a", &bytes).await;
    let hit = async |disk: &Disk| {
        let object = get(disk, "a").await.expect("there");
        object.record_hit();
        object.record_sent(5000);
    };
    let counted = async |disk: &Disk| disk.inventory().list(|_| true).await.expect("works")[0].hit_stats.disk;
    hit(&rig.disk).await;
    hit(&rig.disk).await;
    assert_eq!(counted(&rig.disk).await, TierStats { hits: 2, bytes: 10_000 });
    rig.disk.flush.run().expect("flushed");
    hit(&rig.disk).await;
    let rig = rig.crash();
    assert_eq!(counted(&rig.disk).await.hits, 2, "a crash loses what was not flushed, and nothing else");
    hit(&rig.disk).await;
    rig.disk.inventory().set_kept(&key("a"), true).await.expect("kept");
    store(&rig.disk, "b", &bytes).await;
    assert_eq!(counted(&rig.disk).await, TierStats { hits: 3, bytes: 15_000 });
    let rig = rig.restart().await;
    assert_eq!(counted(&rig.disk).await, TierStats { hits: 3, bytes: 15_000 });
}

#[tokio::test]
async fn an_operators_folder_in_the_quarantine_is_counted_and_not_evicted() {
    let rig = rig(64);
    rig.disk.close().await.expect("closes");
    let looked_at = rig.path("quarantine/looked-at/deeper");
    fs::create_dir_all(&looked_at).expect("made");
    fs::write(looked_at.join("copy.zip"), body(9, 70_000)).expect("written");
    fs::write(rig.path("quarantine/copy.zip"), body(9, 5000)).expect("written");
    let rig = rig.crash();
    let counted = || rig.disk.inventory().usage().quarantine;
    assert!(counted() >= 70_000 + 5000, "{}", counted());
    store(&rig.disk, "a", &body(1, 20_000)).await;
    let digest = Digest::of(&body(1, 20_000));
    rig.disk.repair.quarantine(&digest, "damaged by a test", || Ok(true)).expect("quarantined");
    assert_eq!(files(&rig.path("quarantine")).len(), 3);
    // Quarantined files are evictable; an operator's folder is not.
    rig.disk.space.evict(1 << 20);
    assert_eq!(files(&rig.path("quarantine")).len(), 1);
    assert!(counted() >= 70_000 && rig.disk.quarantine.evictable_bytes() == 0);
    rig.disk.inventory().clean().await.expect("cleaned");
    assert_eq!(fs::read_dir(rig.path("quarantine")).expect("a folder").count(), 0);
    assert_eq!((counted(), rig.disk.usage().bytes), (0, on_disk(&rig.disk, rig.dir.path())));
}

#[tokio::test]
async fn a_blob_that_cannot_be_read_is_no_damage() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    store(&rig.disk, "a", &bytes).await;
    let path = blob(&rig, &bytes);
    let aside = rig.dir.path().join("aside");
    fs::rename(&path, &aside).expect("moved");
    // A read of a folder is an I/O error.
    fs::create_dir(&path).expect("created");
    let checked = rig.disk.inventory().check(&Digest::of(&bytes)).await;
    assert!(checked.is_err(), "{checked:?}");
    assert!(files(&rig.path("quarantine")).is_empty());
    fs::remove_dir(&path).expect("removed");
    fs::rename(&aside, &path).expect("back");
    assert!(matches!(rig.disk.inventory().check(&Digest::of(&bytes)).await, Ok(Integrity::Intact)));
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("stored")).await, bytes);
}

#[tokio::test]
async fn a_blob_that_is_evicted_while_it_is_hashed_is_gone_and_not_damaged() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    let digest = Digest::of(&bytes);
    store(&rig.disk, "a", &bytes).await;
    let row = rig.disk.blobs.row(&digest).expect("works").expect("stored");
    assert_eq!(rig.disk.repair.check_row(&digest, &row).expect("works"), Integrity::Intact);
    rig.disk.space.evict(1 << 20);
    assert!(!blob(&rig, &bytes).exists());
    assert_eq!(rig.disk.repair.check_row(&digest, &row).expect("works"), Integrity::Gone);
    store(&rig.disk, "a", &bytes).await;
    fs::remove_file(blob(&rig, &bytes)).expect("there");
    assert_eq!(rig.disk.repair.check_row(&digest, &row).expect("works"), Integrity::Quarantined);
    assert_eq!(rig.disk.repair.check_row(&digest, &row).expect("works"), Integrity::Gone);
}

#[tokio::test]
async fn bytes_that_could_not_be_read_are_read_again() {
    // Opened for writing only: each read fails.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("blob");
    fs::write(&path, b"bytes").expect("written");
    let file = File::options().write(true).open(&path).expect("opened");
    let file = Arc::new(crate::storage::BlobFile::new(file, None));
    for _ in 0..2 {
        assert!(file.verify(Digest::of(b"bytes")).await.is_err());
        assert!(!file.is_verified());
    }
    let readable = Arc::new(crate::storage::BlobFile::new(File::open(&path).expect("opened"), None));
    assert!(readable.verify(Digest::of(b"bytes")).await.expect("readable"));
    assert!(
        !Arc::new(crate::storage::BlobFile::new(File::open(&path).expect("opened"), None))
            .verify(Digest::of(b"other"))
            .await
            .expect("readable")
    );
}
