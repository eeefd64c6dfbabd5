//! `offline` answers from the cache and opens no connection; `prefer-cache` fetches only what is missing.

use std::{path::Path, time::Duration};

use srm_mirror::cache::policy::UpstreamMode;

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
};

const LIST: &str = "/devsapp/fc3/releases";
const LATEST: &str = "/devsapp/fc3/releases/latest";
const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const MONTH: Duration = Duration::from_secs(30 * 86_400);

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let repo = forge.repo("devsapp/fc3").release("v1.0.0", |r| r.created_at("2024-01-01T00:00:00Z"));
    repo.release("v1.1.0", |r| r.created_at("2024-02-01T00:00:00Z"))
        .release("v2.0.0-rc.1", |r| r.created_at("2024-03-01T00:00:00Z").prerelease())
        .branch("topic", |b| b.file("index.js", b"topic"));
    forge
}

/// Fetches paths while online.
async fn warm(forge: &Forge, dir: &Path, paths: &[&str]) {
    let mirror = setup(forge).start_in(dir).await;
    for path in paths {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    mirror.stop().await;
}

async fn start(mode: UpstreamMode, forge: &Forge, dir: &Path) -> Mirror {
    let mirror = setup(forge).with(|config| config.mode = mode).start_in(dir).await;
    mirror.clock.advance(MONTH);
    mirror
}

#[tokio::test]
async fn offline_serves_stored_list_latest_tag_and_zip_and_opens_no_socket() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    warm(&forge, dir.path(), &[LIST, LATEST, ZIP, "/devsapp/fc3/zipball/topic", "/devsapp/fc3/flat/v1.0.0"]).await;
    let connections = forge.connections();
    let mirror = start(UpstreamMode::Offline, &forge, dir.path()).await;
    for path in [LIST, LATEST, "/devsapp/fc3/releases/tags/v1.1.0", "/devsapp/fc3/releases/tags/1.1.0"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        assert!(got.cache_status().starts_with("srm-mirror; hit; ttl=-"), "{path}: {}", got.cache_status());
        let detail = if path.ends_with("/1.1.0") { "detail=other-spelling" } else { "detail=offline" };
        assert!(got.cache_status().contains(detail), "{path}: {}", got.cache_status());
        assert!(got.header("age").parse::<u64>().expect("a number") >= MONTH.as_secs(), "{path}");
    }
    assert_eq!(mirror.get(LATEST).await.json()["tag_name"], "v1.1.0");
    for path in [ZIP, "/devsapp/fc3/zipball/1.0.0", "/devsapp/fc3/zipball/topic", "/devsapp/fc3/flat/v1.0.0"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        assert!(got.cache_status().starts_with("srm-mirror; hit"), "{path}: {}", got.cache_status());
    }
    assert_eq!(mirror.get("/healthz").await.status, 200);
    mirror.stop().await;
    assert_eq!(forge.connections(), connections, "a connection was opened");
}

#[tokio::test]
async fn offline_a_miss_is_an_error_and_opens_no_socket() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    warm(&forge, dir.path(), &[LIST]).await;
    let connections = forge.connections();
    let mirror = start(UpstreamMode::Offline, &forge, dir.path()).await;
    for (path, status) in [
        ("/devsapp/fc3/releases/tags/v9", 404),
        ("/devsapp/fc3/zipball/v9", 404),
        ("/repos/devsapp/fc3/releases/tags/v9", 404),
        // Its route begins at a registry, of which nothing is stored: that it lacks the package is not known.
        ("/simple/devsapp/fc3/releases/tags/v9", 503),
        ("/simple/github/devsapp/fc3/releases/tags/v9", 404),
        (ZIP, 503),
        ("/devsapp/other/releases", 503),
        ("/devsapp/other/releases/latest", 503),
        ("/devsapp/other/zipball/v1", 503),
        ("/devsapp/fc3/zipball/refs/heads/topic", 503),
        ("/gitee/devsapp/other/releases", 503),
    ] {
        // Twice: the miss is not remembered, because an import must take effect at once.
        for _ in 0..2 {
            let got = mirror.get(path).await;
            let text = String::from_utf8_lossy(&got.body).into_owned();
            assert_eq!(got.status, status, "{path}: {text}");
            assert!(text.contains("not in this mirror, which is offline"), "{path}: {text}");
            assert!(got.cache_status().contains("detail=offline"), "{path}: {}", got.cache_status());
            assert_eq!(got.header("retry-after"), "");
        }
    }
    mirror.stop().await;
    assert_eq!(forge.connections(), connections, "a connection was opened");
}

#[tokio::test]
async fn offline_the_newest_full_release_of_a_stored_list_is_latest() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    warm(&forge, dir.path(), &[LIST]).await;
    let mirror = start(UpstreamMode::Offline, &forge, dir.path()).await;
    let got = mirror.get(LATEST).await;
    assert_eq!((got.status, &got.json()["tag_name"]), (200, &"v1.1.0".into()));
}

#[tokio::test]
async fn offline_private_packages_stay_hidden() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.accept_token("T0KEN");
    let serve =
        |config: &mut srm_mirror::config::Config| config.packages.private = srm_mirror::registry::Private::Serve;
    forge.repo("devsapp/fc3").private();
    let mirror = setup(&forge).token("github", "T0KEN").with(serve).start_in(dir.path()).await;
    assert_eq!((mirror.get(LIST).await.status, mirror.get(ZIP).await.status), (200, 200));
    mirror.stop().await;
    for token in [true, false] {
        let offline = setup(&forge).with(|config| config.mode = UpstreamMode::Offline);
        let offline = if token { offline.token("github", "T0KEN") } else { offline };
        let mirror = offline.start_in(dir.path()).await;
        assert_ne!((mirror.get(LIST).await.status, mirror.get(ZIP).await.status), (200, 200), "token: {token}");
        assert!(mirror.get(ZIP).await.status >= 400);
        mirror.stop().await;
    }
}

#[tokio::test]
async fn prefer_cache_asks_only_for_what_is_missing() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    warm(&forge, dir.path(), &[LIST, ZIP]).await;
    let mirror = start(UpstreamMode::PreferCache, &forge, dir.path()).await;
    let asked = forge.requests().len();
    for path in [LIST, ZIP, "/devsapp/fc3/releases/tags/v1.0.0"] {
        assert_eq!(mirror.get(path).await.status, 200);
    }
    let list = mirror.get(LIST).await;
    assert!(list.cache_status().contains("hit; ttl=-"), "{}", list.cache_status());
    assert!(list.cache_status().contains("detail=prefer-cache"), "{}", list.cache_status());
    assert_eq!(forge.requests().len(), asked, "what is stored was asked for");
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.1.0").await.status, 200);
    assert!(forge.requests().len() > asked);
    // A release newer than the stored list is also a miss.
    forge.repo("devsapp/fc3").release("v3.0.0", |r| r);
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/3.0.0").await.status, 200);
}
