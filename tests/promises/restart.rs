//! Stored content survives a restart, also without the index.

use std::{fs, io::Write as _, path::Path};

use crate::{forge::Forge, mirror::setup};

const ZIP: &str = "/devsapp/fc3/zipball/1.0.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let repo = forge.repo("devsapp/fc3").release("v0.9.0", |r| r.file("old.js", b"0"));
    repo.release("v1.0.0", |r| r.file("index.js", b"1").publish_yaml("Type: Component\nName: fc3\n"));
    forge
}

const ASKED: [&str; 5] = [
    ZIP,
    "/devsapp/fc3/zipball/refs/tags/v1.0.0",
    "/devsapp/fc3/releases",
    "/devsapp/fc3/releases/latest",
    "/devsapp/fc3/releases/tags/v0.9.0",
];

/// Fills a directory, changes it while no process holds it, and expects the same responses with the forge down.
async fn survives(change: impl FnOnce(&Path)) {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    let mut before = Vec::new();
    for path in ASKED {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        before.push(got.body);
    }
    let host = mirror.address.to_string();
    mirror.stop().await;
    change(dir.path());
    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    for (path, before) in ASKED.into_iter().zip(before) {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        if path.contains("zipball") {
            assert_eq!(got.body, before, "{path}");
            continue;
        }
        // Only the mirror's address differs.
        let text = String::from_utf8(before.to_vec()).expect("text").replace(&host, &mirror.address.to_string());
        assert_eq!(String::from_utf8_lossy(&got.body), text, "{path}");
    }
    mirror.stop().await;
}

#[tokio::test]
async fn everything_stored_is_served_with_the_forge_down() {
    survives(|_| {}).await;
}

#[tokio::test]
async fn a_lost_index_is_rebuilt() {
    survives(|dir| fs::remove_file(dir.join("index.redb")).expect("removed")).await;
}

#[tokio::test]
async fn a_truncated_index_is_rebuilt() {
    survives(|dir| {
        let file = fs::File::options().write(true).open(dir.join("index.redb")).expect("an index");
        let len = file.metadata().expect("stat").len();
        file.set_len(len / 2).expect("cut");
    })
    .await;
}

#[tokio::test]
async fn an_empty_index_is_rebuilt() {
    survives(|dir| fs::write(dir.join("index.redb"), b"").expect("written")).await;
}

#[tokio::test]
async fn an_index_of_garbage_is_rebuilt() {
    survives(|dir| {
        let len = fs::metadata(dir.join("index.redb")).expect("stat").len();
        let garbage: Vec<u8> = (0..len).map(|n| (n * 31 + n / 251) as u8).collect();
        fs::write(dir.join("index.redb"), garbage).expect("written");
    })
    .await;
}

#[tokio::test]
async fn an_index_with_garbage_in_its_pages_is_rebuilt() {
    survives(|dir| {
        let path = dir.join("index.redb");
        let mut bytes = fs::read(&path).expect("an index");
        // The header stays valid: the damage is found when a page is read.
        for byte in bytes.iter_mut().skip(4096) {
            *byte ^= 0x5a;
        }
        fs::write(path, bytes).expect("written");
    })
    .await;
}

#[tokio::test]
async fn a_torn_line_of_the_journal_is_cut_and_the_pins_before_it_hold() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    mirror.stop().await;
    let journal = dir.path().join("pins.jsonl");
    let whole = fs::read_to_string(&journal).expect("a journal");
    let mut file = fs::File::options().append(true).open(&journal).expect("a journal");
    file.write_all(br#"{"at":"2026-01-01T00:00:00Z","event":"pin","pin":{"key":"git"#).expect("written");
    drop(file);

    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v0.9.0").await.status, 200);
    mirror.stop().await;
    let text = fs::read_to_string(&journal).expect("a journal");
    assert!(text.starts_with(&whole) && text.lines().count() == whole.lines().count() + 1, "{text}");
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("a whole line");
    }
}

#[tokio::test]
async fn a_damaged_document_is_asked_again_and_never_served() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    let before = mirror.get("/devsapp/fc3/releases").await;
    assert_eq!(before.status, 200);
    mirror.stop().await;
    for entry in fs::read_dir(dir.path().join("documents")).expect("documents") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a document");
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        fs::write(path, bytes).expect("written");
    }
    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 502);
    mirror.stop().await;
    forge.up().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    let asked = forge.requests().len();
    let after = mirror.get("/devsapp/fc3/releases").await;
    assert_eq!((after.status, after.json().as_array().map(Vec::len)), (200, Some(2)));
    assert!(forge.requests().len() > asked, "no upstream request");
}

#[tokio::test]
async fn the_pin_holds_after_the_zip_is_lost_and_the_index_too() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    mirror.stop().await;
    fs::remove_dir_all(dir.path().join("blobs")).expect("removed");
    fs::remove_file(dir.path().join("index.redb")).expect("removed");
    forge.repo("devsapp/fc3").tag("v1.0.0", |t| t.file("index.js", b"something else"));
    let mirror = setup(&forge).start_in(dir.path()).await;
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, 502);
    assert!(String::from_utf8_lossy(&got.body).contains("pin-mismatch"), "{:?}", got.body);
    assert_eq!(got.header("connection"), "close");
    drop(mirror);
    assert!(forge.count(|seen| seen.contains("legacy.zip")) >= 2, "it was not fetched to be compared");
}
