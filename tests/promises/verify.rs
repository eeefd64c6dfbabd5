//! `cache verify` finds damaged zips and documents, and reports a repair once the new copy is stored.

use std::{fs, path::Path};

use serde_json::{Value, json};
use srm_mirror::cache::policy::UpstreamMode;

use crate::{
    cache_ops::{cache, said},
    eventually::eventually,
    forge::{Forge, Host},
    mirror::{Mirror, setup},
    process::{blob, files},
};

const LIST: &str = "/devsapp/fc3/releases";
const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 200_000));
    forge
}

async fn filled(forge: &Forge, dir: &Path) -> Mirror {
    let mirror = setup(forge).start_in(dir).await;
    for path in [LIST, "/devsapp/fc3/releases/latest", ZIP] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    let stored = async || mirror.admin(dir, "stock", json!({})).await.len() == 1;
    eventually("the zip is stored", stored).await;
    mirror
}

/// Changes a byte in the middle of every stored document; returns their number.
fn damage_documents(dir: &Path) -> usize {
    let documents = files(&dir.join("documents"));
    for (path, len) in &documents {
        let mut bytes = fs::read(path).expect("read");
        bytes[usize::try_from(len - 20).expect("small")] ^= 1;
        fs::write(path, bytes).expect("written");
    }
    documents.len()
}

fn damage_zip(forge: &Forge, dir: &Path) {
    let path = blob(dir, &forge.sha256("devsapp/fc3", "v1.0.0"));
    let mut bytes = fs::read(&path).expect("read");
    bytes[1000] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn quarantine(dir: &Path) -> usize {
    files(&dir.join("quarantine")).len()
}

async fn verify(mirror: &Mirror, dir: &Path) -> Vec<Value> {
    mirror.admin(dir, "verify", json!({})).await
}

/// The states of all lines of one kind.
fn states<'l>(lines: &'l [Value], kind: &str) -> Vec<&'l str> {
    lines.iter().filter(|line| line["event"] == kind).map(|line| line["state"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn damaged_documents_are_quarantined_and_fetched_again() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await.stop().await;
    let count = damage_documents(dir.path());
    assert!(count >= 2, "list and latest are documents");
    // The memory cache of this process is empty.
    let mirror = setup(&forge).start_in(dir.path()).await;
    forge.clear_log();
    let lines = verify(&mirror, dir.path()).await;
    assert_eq!(states(&lines, "document"), vec!["mended"; count], "{lines:?}");
    assert_eq!(quarantine(dir.path()), count);
    assert!(forge.count(|seen| seen.host == Host::GithubApi && seen.status == Some(200)) >= count);
    assert_eq!(states(&verify(&mirror, dir.path()).await, "document"), vec!["good"; count]);
    mirror.stop().await;
    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!((mirror.get(LIST).await.status, mirror.get(ZIP).await.status), (200, 200));
}

#[tokio::test]
async fn a_document_still_in_memory_is_repaired_without_the_forge() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let count = damage_documents(dir.path());
    forge.clear_log();
    let lines = verify(&mirror, dir.path()).await;
    assert_eq!((states(&lines, "document"), forge.requests().len()), (vec!["mended"; count], 0), "{lines:?}");
    assert_eq!(states(&verify(&mirror, dir.path()).await, "document"), vec!["good"; count]);
}

#[tokio::test]
async fn offline_damage_is_quarantined_and_reported_as_unrepaired() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await.stop().await;
    let count = damage_documents(dir.path());
    damage_zip(&forge, dir.path());
    let connections = forge.connections();
    let mirror = setup(&forge).with(|config| config.mode = UpstreamMode::Offline).start_in(dir.path()).await;
    let lines = verify(&mirror, dir.path()).await;
    let states = (states(&lines, "zip"), states(&lines, "document"));
    assert_eq!(states, (vec!["damaged"], vec!["damaged"; count]), "{lines:?}");
    let reasons = lines.iter().filter(|line| line["state"] == "damaged").map(|line| line["reason"].as_str());
    assert!(reasons.into_iter().all(|why| why.is_some_and(|why| why.contains("offline"))), "{lines:?}");
    assert_eq!((quarantine(dir.path()), forge.connections()), (count + 1, connections));
    mirror.stop().await;

    // Online again the same command repairs what the index names; a removed document is fetched at the next request.
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!((mirror.get(LIST).await.status, mirror.get(ZIP).await.status), (200, 200));
}

#[tokio::test]
async fn a_zip_is_reported_repaired_when_it_is_stored() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    for _ in 0..5 {
        damage_zip(&forge, dir.path());
        assert_eq!(states(&verify(&mirror, dir.path()).await, "zip"), ["mended"]);
        assert_eq!(mirror.admin(dir.path(), "stock", json!({})).await.len(), 1, "it was said before it was so");
    }
    mirror.stop().await;
    // A copy that cannot be stored is no repair.
    damage_zip(&forge, dir.path());
    forge.repo("devsapp/fc3").tag("v1.0.0", |t| t.file("index.js", b"something else"));
    let mirror = setup(&forge).start_in(dir.path()).await;
    let lines = verify(&mirror, dir.path()).await;
    assert_eq!(states(&lines, "zip"), ["damaged"], "{lines:?}");
}

#[tokio::test]
async fn a_damaged_sidecar_is_found() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let sidecar = blob(dir.path(), &forge.sha256("devsapp/fc3", "v1.0.0")).with_extension("json");
    fs::write(&sidecar, "{").expect("written");
    assert_eq!(states(&verify(&mirror, dir.path()).await, "zip"), ["mended"]);
    assert_eq!(states(&verify(&mirror, dir.path()).await, "zip"), ["good"]);
}

#[tokio::test]
async fn verify_reports_repairs_and_fails_for_what_it_cannot_repair() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await.stop().await;
    let count = damage_documents(dir.path());
    let done = cache(dir.path(), &["verify", "--no-fetch"]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("damaged  github/devsapp/fc3/releases\n") && !text.contains('\u{1b}'), "{text}");
    assert!(text.ends_with(&format!("and {count} documents verified: 0 mended, {count} damaged\n")), "{text}");
}
