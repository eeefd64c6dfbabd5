//! Hits are counted per version, tier, upstream and package, and survive a restart.

use std::path::Path;

use serde_json::{Value, json};
use srm_mirror::value::ByteSize;

use crate::{
    cache_ops::{cache, said},
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, setup},
    process::Launch,
};

const SMALL: &str = "/devsapp/fc3/zipball/v1.0.0";
const LARGE: &str = "/devsapp/fc3/zipball/v1.1.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let small = |r: crate::forge::Spec| r.noise("data.bin", 1, 10_000);
    forge.repo("devsapp/fc3").release("v1.0.0", small).release("v1.1.0", |r| r.noise("data.bin", 2, 300_000));
    forge.gitee_repo("devsapp/demo").release("v0.0.1", |r| r);
    forge
}

/// A mirror with the small zip in memory and the large one only on disk.
async fn filled(forge: &Forge, dir: &Path) -> Mirror {
    let mirror = setup(forge).with(|config| config.memory.archive_max = ByteSize(100 << 10)).start_in(dir).await;
    for path in [SMALL, LARGE, "/gitee/devsapp/demo/zipball/v0.0.1"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    eventually("all are stored", async || stock(&mirror, dir).await.len() == 3).await;
    mirror
}

async fn stock(mirror: &Mirror, dir: &Path) -> Vec<Value> {
    mirror.admin(dir, "stock", json!({"sort": "hits"})).await
}

/// Version, hits and bytes served, most hits first.
fn told(items: &[Value]) -> Vec<(&str, u64, u64)> {
    let number = |item: &Value, name: &str| item[name].as_u64().expect("a number");
    items
        .iter()
        .map(|item| (item["version"].as_str().expect("a text"), number(item, "hits"), number(item, "served")))
        .collect()
}

fn sum(value: &Value) -> (u64, u64) {
    (value["hits"].as_u64().expect("hits"), value["served"].as_u64().expect("bytes"))
}

#[tokio::test]
async fn hits_and_bytes_are_counted_by_version_tier_upstream_and_package() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    assert!(told(&stock(&mirror, dir.path()).await).iter().all(|(_, hits, bytes)| (*hits, *bytes) == (0, 0)));
    let small = forge.zip_bytes("devsapp/fc3", "v1.0.0").len();
    let large = forge.zip_bytes("devsapp/fc3", "v1.1.0").len();
    let small = small as u64;
    let large = large as u64;

    // Whole, in another dialect, HEAD, 304; then a range and the flat view of the other zip.
    let etag = mirror.get(SMALL).await.header("etag").to_owned();
    assert_eq!(mirror.get("/repos/devsapp/fc3/zipball/1.0.0").await.cache_status(), "srm-mirror; hit; detail=memory");
    assert_eq!(mirror.head(SMALL).await.status, 200);
    assert_eq!(mirror.get_with(SMALL, &[("if-none-match", &etag)]).await.status, 304);
    assert_eq!(mirror.get(LARGE).await.cache_status(), "srm-mirror; hit; detail=disk");
    assert_eq!(mirror.get_with(LARGE, &[("range", "bytes=0-999")]).await.status, 206);
    // Listing and warming are no hits.
    let ended = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3@all"]).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let items = stock(&mirror, dir.path()).await;
    let expected = [("v1.0.0", 4, 2 * small), ("v1.1.0", 2, large + 1000), ("v0.0.1", 0, 0)];
    assert_eq!(told(&items), expected);
    assert!(items.iter().all(|item| item["pinned"] == true));
    let stats = &mirror.admin(dir.path(), "stats", json!({})).await[0];
    assert_eq!((sum(&stats["memory"]), sum(&stats["disk"])), ((4, 2 * small), (2, large + 1000)));
    assert_eq!(sum(&stats["upstreams"]["github"]), (6, 2 * small + large + 1000));
    assert_eq!(sum(&stats["upstreams"]["gitee"]), (0, 0));
    let busiest = stats["busiest"].as_array().expect("a list");
    assert_eq!(
        (busiest.len(), &busiest[0]["package"], sum(&busiest[0])),
        (1, &json!("devsapp/fc3"), (6, 2 * small + large + 1000))
    );

    let flat = mirror.get("/devsapp/fc3/flat/v1.1.0").await;
    assert_eq!(told(&stock(&mirror, dir.path()).await)[1], ("v1.1.0", 3, large + 1000 + flat.body.len() as u64));

    let table = said(&cache(dir.path(), &["ls", "--sort", "hits", "--limit", "1"]).await);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines.len(), lines[0][6], lines[1][1], lines[1][7]), (2, "HITS", "v1.0.0", "4"), "{table}");
    let text = said(&cache(dir.path(), &["stats"]).await);
    assert!(text.contains("github:devsapp/fc3 (2 zips; 7 hits, "), "{text}");
}

#[tokio::test]
async fn hits_survive_a_restart_and_go_with_the_zip_or_with_the_index() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    for _ in 0..3 {
        assert_eq!(mirror.get(LARGE).await.status, 200);
    }
    mirror.stop().await;
    let hits = async |mirror: &Mirror| {
        let items = stock(mirror, dir.path()).await;
        let item = items.iter().find(|item| item["version"] == "v1.1.0").expect("stored");
        item["hits"].as_u64().expect("a number")
    };
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(hits(&mirror).await, 3);
    assert_eq!(mirror.get(LARGE).await.status, 200);
    // Updating the row keeps its counters.
    mirror.admin(dir.path(), "keep", json!({"pattern": "devsapp/fc3@1.1.0"})).await;
    assert_eq!(hits(&mirror).await, 4);
    mirror.stop().await;

    std::fs::remove_file(dir.path().join("index.redb")).expect("removed");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(hits(&mirror).await, 0);
    assert_eq!(mirror.get(LARGE).await.status, 200);
    assert_eq!(hits(&mirror).await, 1);
    mirror.admin(dir.path(), "rm", json!({"pattern": "devsapp/fc3@1.1.0"})).await;
    assert_eq!(mirror.get(LARGE).await.status, 200);
    eventually("it is stored again", async || stock(&mirror, dir.path()).await.len() == 3).await;
    assert_eq!(hits(&mirror).await, 0);
}

#[tokio::test]
async fn export_check_and_import_plan_are_no_uses() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = filled(&forge, dir.path()).await;
    let before = stock(&mirror, dir.path()).await;
    let bundle = dir.path().join("bundle.tar");
    let bundle = bundle.to_str().expect("text");
    for arguments in
        [&["export", bundle][..], &["verify"], &["import", bundle, "--dry-run"], &["lock", "--file", bundle]]
    {
        let done = cache(dir.path(), arguments).await;
        assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", said(&done));
    }
    assert_eq!(stock(&mirror, dir.path()).await, before);
    assert_eq!(mirror.get(LARGE).await.status, 200);
    assert_ne!(stock(&mirror, dir.path()).await, before);
}
