use super::*;
use crate::storage::memory::{self, Memory};
use crate::value::memory_budget::MemoryBudget;

#[tokio::test]
async fn a_reader_follows_a_spool_while_it_grows_and_after_it_is_admitted() {
    let rig = rig(64);
    let bytes = body(1, 200_000);
    let mut spool = rig.disk.spool(None).expect("space");
    let reader = spool.file();
    spool.append(&[&bytes[..120_000]]).expect("written");
    assert_eq!(spool.len(), 120_000);
    assert_eq!(reader.read(100_000, 20_000).await.expect("readable"), bytes[100_000..120_000]);
    let short = reader.read(100_000, 20_001).await.expect_err("not yet written");
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    spool.append(&[&bytes[120_000..]]).expect("written");
    let object = rig.disk.admit(&key("a"), spool, meta(&bytes)).await.expect("admitted");
    assert_eq!(reader.read(0, 200_000).await.expect("readable"), bytes);
    assert_eq!(bytes_of(&object).await, bytes);
    drop((reader, object));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn an_object_reads_any_range_up_to_its_end() {
    let rig = rig(64);
    let bytes = body(2, 100_000);
    let object = store(&rig.disk, "a", &bytes).await;
    for (offset, max) in [(0, 1), (1, 65_536), (99_999, 10), (50_000, 1 << 30), (100_000, 5), (200_000, 5)] {
        let from = bytes.len().min(offset);
        let to = bytes.len().min(from.saturating_add(max));
        assert_eq!(object.read(offset as u64, max).await.expect("readable"), bytes[from..to]);
    }
}

#[tokio::test]
async fn a_hit_writes_nothing() {
    let rig = rig(64);
    store(&rig.disk, "a", &body(3, 5000)).await;
    let before: Vec<_> = files(rig.dir.path()).iter().map(|path| fs::read(path).expect("there")).collect();
    for _ in 0..10 {
        get(&rig.disk, "a").await.expect("there");
    }
    let after: Vec<_> = files(rig.dir.path()).iter().map(|path| fs::read(path).expect("there")).collect();
    assert!(before == after);
}

#[tokio::test]
async fn a_wrong_length_is_not_admitted() {
    let rig = rig(64);
    let bytes = body(4, 5000);
    let before = rig.disk.usage();
    let spool = filled(&rig.disk, &bytes[..4000]);
    rig.disk.admit(&key("a"), spool, meta(&bytes)).await.expect_err("refused");
    assert!(get(&rig.disk, "a").await.is_none());
    assert_eq!((rig.disk.usage(), files(&rig.path("spool"))), (before, vec![]));
    assert!(!rig.disk.degraded().is_empty());
    store(&rig.disk, "a", &bytes).await;
    assert_eq!(rig.disk.degraded(), [] as [String; 0], "cleared by the next successful write");
}

#[tokio::test]
async fn the_memory_tier_takes_the_bytes_of_small_objects_only() {
    let rig = rig(64);
    let memory = Memory::new(
        &memory::Config { archive_max: ByteSize(6000), ..memory::Config::default() },
        MemoryBudget::unlimited(),
    );
    for (name, len) in [("small", 6000), ("large", 6001)] {
        let object = store(&rig.disk, name, &body(5, len)).await;
        if let Some(object) = memory.load(&object).await.expect("readable") {
            memory.insert(&key(name), object);
        }
        rig.disk.remove(&key(name)).await.expect("removed");
    }
    let small = memory.get(&key("small")).expect("there");
    assert_eq!((small.tier, bytes_of(&small).await), ("memory", body(5, 6000)));
    assert!(memory.get(&key("large")).is_none());
    memory.remove(&key("small"));
    assert!(memory.get(&key("small")).is_none());
}

#[tokio::test]
async fn memory_documents_are_stored_and_removed_by_key() {
    let documents = memory::MemoryDocuments::new(&memory::Config::default());
    let document = super::documents::document(b"[]");
    documents.put(&key("a"), document.clone());
    assert_eq!(documents.get(&key("a")), Some(document));
    documents.remove(&key("a"));
    assert_eq!(documents.get(&key("a")), None);
}

#[tokio::test]
async fn flushed_usage_is_in_the_index_after_a_crash() {
    let rig = rig(64);
    for seed in [1, 2] {
        store(&rig.disk, &seed.to_string(), &body(seed, 5000)).await;
    }
    get(&rig.disk, "1").await.expect("there");
    rig.disk.flush.run().expect("flushed");
    let first = |disk: &Disk| {
        let mut first = None;
        let pick = |digest, _| {
            first = Some(digest);
            false
        };
        disk.index.read(|txn| index::BLOBS.visit_by_use(txn, pick)).expect("works");
        first
    };
    let rig = rig.crash();
    assert_eq!(first(&rig.disk), Some(Digest::of(&body(2, 5000))));
}

#[tokio::test]
async fn background_work_ends_when_it_is_cancelled() {
    let rig = rig(64);
    let tracker = TaskTracker::new();
    let token = CancellationToken::new();
    rig.disk.spawn_background(&tracker, &token);
    assert_eq!(tracker.len(), 2);
    tracker.close();
    token.cancel();
    tracker.wait().await;
}
