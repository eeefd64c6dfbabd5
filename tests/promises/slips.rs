//! An operator's mistake (an unset variable, a wrong directory) destroys nothing, and reported counts are true.

use std::{fs, path::Path};

use reqwest::Method;
use serde_json::json;
use srm_mirror::entry::Key;

use crate::{
    cache_ops::{cache, said},
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, setup},
    process::files,
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"1"));
    forge
}

async fn filled(forge: &Forge, dir: &Path) -> Mirror {
    let mirror = setup(forge).start_in(dir).await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    eventually("the zip is stored", async || stored(&mirror, dir).await == 1).await;
    mirror
}

async fn stored(mirror: &Mirror, dir: &Path) -> usize {
    mirror.admin(dir, "stock", json!({})).await.len()
}

#[tokio::test]
async fn an_empty_pattern_is_refused_and_does_not_mean_everything() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let file = dir.path().join("file");
    let file = file.to_str().expect("text");
    for arguments in [
        &["rm", "", "--yes"][..],
        &["rm", "", "--dry-run"],
        &["keep", ""],
        &["unkeep", ""],
        &["ls", ""],
        &["verify", ""],
        &["export", file, ""],
        &["lock", "", "--file", file],
    ] {
        let done = cache(dir.path(), arguments).await;
        assert_eq!(done.status.code(), Some(64), "{arguments:?}: {}", said(&done));
        assert!(said(&done).contains("empty") && said(&done).contains("'*'"), "{arguments:?}: {}", said(&done));
    }
    for (what, ask) in [
        ("rm", json!({"pattern": ""})),
        ("rm", json!({})),
        ("rm", json!({"pattern": null})),
        ("keep", json!({"pattern": ""})),
        ("keep", json!({})),
        ("gc", json!({"pattern": "", "unused": "0s"})),
        ("stock", json!({"pattern": ""})),
        ("claims", json!({"pattern": ""})),
    ] {
        let got = mirror.control(dir.path(), Method::POST, &format!("/-/{what}"), ask.to_string()).await;
        assert_eq!(got.status, 400, "{what} {ask}: {:?}", got.body);
        assert!(
            got.json()["message"].as_str().is_some_and(|why| why.contains("* for everything")),
            "{what} {ask}: {:?}",
            got.body
        );
    }
    let all = mirror.admin(dir.path(), "stock", json!({})).await;
    assert!(all.len() == 1 && all[0]["kept"] == false, "{all:?}");
    let done = cache(dir.path(), &["rm", "*/*", "--yes"]).await;
    assert_eq!((done.status.code(), stored(&mirror, dir.path()).await), (Some(0), 0), "{}", said(&done));
}

#[tokio::test]
async fn read_only_commands_create_no_cache_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("srm-miror");
    let file = dir.path().join("file");
    let file = file.to_str().expect("text");
    for arguments in [
        &["ls"][..],
        &["stats"],
        &["verify"],
        &["export", file],
        &["lock", "--file", file],
        &["rm", "*/*", "--yes"],
        &["gc", "--yes"],
        &["keep", "*/*"],
    ] {
        let done = cache(&missing, arguments).await;
        assert_eq!(done.status.code(), Some(74), "{arguments:?}: {}", said(&done));
        assert!(said(&done).contains("srm-miror") && said(&done).lines().count() == 1, "{}", said(&done));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_directory_of_something_else_is_not_taken_for_a_cache() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("spool")).expect("made");
    fs::write(dir.path().join("spool/letter.txt"), "dear").expect("written");
    let done = cache(dir.path(), &["ls"]).await;
    assert_eq!(done.status.code(), Some(74), "{}", said(&done));
    let text = said(&done);
    let path = dir.path().display().to_string();
    assert!(text.contains(&path) && text.contains("--cache-dir") && text.lines().count() == 1, "{text}");
    assert_eq!(files(dir.path()).len(), 1, "it is left as it is");
}

#[tokio::test]
async fn reported_counts_are_true() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    for _ in 0..2 {
        let done = cache(dir.path(), &["keep", "devsapp/fc3"]).await;
        assert!(said(&done).ends_with("1 of 1 zips are kept now\n"), "{}", said(&done));
    }
    let done = cache(dir.path(), &["unkeep", "devsapp/fc3", "--dry-run"]).await;
    assert!(said(&done).ends_with("1 of 1 zips would be evictable\n"), "{}", said(&done));

    // The commit's zip has the same bytes as the tag's.
    let commit = forge.repo("devsapp/fc3").commit("v1.0.0");
    assert_eq!(mirror.get(&format!("/devsapp/fc3/zipball/{commit}")).await.status, 200);
    eventually("it is stored", async || stored(&mirror, dir.path()).await == 2).await;
    let rm = async |pattern: &str| {
        let plan = &mirror.admin(dir.path(), "rm", json!({"pattern": pattern, "dry_run": true})).await[0];
        (plan["zips"].as_u64(), plan["bytes"].as_u64().expect("a number") > 0)
    };
    assert_eq!(rm("devsapp/fc3@1.0.0").await, (Some(1), false), "the commit's zip still needs the file");
    assert_eq!(rm("devsapp/fc3").await, (Some(2), true));
}

#[tokio::test]
async fn an_entry_that_was_not_shown_keeps_its_mark() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    assert_eq!(cache(dir.path(), &["keep", "devsapp/fc3"]).await.status.code(), Some(0));
    let rm = async |ask| mirror.admin(dir.path(), "rm", ask).await.remove(0);
    let shown = rm(json!({"pattern": "devsapp/fc3", "dry_run": true})).await;
    assert_eq!((&shown["zips"], &shown["marks"]), (&json!(1), &json!(0)));
    // Between question and answer the zip is found damaged: its keep mark stays for the restored zip.
    let object = mirror.cache.archive_tiers().peek(&Key::new("github/devsapp/fc3/tag/v1.0.0")).await.expect("readable");
    mirror.cache.archive_tiers().quarantine(&object.expect("stored")).await;
    let done = rm(json!({"pattern": "devsapp/fc3", "plan": shown["plan"]})).await;
    assert_eq!(done["marks"], 0, "{done}");
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    eventually("the zip is stored", async || stored(&mirror, dir.path()).await == 1).await;
    assert_eq!(mirror.admin(dir.path(), "stock", json!({})).await[0]["kept"], true);
}

#[tokio::test]
async fn the_last_keep_or_unkeep_holds_while_nothing_is_stored() {
    for words in [&["unkeep", "devsapp/fc3"][..], &["rm", "devsapp/fc3@v1.0.0", "--yes"]] {
        let forge = forge().await;
        let dir = tempfile::tempdir().expect("a directory");
        let mirror = filled(&forge, dir.path()).await;
        assert_eq!(cache(dir.path(), &["keep", "devsapp/fc3"]).await.status.code(), Some(0));
        let key = Key::new("github/devsapp/fc3/tag/v1.0.0");
        let object = mirror.cache.archive_tiers().peek(&key).await.expect("readable").expect("stored");
        mirror.cache.archive_tiers().quarantine(&object).await;
        let done = cache(dir.path(), words).await;
        assert_eq!(done.status.code(), Some(0), "{words:?}: {}", said(&done));
        assert!(said(&done).contains("1 marks of zips that are not stored"), "{words:?}: {}", said(&done));
        assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
        eventually("the zip is stored", async || stored(&mirror, dir.path()).await == 1).await;
        let stock = mirror.admin(dir.path(), "stock", json!({})).await;
        assert_eq!(stock[0]["kept"], false, "{words:?}");
    }
}
