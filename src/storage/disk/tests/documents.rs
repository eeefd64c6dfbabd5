use super::*;
use crate::entry::{Document, DocumentMeta, UpstreamStatus, Validators};

pub(super) fn document(body: &[u8]) -> Document {
    let meta = DocumentMeta {
        digest: Digest::of(body),
        validated_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
        validators: Validators::default(),
        upstream_status: UpstreamStatus::Present,
    };
    Document { meta: Arc::new(meta), body: bytes::Bytes::copy_from_slice(body) }
}

fn renewed(document: &Document, second: i64) -> Arc<DocumentMeta> {
    let validated_at = Timestamp::from_second(second).expect("valid");
    Arc::new(DocumentMeta { validated_at, ..DocumentMeta::clone(&document.meta) })
}

#[tokio::test]
async fn documents_survive_a_restart_and_a_crash() {
    let mut rig = rig(64);
    let first = document(b"[1]\n[2]");
    rig.disk.documents().put(&key("a"), &first).await.expect("stored");
    for clean in [true, false] {
        rig = if clean { rig.restart().await } else { rig.crash() };
        assert_eq!(rig.disk.documents().get(&key("a")).await.expect("works").as_ref(), Some(&first));
        assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    }
    let second = document(b"[3]");
    rig.disk.documents().put(&key("a"), &second).await.expect("stored");
    assert_eq!(rig.disk.documents().get(&key("a")).await.expect("works"), Some(second));
    rig.disk.documents().remove(&key("a")).await.expect("removed");
    assert_eq!(rig.disk.documents().get(&key("a")).await.expect("works"), None);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_renewal_is_seen_at_once_survives_a_restart_and_writes_no_file() {
    let rig = rig(64);
    let first = document(b"[1]");
    let documents = rig.disk.documents();
    documents.put(&key("a"), &first).await.expect("stored");
    let file = files(&rig.path("documents")).remove(0);
    let written = fs::metadata(&file).expect("there").modified().expect("known");
    documents.put_meta(&key("a"), renewed(&first, 60)).await.expect("noted");
    let seen = documents.get(&key("a")).await.expect("works").expect("there");
    assert_eq!((seen.meta, seen.body), (renewed(&first, 60), first.body.clone()));
    drop(documents);
    let rig = rig.restart().await;
    let seen = rig.disk.documents().get(&key("a")).await.expect("works").expect("there");
    assert_eq!(seen.meta, renewed(&first, 60));
    assert_eq!(fs::metadata(&file).expect("there").modified().expect("known"), written);
    // A renewal of the old body says nothing about a new one.
    let second = document(b"[2]");
    rig.disk.documents().put(&key("a"), &second).await.expect("stored");
    rig.disk.documents().put_meta(&key("a"), renewed(&first, 90)).await.expect("noted");
    assert_eq!(rig.disk.documents().get(&key("a")).await.expect("works"), Some(second));
}

#[tokio::test]
async fn a_damaged_document_is_quarantined() {
    let rig = rig(64);
    let documents = rig.disk.documents();
    documents.put(&key("a"), &document(b"[1,2,3]")).await.expect("stored");
    let file = files(&rig.path("documents")).remove(0);
    let text = fs::read_to_string(&file).expect("text");
    fs::write(&file, text.replace("[1,2,3]", "[1,2,4]")).expect("written");
    assert_eq!(documents.get(&key("a")).await.expect("works"), None);
    assert_eq!(files(&rig.path("documents")), [] as [PathBuf; 0]);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}

#[tokio::test]
async fn a_document_that_is_removed_is_gone_and_one_whose_file_is_missing_is_damaged() {
    let rig = rig(64);
    let documents = rig.disk.documents();
    documents.put(&key("a"), &document(b"[1]")).await.expect("stored");
    assert_eq!(documents.check(&key("a")).await.expect("works"), Integrity::Intact);
    documents.remove(&key("a")).await.expect("removed");
    assert_eq!(documents.check(&key("a")).await.expect("works"), Integrity::Gone);
    documents.put(&key("a"), &document(b"[1]")).await.expect("stored");
    fs::remove_file(files(&rig.path("documents")).remove(0)).expect("there");
    assert_eq!(documents.check(&key("a")).await.expect("works"), Integrity::Quarantined);
    documents.remove(&key("a")).await.expect("removed");
    assert_eq!(documents.check(&key("a")).await.expect("works"), Integrity::Gone);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    documents.put(&key("b"), &document(b"[2]")).await.expect("stored");
    fs::write(files(&rig.path("documents")).remove(0), b"nonsense").expect("written");
    assert_eq!(documents.get(&key("b")).await.expect("works"), None, "a reader finds it first");
    assert_eq!(documents.check(&key("b")).await.expect("works"), Integrity::Quarantined);
    documents.put(&key("b"), &document(b"[2]")).await.expect("stored");
    assert_eq!(documents.check(&key("b")).await.expect("works"), Integrity::Intact);
    documents.remove(&key("b")).await.expect("removed");
    assert_eq!(documents.check(&key("b")).await.expect("works"), Integrity::Gone);
}

#[tokio::test]
async fn documents_stay_within_their_share_and_the_least_recently_used_is_removed() {
    let rig = rig(64);
    let documents = rig.disk.documents();
    for seed in 1..=3 {
        documents.put(&key(&seed.to_string()), &document(&body(seed, 300_000))).await.expect("stored");
    }
    documents.get(&key("1")).await.expect("works").expect("there");
    documents.put(&key("4"), &document(&body(4, 300_000))).await.expect("stored");
    let mut there = Vec::new();
    for name in ["1", "2", "3", "4"] {
        there.push(documents.get(&key(name)).await.expect("works").is_some());
    }
    assert_eq!(there, [true, false, true, true]);
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
    let huge = documents.put(&key("5"), &document(&body(5, 2 << 20))).await.expect_err("too large");
    assert_eq!(huge.kind(), io::ErrorKind::StorageFull);
}

#[tokio::test]
async fn documents_outlive_their_index() {
    let rig = rig(64);
    rig.disk.documents().put(&key("a"), &document(b"[1]")).await.expect("stored");
    rig.disk.close().await.expect("closes");
    fs::remove_file(rig.path("index.redb")).expect("there");
    let rig = rig.crash();
    assert_eq!(rig.disk.documents().get(&key("a")).await.expect("works"), Some(document(b"[1]")));
    assert_eq!(rig.disk.usage().bytes, on_disk(&rig.disk, rig.dir.path()));
}
