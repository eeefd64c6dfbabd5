//! A response of the last second is sent again from the response cache, and equals the one a new lookup would give.

use std::time::Duration;

use srm_mirror::entry::Key;

use crate::{
    forge::Forge,
    mirror::{Mirror, TestResponse, setup},
    zips::eventually,
};

const PREPARED: [&str; 6] = [
    "/devsapp/fc3/releases",
    "/devsapp/fc3/releases/latest",
    "/devsapp/fc3/releases/tags/1.0.0",
    "/repos/devsapp/fc3",
    "/repos/devsapp/fc3/releases?per_page=1",
    "/simple/devsapp/fc3/releases",
];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    forge
}

/// Requests until a hit is in the response cache, then once more.
async fn again(mirror: &Mirror, path: &str, headers: &[(&str, &str)]) -> [TestResponse; 2] {
    mirror.get_with(path, headers).await;
    [mirror.get_with(path, headers).await, mirror.get_with(path, headers).await]
}

#[tokio::test]
async fn a_repeated_response_differs_only_in_its_request_id() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    for path in PREPARED {
        let [mut first, mut second] = again(&mirror, path, &[]).await;
        assert_eq!(first.status, 200, "{path}");
        assert_ne!(first.header("x-request-id"), second.header("x-request-id"), "{path}");
        // The second may have changed between the two requests.
        for name in ["x-request-id", "date", "age", "cache-status"] {
            assert!(first.headers.remove(name).is_some() && second.headers.remove(name).is_some(), "{path}: {name}");
        }
        assert_eq!((first.headers, first.body), (second.headers, second.body), "{path}");
    }
}

#[tokio::test]
async fn every_input_of_a_response_takes_effect_right_after_a_cached_one() {
    let forge = forge().await;
    let mirror = setup(&forge)
        .with(|config| config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")])
        .start()
        .await;
    for path in PREPARED {
        let [_, got] = again(&mirror, path, &[]).await;
        let shows = |got: &TestResponse, host: &str| String::from_utf8_lossy(&got.body).contains(&format!("//{host}/"));
        let etag = got.header("etag");
        assert_eq!(mirror.get_with(path, &[("if-none-match", etag)]).await.status, 304, "{path}");
        assert_eq!(mirror.get_with(path, &[("if-match", "\"other\"")]).await.status, 412, "{path}");
        assert!(shows(&mirror.get_with(path, &[("host", "a.example")]).await, "a.example"), "{path}");
        assert!(shows(&mirror.get_with(path, &[("x-forwarded-host", "b.example")]).await, "b.example"), "{path}");
        assert_eq!(mirror.get_with(path, &[("host", "a b")]).await.status, 400, "{path}");
        let head = mirror.head(path).await;
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, etag), "{path}");
        let posted = mirror.request(reqwest::Method::POST, path, &[]).await.expect("an answer");
        assert_eq!(posted.status, 405, "{path}");
    }
}

#[tokio::test]
async fn the_age_of_a_repeated_response_advances() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let [_, got] = again(&mirror, PREPARED[0], &[]).await;
    let age: u64 = got.header("age").parse().expect("seconds");
    mirror.clock.advance(Duration::from_secs(20));
    let later: u64 = mirror.get(PREPARED[0]).await.header("age").parse().expect("seconds");
    assert!((age + 20..age + 25).contains(&later), "{age} then {later}");
    // Stale: revalidated in the background; a request after that gets the new document.
    mirror.clock.advance(Duration::from_secs(400));
    assert!(mirror.get(PREPARED[0]).await.cache_status().contains("stale-while-revalidate"));
}

#[tokio::test]
async fn a_changed_document_invalidates_cached_responses_at_once() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let path = "/devsapp/fc3/releases";
    let [_, old] = again(&mirror, path, &[]).await;
    assert_eq!(old.json().as_array().map(Vec::len), Some(2));
    forge.repo("devsapp/fc3").release("v1.2.0", |r| r);
    // A version missing from the list revalidates the list within the same second.
    mirror.clock.advance(Duration::from_secs(6));
    again(&mirror, path, &[]).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/v1.2.0").await.status, 200);
    assert_eq!(mirror.get(path).await.json().as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn more_urls_than_a_thread_caches_are_all_answered() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    mirror.get("/devsapp/fc3/releases").await;
    for turn in 0..5000 {
        let host = format!("n{turn}.example");
        let got = mirror.get_with("/devsapp/fc3/releases/latest", &[("host", &host)]).await;
        let url = got.json()["zipball_url"].as_str().expect("a text").to_owned();
        assert_eq!(url, format!("http://{host}/devsapp/fc3/zipball/v1.1.0"));
    }
}

/// Two zips: one in memory, one sent from disk.
async fn with_zips(dir: &std::path::Path) -> (Forge, Mirror) {
    let forge = Forge::start().await;
    let small = |r: crate::forge::Spec| r.noise("data.bin", 1, 10_000);
    forge.repo("devsapp/fc3").release("v1.0.0", small).release("v1.1.0", |r| r.noise("data.bin", 2, 300_000));
    let mirror = setup(&forge).with(|config| config.memory.archive_max.0 = 100 << 10).start_in(dir).await;
    for path in ZIPS {
        mirror.get(path).await;
        eventually("stored", || mirror.cache.archives().running_fills() == 0).await;
    }
    (forge, mirror)
}

const ZIPS: [&str; 2] = ["/devsapp/fc3/zipball/v1.0.0", "/devsapp/fc3/zipball/1.1.0"];

#[tokio::test]
async fn a_repeated_zip_is_the_same_zip_and_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (forge, mirror) = with_zips(dir.path()).await;
    for (path, tag) in ZIPS.into_iter().zip(["v1.0.0", "v1.1.0"]) {
        let [mut first, mut second] = again(&mirror, path, &[]).await;
        assert_eq!((first.status, first.sha256()), (200, forge.sha256("devsapp/fc3", tag)), "{path}");
        assert!(second.cache_status().starts_with("srm-mirror; hit; detail="), "{}", second.cache_status());
        for name in ["x-request-id", "date", "age"] {
            assert!(first.headers.remove(name).is_some() && second.headers.remove(name).is_some(), "{path}: {name}");
        }
        assert_eq!((&first.headers, &first.body), (&second.headers, &second.body), "{path}");
        let part = mirror.get_with(path, &[("range", "bytes=5-9")]).await;
        assert_eq!((part.status, &part.body[..]), (206, &second.body[5..10]), "{path}");
        let etag = second.header("etag");
        assert_eq!(mirror.get_with(path, &[("if-none-match", etag)]).await.status, 304, "{path}");
        let head = mirror.head(path).await;
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, etag), "{path}");
    }
    let stock = mirror.admin(dir.path(), "stock", serde_json::json!({})).await;
    let hits: Vec<_> = stock.iter().map(|item| item["hits"].as_u64()).collect();
    assert_eq!(hits, [Some(6), Some(6)], "three whole, a part, a condition and a head of each");
}

#[tokio::test]
async fn a_removed_or_quarantined_zip_is_not_sent_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_forge, mirror) = with_zips(dir.path()).await;
    for path in ZIPS {
        // The second client disconnected with the first.
        mirror.get(path).await;
        eventually("stored", || mirror.cache.archives().running_fills() == 0).await;
        again(&mirror, path, &[]).await;
        mirror.admin(dir.path(), "rm", serde_json::json!({"pattern": "devsapp/fc3"})).await;
        let got = mirror.get(path).await;
        assert!(got.cache_status().contains("fwd=uri-miss"), "{path}: {}", got.cache_status());
        eventually("stored", || mirror.cache.archives().running_fills() == 0).await;
    }
    for (path, tag) in ZIPS.into_iter().zip(["v1.0.0", "v1.1.0"]) {
        mirror.get(path).await;
        eventually("stored", || mirror.cache.archives().running_fills() == 0).await;
        again(&mirror, path, &[]).await;
        let key = Key::new(format!("github/devsapp/fc3/tag/{tag}"));
        let object = mirror.cache.archive_tiers().peek(&key).await.expect("readable").expect("stored");
        mirror.cache.archive_tiers().quarantine(&object).await;
        let got = mirror.get(path).await;
        assert!(got.cache_status().contains("fwd=uri-miss"), "{path}: {}", got.cache_status());
        eventually("stored", || mirror.cache.archives().running_fills() == 0).await;
    }
}

#[tokio::test]
async fn a_cached_response_keeps_no_removed_zip_on_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_forge, mirror) = with_zips(dir.path()).await;
    again(&mirror, ZIPS[1], &[]).await;
    let before = mirror.cache.usage().disk_areas.blobs;
    mirror.admin(dir.path(), "rm", serde_json::json!({"pattern": "devsapp/fc3"})).await;
    assert!(before > 300_000);
    assert_eq!(mirror.cache.usage().disk_areas.blobs, 0, "an open file would still take its room");
}
