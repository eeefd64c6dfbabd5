//! An import without enough disk space fails before it evicts anything, or names each zip that was evicted in between.

use std::path::{Path, PathBuf};

use serde_json::json;
use srm_mirror::entry::Key;
use tempfile::TempDir;

use crate::{
    bundles::import,
    cache_ops::{cache, said},
    eventually::eventually,
    forge::{Forge, Host},
    mirror::{Mirror, setup},
    process::{Ended, Launch, blob},
    zips::blobs,
};

const MIB: u64 = 1 << 20;

/// A forge with `count` versions of one package, of `len` bytes each.
async fn forge(package: &str, count: u64, len: u64) -> Forge {
    let forge = Forge::start().await;
    for n in 0..count {
        forge.repo(package).release(&format!("v1.{n}.0"), |r| r.noise("data.bin", n, len));
    }
    forge
}

async fn warm(forge: &Forge, dir: &Path, package: &str) {
    let ended = Launch::over(forge, dir, &["warm", "--quiet", &format!("{package}@all")]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// A bundle of all versions, and its directory.
async fn exported(forge: &Forge, package: &str) -> (TempDir, PathBuf) {
    let from = tempfile::tempdir().expect("a directory");
    warm(forge, from.path(), package).await;
    let bundle = from.path().join("bundle.tar");
    let done = cache(from.path(), &["export", bundle.to_str().expect("text")]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    (from, bundle)
}

async fn import_within(forge: &Forge, dir: &Path, bundle: &Path, limit: u64) -> Ended {
    Launch::over(forge, dir, &["cache", "import", bundle.to_str().expect("text")])
        .set("disk.limit", &format!("{limit}MiB"))
        .set("disk.documents", "1MiB")
        .run()
        .await
}

#[tokio::test]
async fn an_import_that_cannot_fit_is_refused_before_any_eviction() {
    let mine = forge("devsapp/mine", 2, MIB).await;
    let forge = forge("devsapp/fc3", 12, MIB).await;
    let (_from, bundle) = exported(&forge, "devsapp/fc3").await;
    let to = tempfile::tempdir().expect("a directory");
    warm(&mine, to.path(), "devsapp/mine").await;
    let ended = import_within(&forge, to.path(), &bundle, 8).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("disk.limit is 8MiB") && ended.out.contains("bundle.tar"), "{ended:?}");
    for n in 0..2 {
        assert!(blob(to.path(), &mine.sha256("devsapp/mine", &format!("v1.{n}.0"))).exists());
    }
    assert_eq!(blobs(to.path()), 2);
}

#[tokio::test]
async fn an_import_that_evicts_its_own_zips_names_them_and_fails() {
    let mine = forge("devsapp/mine", 6, MIB).await;
    let forge = forge("devsapp/fc3", 9, MIB).await;
    let (_from, bundle) = exported(&forge, "devsapp/fc3").await;
    let to = tempfile::tempdir().expect("a directory");
    warm(&mine, to.path(), "devsapp/mine").await;
    assert_eq!(cache(to.path(), &["keep", "devsapp/mine"]).await.status.code(), Some(0));
    let ended = import_within(&forge, to.path(), &bundle, 12).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let there = |n: &u64| blob(to.path(), &forge.sha256("devsapp/fc3", &format!("v1.{n}.0"))).exists();
    let lost: Vec<u64> = (0..9).filter(|n| !there(n)).collect();
    assert!(!lost.is_empty(), "all found room: {ended:?}");
    for n in 0..9 {
        let named = ended.out.contains(&format!("lost  github/devsapp/fc3/tag/v1.{n}.0"));
        assert_eq!(named, lost.contains(&n), "v1.{n}.0: {ended:?}");
    }
    assert!(ended.out.contains("disk.limit is 12MiB"), "{ended:?}");
}

#[tokio::test]
async fn a_refusal_during_an_upload_reaches_the_user() {
    let mine = forge("devsapp/mine", 2, 6 * MIB).await;
    let forge = forge("devsapp/fc3", 1, 14 * MIB).await;
    let (_from, bundle) = exported(&forge, "devsapp/fc3").await;
    let to = tempfile::tempdir().expect("a directory");
    warm(&mine, to.path(), "devsapp/mine").await;
    assert_eq!(cache(to.path(), &["keep", "devsapp/mine"]).await.status.code(), Some(0));
    let ended = import_within(&forge, to.path(), &bundle, 24).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let why = "import github/devsapp/fc3/tag/v1.0.0: there is no room for it in the cache";
    assert!(ended.err.contains(why), "{ended:?}");
}

/// A running mirror that has the zip of `load/p0` only in memory.
async fn in_memory_alone(forge: &Forge, dir: &Path) -> Mirror {
    let mirror = setup(forge).start_in(dir).await;
    let zip = "/load/p0/zipball/v1.0.0";
    assert_eq!(mirror.get(zip).await.status, 200);
    let hot = || async { mirror.head(zip).await.cache_status().contains("memory") };
    eventually("it is in memory", hot).await;
    // Eviction from disk leaves the memory cache unchanged.
    mirror.cache.disk().remove(&Key::new("github/load/p0/tag/v1.0.0")).await.expect("removed");
    assert!(!blob(dir, &forge.sha256("load/p0", "v1.0.0")).exists());
    assert!(mirror.head(zip).await.cache_status().contains("memory"));
    mirror
}

async fn load() -> Forge {
    forge("load/p0", 1, 900_000).await
}

#[tokio::test]
async fn a_zip_only_in_memory_is_imported_to_disk() {
    let forge = load().await;
    let to = tempfile::tempdir().expect("a directory");
    let (_from, bundle) = exported(&forge, "load/p0").await;
    let _mirror = in_memory_alone(&forge, to.path()).await;
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert!(code == Some(0) && text.contains("; 0 zips were here already"), "{code:?}: {text}");
    assert!(blob(to.path(), &forge.sha256("load/p0", "v1.0.0")).exists());
}

#[tokio::test]
async fn a_zip_only_in_memory_is_warmed_to_disk_without_the_forge() {
    let forge = load().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = in_memory_alone(&forge, dir.path()).await;
    let lists = mirror.admin(dir.path(), "warm/lists", json!({"package": "load/p0"})).await;
    assert_eq!(lists[0]["releases"][0]["stored"], false, "{lists:?}");
    let asked = forge.count(|seen| seen.host == Host::Archive);
    let lines = mirror.admin(dir.path(), "warm/zip", json!({"package": "load/p0", "version": "v1.0.0"})).await;
    assert_eq!(lines.last().expect("a line")["event"], "stored", "{lines:?}");
    assert!(blob(dir.path(), &forge.sha256("load/p0", "v1.0.0")).exists());
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), asked);
}
