use std::fs::File;

use super::*;

fn blob(rig: &Rig, bytes: &[u8]) -> PathBuf {
    rig.disk.store.layout.blob(&Digest::of(bytes))
}

/// Stores, restarts, damages, and expects that the object is absent, set aside, and can be stored again.
async fn is_healed(damage: impl Fn(&Path)) -> Rig {
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
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("healed")).await, bytes);
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
    let rig = is_healed(flip).await;
    assert_eq!(files(&rig.path("quarantine")).len(), 1);
    let rig = rig.restart().await;
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_truncated_file_is_found() {
    let cut = |path: &Path| File::options().write(true).open(path).expect("there").set_len(100).expect("cut");
    is_healed(cut).await;
}

#[tokio::test]
async fn a_missing_file_is_found() {
    is_healed(|path| fs::remove_file(path).expect("there")).await;
}

#[tokio::test]
async fn a_missing_or_damaged_sidecar_is_found() {
    is_healed(|path| fs::remove_file(path.with_extension("json")).expect("there")).await;
    is_healed(|path| fs::write(path.with_extension("json"), b"{\"entr").expect("there")).await;
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_open_is_found_at_the_next_use() {
    let rig = rig(64);
    let bytes = body(1, 50_000);
    let object = store(&rig.disk, "a", &bytes).await;
    File::options().write(true).open(blob(&rig, &bytes)).expect("there").set_len(100).expect("cut");
    let error = object.read(0, 50_000).await.expect_err("shrunk");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(get(&rig.disk, "a").await.is_none());
}

#[tokio::test]
async fn the_same_bytes_heal_a_damaged_blob_nobody_has_used_yet() {
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
async fn a_lost_truncated_or_garbage_index_is_built_again() {
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
        rig.disk.record_pin(&pin(&bytes), PinEvent::Pin).await.expect("recorded");
        rig.disk.close().await.expect("closes");
        damage(&rig.path("index.redb"));
        let rig = rig.crash();
        assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("adopted")).await, bytes);
        assert!(get(&rig.disk, "b").await.is_some());
        assert_eq!(rig.disk.pin(&key("a")).await.expect("works").as_deref(), Some(&pin(&bytes)));
        assert_eq!((rig.disk.usage().objects, rig.disk.usage().bytes), (1, on_disk(&rig.disk, rig.dir.path())));
    }
}

#[tokio::test]
async fn the_scrub_finds_damage_that_nobody_asks_for() {
    let rig = rig(64);
    for seed in 1..=3 {
        store(&rig.disk, &seed.to_string(), &body(seed, 20_000)).await;
    }
    flip(&blob(&rig, &body(2, 20_000)));
    for _ in 0..4 {
        rig.disk.store.scrub_next().expect("works");
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
        Content::Disk(file) => Arc::as_ptr(file),
        Content::Memory(_) => unreachable!("the disk tier hands out files"),
    };
    assert!(all.iter().all(|object| file(object) == file(&all[0])));
}

#[tokio::test]
async fn an_index_of_another_form_is_built_again_and_loses_no_object_and_no_pin() {
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
    rig.disk.record_pin(&pin, PinEvent::Pin).await.expect("recorded");
    rig.disk.store.index.write(|txn| index::set_state(txn, "form", 1)).expect("written");
    let rig = rig.restart().await;
    assert_eq!(bytes_of(&get(&rig.disk, "a").await.expect("there")).await, bytes);
    assert_eq!(rig.disk.pin(&key("a")).await.expect("works").map(|pin| pin.digest), Some(Digest::of(&bytes)));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn what_was_counted_is_flushed_and_survives_a_crash_and_a_change_of_the_row() {
    let rig = rig(64);
    let bytes = body(1, 5000);
    store(&rig.disk, "a", &bytes).await;
    let hit = async |disk: &Disk| {
        let object = get(disk, "a").await.expect("there");
        object.hit();
        object.sent(5000);
    };
    let counted = async |disk: &Disk| disk.inventory(|_| true).await.expect("works")[0].tally.disk;
    hit(&rig.disk).await;
    hit(&rig.disk).await;
    assert_eq!(counted(&rig.disk).await, TierStats { hits: 2, bytes: 10_000 });
    rig.disk.store.flush().expect("flushed");
    hit(&rig.disk).await;
    let rig = rig.crash();
    assert_eq!(counted(&rig.disk).await.hits, 2, "a crash loses what was not flushed, and nothing else");
    hit(&rig.disk).await;
    rig.disk.keep(&key("a"), true).await.expect("kept");
    store(&rig.disk, "b", &bytes).await;
    assert_eq!(counted(&rig.disk).await, TierStats { hits: 3, bytes: 15_000 });
    let rig = rig.restart().await;
    assert_eq!(counted(&rig.disk).await, TierStats { hits: 3, bytes: 15_000 });
}

#[tokio::test]
async fn what_is_put_beside_damaged_files_is_counted_and_in_nobodys_way() {
    let rig = rig(64);
    rig.disk.close().await.expect("closes");
    let looked_at = rig.path("quarantine/looked-at/deeper");
    fs::create_dir_all(&looked_at).expect("made");
    fs::write(looked_at.join("copy.zip"), body(9, 70_000)).expect("written");
    fs::write(rig.path("quarantine/copy.zip"), body(9, 5000)).expect("written");
    let rig = rig.crash();
    let counted = || rig.disk.sums().quarantine;
    assert!(counted() >= 70_000 + 5000, "{}", counted());
    store(&rig.disk, "a", &body(1, 20_000)).await;
    let digest = Digest::of(&body(1, 20_000));
    rig.disk.store.set_aside(&digest, "a test says so", || true).expect("set aside");
    assert_eq!(files(&rig.path("quarantine")).len(), 3);
    // Files make room; what somebody has put here does not, and nobody counts on it.
    rig.disk.store.evict(1 << 20);
    assert_eq!(files(&rig.path("quarantine")).len(), 1);
    assert!(counted() >= 70_000 && rig.disk.store.quarantine.evictable() == 0);
    rig.disk.clean().await.expect("cleaned");
    assert_eq!(fs::read_dir(rig.path("quarantine")).expect("a folder").count(), 0);
    assert_eq!((counted(), rig.disk.usage().bytes), (0, on_disk(&rig.disk, rig.dir.path())));
}
