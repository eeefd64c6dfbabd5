//! The operator's commands on the cache (list, remove, keep, verify), with a running server and without one.

use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Output};

use serde_json::{Value, json};

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
};

const ZIPS: [&str; 3] = ["/devsapp/fc3/zipball/v1.0.0", "/devsapp/fc3/zipball/v1.1.0", "/devsapp/start/zipball/v1.0.0"];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let noise = |seed| move |r: crate::forge::Spec| r.noise("data.bin", seed, 200_000);
    forge.repo("devsapp/fc3").release("v1.0.0", noise(1)).release("v1.1.0", noise(2));
    forge.repo("devsapp/start").release("v1.0.0", noise(3));
    forge
}

async fn filled(forge: &Forge, dir: &Path) -> Mirror {
    let mirror = setup(forge).start_in(dir).await;
    for path in ZIPS.iter().chain(&["/devsapp/fc3/releases"]) {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    crate::eventually::eventually("all are admitted", async || stock(&mirror, dir, "*/*").await.len() == 3).await;
    mirror
}

async fn stock(mirror: &Mirror, dir: &Path, pattern: &str) -> Vec<Value> {
    mirror.admin(dir, "stock", json!({"pattern": pattern})).await
}

fn blobs(dir: &Path) -> Vec<std::path::PathBuf> {
    let shards = fs::read_dir(dir.join("blobs")).expect("a folder").map(|shard| shard.expect("read").path());
    let files = shards.flat_map(|shard| fs::read_dir(shard).expect("a folder").map(|file| file.expect("read").path()));
    files.filter(|file| file.extension().is_none()).collect()
}

/// Runs the program over a cache directory, without a terminal for questions.
pub async fn cache(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_srm-mirror"));
    command.env_clear().arg("cache").args(arguments).arg("--cache-dir").arg(dir);
    command.stdin(std::process::Stdio::null()).output().await.expect("runs")
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn the_inventory_lists_package_version_size_digest_and_keep_mark() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let all = stock(&mirror, dir.path(), "*/*").await;
    let names: Vec<_> = all.iter().map(|item| (item["package"].as_str(), item["version"].as_str())).collect();
    let expected = [("devsapp/fc3", "v1.0.0"), ("devsapp/fc3", "v1.1.0"), ("devsapp/start", "v1.0.0")];
    assert_eq!(names, expected.map(|(package, version)| (Some(package), Some(version))));
    assert_eq!(all[0]["sha256"], forge.sha256("devsapp/fc3", "v1.0.0"));
    assert_eq!(all[0]["size"], forge.zip_bytes("devsapp/fc3", "v1.0.0").len());
    assert_eq!(stock(&mirror, dir.path(), "*/fc3@1.1.*").await.len(), 1);
    let stats = &mirror.admin(dir.path(), "stats", json!({})).await[0];
    assert_eq!((&stats["packages"], &stats["upstreams"]["github"]["zips"]), (&json!(2), &json!(3)));
    assert_eq!(stats["top"][0]["package"], "devsapp/fc3");
}

#[tokio::test]
async fn listing_the_inventory_reads_only_the_index() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let before = stock(&mirror, dir.path(), "*/*").await;
    assert!(before.iter().all(|item| item["commit"].as_str().is_some_and(|commit| commit.len() == 40)), "{before:?}");
    for blob in blobs(dir.path()) {
        fs::remove_file(blob.with_extension("json")).expect("removed");
        fs::remove_file(blob).expect("removed");
    }
    assert_eq!(stock(&mirror, dir.path(), "*/*").await, before);
    let largest = mirror.admin(dir.path(), "stock", json!({"sort": "size", "limit": 1})).await;
    let most = before.iter().map(|item| item["size"].as_u64()).max().expect("some");
    assert_eq!((largest.len(), largest[0]["size"].as_u64()), (1, most));
}

#[tokio::test]
async fn removing_a_zip_frees_its_space_at_once_and_keeps_its_pin_unless_forgotten() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let bytes = |stats: &Value| stats["disk"]["zips"].as_u64().expect("a number");
    let before = bytes(&mirror.admin(dir.path(), "stats", json!({})).await[0]);
    let ask = |dry: bool, forget: bool| json!({"pattern": "devsapp/fc3@1.0.0", "dry_run": dry, "forget": forget});
    mirror.admin(dir.path(), "rm", ask(true, false)).await;
    assert_eq!(blobs(dir.path()).len(), 3, "a dry run removes nothing");
    let plan = &mirror.admin(dir.path(), "rm", ask(false, false)).await[0];
    let after = bytes(&mirror.admin(dir.path(), "stats", json!({})).await[0]);
    assert_eq!((blobs(dir.path()).len(), before - after), (2, plan["bytes"].as_u64().expect("a number")));

    // A zip that is fetched again is compared with its pin, until the operator forgets the pin.
    forge.repo("devsapp/fc3").tag("v1.0.0", |t| t.file("index.js", b"something else"));
    assert_eq!(mirror.get(ZIPS[0]).await.status, 502);
    mirror.admin(dir.path(), "rm", ask(false, true)).await;
    assert_eq!(mirror.get(ZIPS[0]).await.status, 200);
    assert_eq!(mirror.get(ZIPS[1]).await.cache_status(), "srm-mirror; hit; detail=memory");
}

#[tokio::test]
async fn a_removed_package_takes_its_release_list_with_it() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    mirror.admin(dir.path(), "rm", json!({"pattern": "devsapp/fc3"})).await;
    assert_eq!(stock(&mirror, dir.path(), "*/*").await.len(), 1);
    let list = mirror.get("/devsapp/fc3/releases").await;
    assert!(list.cache_status().contains("fwd=uri-miss"), "{}", list.cache_status());
}

#[tokio::test]
async fn a_kept_zip_is_never_evicted_also_after_the_index_is_lost() {
    let forge = Forge::start().await;
    for n in 0..12 {
        let big = |r: crate::forge::Spec| r.noise("data.bin", n, 1 << 20);
        forge.repo("devsapp/fc3").release(&format!("v1.{n}.0"), big);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let start = || {
        setup(&forge).with(|config| {
            config.disk.limit = srm_mirror::value::ByteSize::mib(10);
            config.memory.archives = srm_mirror::value::ByteSize(0);
        })
    };
    let mut mirror = start().start_in(dir.path()).await;
    let fetch = async |mirror: &Mirror, n: u64| {
        assert_eq!(mirror.get(&format!("/devsapp/fc3/zipball/v1.{n}.0")).await.status, 200);
        crate::eventually::eventually("it is admitted", async || mirror.cache.archives().running_fills() == 0).await;
    };
    fetch(&mirror, 0).await;
    let kept = mirror.admin(dir.path(), "keep", json!({"pattern": "devsapp/fc3@1.0.0"})).await;
    assert_eq!(kept[0]["marked"], 1);
    for round in 0..2 {
        for n in 1..12 {
            fetch(&mirror, n).await;
        }
        let left = stock(&mirror, dir.path(), "*/*").await;
        assert!(left.len() < 12, "nothing was evicted");
        assert!(left.iter().any(|item| item["version"] == "v1.0.0" && item["kept"] == true), "{round}: {left:?}");
        mirror.stop().await;
        if round == 0 {
            fs::remove_file(dir.path().join("index.redb")).expect("removed");
        }
        mirror = start().start_in(dir.path()).await;
    }
    mirror.admin(dir.path(), "keep", json!({"pattern": "devsapp/fc3", "kept": false})).await;
    for n in 1..12 {
        fetch(&mirror, n).await;
    }
    assert!(stock(&mirror, dir.path(), "devsapp/fc3@1.0.0").await.is_empty());
}

#[tokio::test]
async fn verify_quarantines_damaged_zips_and_fetches_them_again() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let states = |lines: &[Value]| {
        let zips = lines.iter().filter(|line| line["event"] == "zip");
        let mut states: Vec<_> = zips.map(|line| line["state"].as_str().expect("text").to_owned()).collect();
        states.sort();
        states
    };
    assert_eq!(states(&mirror.admin(dir.path(), "verify", json!({})).await), ["good"; 3]);
    let damage = || {
        let file = fs::File::options().write(true).open(&blobs(dir.path())[0]).expect("opens");
        file.write_all_at(b"damaged", 1000).expect("written");
    };
    damage();
    assert_eq!(states(&mirror.admin(dir.path(), "verify", json!({})).await), ["good", "good", "mended"]);
    assert_eq!(fs::read_dir(dir.path().join("quarantine")).expect("a folder").count(), 1);
    crate::eventually::eventually("it is stored again", async || stock(&mirror, dir.path(), "*/*").await.len() == 3)
        .await;
    assert_eq!(states(&mirror.admin(dir.path(), "verify", json!({})).await), ["good"; 3]);
    damage();
    let lines = mirror.admin(dir.path(), "verify", json!({"no_fetch": true})).await;
    assert_eq!(states(&lines), ["damaged", "good", "good"]);
    mirror.admin(dir.path(), "gc", json!({})).await;
    assert_eq!(fs::read_dir(dir.path().join("quarantine")).expect("a folder").count(), 0);
    assert_eq!(stock(&mirror, dir.path(), "*/*").await.len(), 2);
}

#[tokio::test]
async fn the_commands_work_beside_a_running_server_and_without_one() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let with = cache(dir.path(), &["ls"]).await;
    assert_eq!(with.status.code(), Some(0), "{}", said(&with));
    assert_eq!(said(&with).lines().count(), 4, "{}", said(&with));
    mirror.stop().await;
    assert_eq!(said(&cache(dir.path(), &["ls", "--sort", "name"]).await).lines().count(), 4);
    let stats = cache(dir.path(), &["stats"]).await;
    assert!(said(&stats).contains("github:devsapp/fc3 (2 zips; "), "{}", said(&stats));
    let verified = cache(dir.path(), &["verify"]).await;
    assert_eq!(verified.status.code(), Some(0));
    assert!(said(&verified).contains("3 zips") && said(&verified).contains("0 damaged"), "{}", said(&verified));

    let lock = dir.path().join("srm-mirror.lock");
    let locked = cache(dir.path(), &["lock", "devsapp/fc3", "--file", lock.to_str().expect("text")]).await;
    assert_eq!(locked.status.code(), Some(0), "{}", said(&locked));
    let text = fs::read_to_string(&lock).expect("written");
    let read: toml::Table = toml::from_str(&text).expect("TOML");
    assert_eq!(read["package"].as_array().map(Vec::len), Some(2));
    assert!(text.contains(&forge.sha256("devsapp/fc3", "v1.0.0")) && text.contains("first_seen"), "{text}");
}

#[tokio::test]
async fn destructive_commands_need_yes_without_a_terminal() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await.stop().await;
    for (arguments, code, left) in [
        (&["rm", "devsapp/fc3@1.0.0"][..], 64, 3),
        (&["rm", "devsapp/fc3@1.0.0", "--dry-run"], 0, 3),
        (&["rm", "devsapp/nothing", "--yes"], 1, 3),
        (&["rm", "not a pattern", "--yes"], 64, 3),
        (&["rm", "devsapp/fc3@1.0.0", "--yes"], 0, 2),
        (&["keep", "devsapp/fc3"], 0, 2),
        (&["keep", "devsapp/nothing"], 1, 2),
        (&["gc", "--unused", "0s", "--yes"], 0, 1),
        (&["unkeep", "devsapp/fc3"], 0, 1),
        (&["gc", "--unused", "1 fortnight", "--yes"], 64, 1),
    ] {
        let done = cache(dir.path(), arguments).await;
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", said(&done));
        assert_eq!(blobs(dir.path()).len(), left, "{arguments:?}: {}", said(&done));
    }
}

#[tokio::test]
async fn a_lock_of_nothing_leaves_the_lock_file_alone_and_fails() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    filled(&forge, dir.path()).await.stop().await;
    let file = dir.path().join("srm-mirror.lock");
    let name = file.to_str().expect("text");
    assert_eq!(cache(dir.path(), &["lock", "--file", name]).await.status.code(), Some(0));
    let before = fs::read(&file).expect("written");
    let done = cache(dir.path(), &["lock", "devsapp/nothing", "--file", name]).await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("no stored zip matches") && said(&done).contains(name), "{}", said(&done));
    assert_eq!(fs::read(&file).expect("still there"), before);
    let nowhere = dir.path().join("nowhere/srm-mirror.lock");
    let done = cache(dir.path(), &["lock", "--file", nowhere.to_str().expect("text")]).await;
    assert_eq!(done.status.code(), Some(74), "{}", said(&done));
    assert!(said(&done).contains("nowhere"), "{}", said(&done));
}
