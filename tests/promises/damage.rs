//! Damage on disk is found before a byte of it is sent; the file is quarantined, fetched again and compared with its pin.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;

use crate::{
    eventually::eventually,
    forge::{Forge, Host},
    mirror::{Mirror, setup},
    process::{blob, files, spooled},
};

const ZIP: &str = "/devsapp/fc3/zipball/1.0.0";

async fn forge(len: u64) -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, len));
    forge
}

fn archives(forge: &Forge) -> usize {
    forge.count(|seen| seen.host == Host::Archive && seen.status == Some(200))
}

async fn sound(mirror: &Mirror, forge: &Forge) {
    let got = mirror.get(ZIP).await;
    assert_eq!((got.status, got.sha256()), (200, forge.sha256("devsapp/fc3", "v1.0.0")), "{:?}", got.headers);
}

/// As [`sound`], then waits until the zip is stored: the client's response ends earlier.
async fn stored(mirror: &Mirror, forge: &Forge) -> PathBuf {
    sound(mirror, forge).await;
    let path = blob(mirror.dir(), &forge.sha256("devsapp/fc3", "v1.0.0"));
    let hit = || async { mirror.head(ZIP).await.cache_status().contains("detail=disk") };
    eventually("the zip is stored", hit).await;
    path
}

/// Stores a zip, damages its files while no process holds the directory, and expects that the damage is not served.
async fn healed(change: impl Fn(&Path), aside: usize) {
    let forge = forge(50_000).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = blob(dir.path(), &forge.sha256("devsapp/fc3", "v1.0.0"));
    let mirror = setup(&forge).start_in(dir.path()).await;
    sound(&mirror, &forge).await;
    mirror.stop().await;
    change(&path);

    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, 502, "damage was served");
    mirror.stop().await;
    forge.up().await;
    let asked = archives(&forge);
    let mirror = setup(&forge).start_in(dir.path()).await;
    sound(&mirror, &forge).await;
    assert_eq!(archives(&forge), asked + 1);
    assert_eq!(files(&dir.path().join("quarantine")).len(), aside, "what is damaged is kept to be looked at");
    mirror.stop().await;
    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    sound(&mirror, &forge).await;
    mirror.stop().await;
    assert_eq!(spooled(dir.path()), 0);
    let journal = fs::read_to_string(dir.path().join("pins.jsonl")).expect("a journal");
    assert_eq!(journal.lines().count(), 1, "the same content is no new pin: {journal}");
}

fn change(path: &Path, work: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a blob");
    work(&mut bytes);
    fs::write(path, bytes).expect("written");
}

fn sidecar(path: &Path) -> PathBuf {
    path.with_extension("json")
}

#[tokio::test]
async fn a_flipped_byte_is_found_before_the_first_use_after_a_start() {
    healed(|path| change(path, |bytes| bytes[20_000] ^= 1), 1).await;
}

#[tokio::test]
async fn a_truncated_blob_is_found() {
    healed(|path| change(path, |bytes| bytes.truncate(30_000)), 1).await;
}

#[tokio::test]
async fn an_emptied_blob_is_found() {
    healed(|path| change(path, Vec::clear), 1).await;
}

#[tokio::test]
async fn a_missing_blob_is_fetched_again() {
    healed(|path| fs::remove_file(path).expect("removed"), 0).await;
}

#[tokio::test]
async fn a_missing_sidecar_costs_a_download_and_nothing_else() {
    healed(|path| fs::remove_file(sidecar(path)).expect("removed"), 1).await;
}

#[tokio::test]
async fn a_sidecar_of_garbage_costs_a_download_and_nothing_else() {
    healed(|path| fs::write(sidecar(path), b"{\"what\": 1").expect("written"), 1).await;
}

#[tokio::test]
async fn a_damaged_zip_is_not_replaced_by_other_content() {
    let forge = forge(50_000).await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    sound(&mirror, &forge).await;
    mirror.stop().await;
    change(&blob(dir.path(), &forge.sha256("devsapp/fc3", "v1.0.0")), |bytes| bytes[20_000] ^= 1);
    forge.repo("devsapp/fc3").tag("v1.0.0", |t| t.noise("data.bin", 2, 50_000));
    let mirror = setup(&forge).start_in(dir.path()).await;
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, 502);
    assert!(String::from_utf8_lossy(&got.body).contains("pin-mismatch"), "{:?}", got.body);
}

#[tokio::test]
async fn a_file_truncated_while_it_is_sent_breaks_the_connection_and_is_restored_by_the_next_request() {
    // Larger than the kernel's socket buffers.
    let forge = forge(24 << 20).await;
    let mirror = Mirror::over(&forge).await;
    let path = stored(&mirror, &forge).await;
    let response = mirror.open(ZIP).await;
    assert_eq!(response.status(), 200);
    let file = fs::File::options().write(true).open(&path).expect("a blob");
    file.set_len(20_000).expect("cut");
    let mut body = response.bytes_stream();
    let mut end = None;
    while let Some(chunk) = body.next().await {
        end = chunk.err();
    }
    assert!(end.is_some(), "a cut file ended as a whole answer");
    let asked = archives(&forge);
    sound(&mirror, &forge).await;
    assert_eq!(archives(&forge), asked + 1);
    sound(&mirror, &forge).await;
    assert_eq!(archives(&forge), asked + 1, "healed is healed");
}

#[tokio::test]
async fn a_file_removed_while_the_mirror_runs_is_fetched_again() {
    let forge = forge(2 << 20).await;
    let mirror = Mirror::over(&forge).await;
    fs::remove_file(stored(&mirror, &forge).await).expect("removed");
    sound(&mirror, &forge).await;
    assert_eq!(archives(&forge), 2);
}
