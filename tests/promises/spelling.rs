//! `v1.0.0` and `1.0.0` are two names: exactly the one that was asked for is served, in every dialect. The other one is served
//! only in place of a name that does not exist, or that the upstream cannot be asked for.

use std::{path::Path, time::Duration};

use srm_mirror::cache::policy::UpstreamMode;

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Host, Match},
    mirror::{Mirror, Setup, setup},
};

const NAME: &str = "devsapp/fc3";
const BOTH: [&str; 2] = ["v1.0.0", "1.0.0"];

/// Both spellings, with different content.
async fn both() -> Forge {
    let forge = Forge::start().await;
    let repo = forge.repo(NAME);
    repo.release("v1.0.0", |r| r.file("index.js", "with v")).release("1.0.0", |r| r.file("index.js", "without v"));
    forge
}

async fn zip(mirror: &Mirror, version: &str) -> crate::mirror::TestResponse {
    mirror.get(&format!("/devsapp/fc3/zipball/{version}")).await
}

/// The requests to the API since the last call: `list`, `zip TAG`, `release TAG`, `branch NAME`, `tags`, `branches`.
fn take_requests(forge: &Forge) -> Vec<String> {
    let seen = forge.requests();
    forge.clear_log();
    let of_api = seen.iter().filter(|seen| seen.host == Host::GithubApi);
    let paths = of_api.map(|seen| seen.path().trim_start_matches("/repos/devsapp/fc3/").to_owned());
    paths
        .map(|path| if path == "releases" { "list".to_owned() } else { path.replace("zipball/refs/tags/", "zip ") })
        .collect()
}

fn offline(setup: Setup) -> Setup {
    setup.with(|config| config.mode = UpstreamMode::Offline)
}

/// Stores the zips of `versions`, and the list where `with_list`.
async fn filled(forge: &Forge, dir: &Path, versions: &[&str], with_list: bool) {
    let mirror = setup(forge).start_in(dir).await;
    for version in versions {
        assert_eq!(zip(&mirror, &format!("refs/tags/{version}")).await.status, 200);
    }
    if with_list {
        assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    }
    mirror.stop().await;
}

#[tokio::test]
async fn whichever_spelling_is_stored_first_each_has_its_own_zip_and_json_in_every_dialect() {
    for first in BOTH {
        let forge = both().await;
        forge.rate_limits(1000, 1000);
        let mirror = Mirror::over(&forge).await;
        assert_eq!(zip(&mirror, first).await.sha256(), forge.sha256(NAME, first));
        for version in BOTH {
            let expected = forge.sha256(NAME, version);
            for path in [
                format!("/devsapp/fc3/zipball/{version}"),
                format!("/github/devsapp/fc3/zipball/refs/tags/{version}"),
                format!("/repos/devsapp/fc3/zipball/{version}"),
                format!("/simple/devsapp/fc3/zipball/{version}"),
            ] {
                assert_eq!(mirror.get(&path).await.sha256(), expected, "{first} first: {path}");
            }
            for (path, pointer) in [
                (format!("/devsapp/fc3/releases/tags/{version}"), "/tag_name"),
                (format!("/repos/devsapp/fc3/releases/tags/{version}"), "/tag_name"),
                (format!("/simple/devsapp/fc3/releases/tags/{version}"), "/Response/tag_name"),
                (format!("/v3/packages/devsapp__fc3/release/tags/{version}"), "/body/tag_name"),
            ] {
                let json = mirror.get(&path).await.json();
                assert_eq!(json.pointer(pointer).and_then(|tag| tag.as_str()), Some(version), "{first} first: {path}");
            }
        }
        let flat =
            async |version: &str| mirror.get(&format!("/v3/packages/devsapp__fc3/zipball/{version}")).await.sha256();
        assert_ne!(flat("v1.0.0").await, flat("1.0.0").await, "{first} first");
    }
}

#[tokio::test]
async fn a_tag_without_a_release_goes_before_a_release_in_the_other_spelling() {
    let forge = Forge::start().await;
    forge.repo(NAME).release("v1.0.0", |r| r).tag("1.0.0", |r| r.file("index.js", "the tag"));
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    take_requests(&forge);
    assert_eq!(zip(&mirror, "1.0.0").await.sha256(), forge.sha256(NAME, "1.0.0"));
    assert_eq!(take_requests(&forge), ["zip 1.0.0"]);
    assert_eq!(
        mirror.get("/devsapp/fc3/releases/tags/1.0.0").await.status,
        404,
        "JSON names no other version than the zip"
    );
}

#[tokio::test]
async fn the_other_spelling_is_served_once_the_exact_one_is_known_not_to_exist() {
    let forge = Forge::start().await;
    forge.repo(NAME).release("v1.0.0", |r| r).tag_only("2.0.0").branch("v3", |b| b.file("a", "branch"));
    let mirror = Mirror::over(&forge).await;
    let got = zip(&mirror, "1.0.0").await;
    assert_eq!(got.sha256(), forge.sha256(NAME, "v1.0.0"));
    assert!(!got.cache_status().contains("other-spelling"), "{}", got.cache_status());
    assert_eq!(take_requests(&forge), ["list", "zip 1.0.0", "zip v1.0.0"]);
    assert_eq!(zip(&mirror, "v2.0.0").await.sha256(), forge.sha256(NAME, "2.0.0"), "a tag without a release");
    assert_eq!(take_requests(&forge), ["zip v2.0.0", "zip 2.0.0"]);
    let branch = zip(&mirror, "v3").await;
    assert_eq!((branch.sha256(), branch.header("cache-control")), (forge.sha256(NAME, "v3"), "public, max-age=60"));
}

#[tokio::test]
async fn the_v_is_optional_before_any_digit() {
    let forge = Forge::start().await;
    forge.rate_limits(1000, 1000);
    for tag in ["v2", "v2.1", "v1.2.3.4", "2024.01.05"] {
        forge.repo(NAME).release(tag, |r| r.file("index.js", tag));
    }
    let mirror = Mirror::over(&forge).await;
    for (version, tag) in [("2", "v2"), ("2.1", "v2.1"), ("1.2.3.4", "v1.2.3.4"), ("v2024.01.05", "2024.01.05")] {
        assert_eq!(zip(&mirror, version).await.sha256(), forge.sha256(NAME, tag), "{version}");
        let release = mirror.get(&format!("/devsapp/fc3/releases/tags/{version}")).await;
        assert_eq!(release.json()["tag_name"], tag, "{version}");
    }
}

#[tokio::test]
async fn a_spelling_that_appears_later_is_served_within_an_hour_as_a_tag_and_at_once_as_a_listed_release() {
    let forge = Forge::start().await;
    forge.accept_token("T0KEN");
    forge.repo(NAME).release("v1.0.0", |r| r).release("v2.0.0", |r| r);
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    for version in ["1.0.0", "2.0.0"] {
        assert_eq!(zip(&mirror, version).await.sha256(), forge.sha256(NAME, &format!("v{version}")));
    }
    forge.repo(NAME).release("1.0.0", |r| r.file("a", "exact")).tag("2.0.0", |r| r.file("a", "exact"));
    mirror.clock.advance(Duration::from_secs(6));
    assert_eq!(zip(&mirror, "1.0.0").await.sha256(), forge.sha256(NAME, "1.0.0"), "the list has it");
    mirror.clock.advance(Duration::from_secs(3600));
    assert_eq!(zip(&mirror, "2.0.0").await.sha256(), forge.sha256(NAME, "2.0.0"));
}

#[tokio::test]
async fn with_the_upstream_down_or_offline_the_other_spelling_needs_a_list_or_to_be_the_only_one() {
    // What is stored; what is asked for; what is served, `None` for an error.
    let cases: [(&[&str], bool, &str, Option<&str>); 6] = [
        (&["v2.0.0"], false, "2.0.0", Some("v2.0.0")),
        (&["v2.0.0"], true, "2.0.0", Some("v2.0.0")),
        (&["v1.0.0", "1.0.0"], false, "1.0.0", Some("1.0.0")),
        (&["v1.0.0"], true, "1.0.0", None),
        (&["v1.0.0"], false, "1.0.0", Some("v1.0.0")),
        (&["3.0.0"], true, "v3.0.0", None),
    ];
    for (stored, with_list, version, served) in cases {
        for is_offline in [false, true] {
            let forge = both().await;
            forge.repo(NAME).release("v2.0.0", |r| r).tag_only("3.0.0");
            let dir = tempfile::tempdir().expect("a directory");
            filled(&forge, dir.path(), stored, with_list).await;
            forge.down().await;
            let mirror = setup(&forge);
            let mirror = if is_offline { offline(mirror) } else { mirror }.start_in(dir.path()).await;
            let got = zip(&mirror, version).await;
            let what = format!("{stored:?}, list {with_list}, offline {is_offline}: {version}");
            match served {
                Some(tag) => {
                    assert_eq!((got.status, got.sha256()), (200, forge.sha256(NAME, tag)), "{what}");
                    let is_marked = got.cache_status().contains("detail=other-spelling");
                    assert_eq!(is_marked, tag != version, "{what}: {}", got.cache_status());
                }
                None => assert!(got.status >= 404, "{what}: {}", got.status),
            }
        }
    }
}

#[tokio::test]
async fn json_in_trouble_follows_the_same_rule() {
    let forge = both().await;
    forge.repo(NAME).release("v2.0.0", |r| r);
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    forge.fault(Match::on(Host::GithubApi), Fault::status(502, &[], "")).always();
    mirror.clock.advance(Duration::from_secs(3600));
    let got = mirror.get("/devsapp/fc3/releases/tags/2.0.0").await;
    assert_eq!((got.status, got.json()["tag_name"].as_str()), (200, Some("v2.0.0")));
    assert!(got.cache_status().contains("detail=other-spelling"), "{}", got.cache_status());
    let exact = mirror.get("/devsapp/fc3/releases/tags/1.0.0").await;
    assert_eq!(exact.json()["tag_name"], "1.0.0");
    assert!(!exact.cache_status().contains("other-spelling"), "{}", exact.cache_status());
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/9.9.9").await.status, 502);
}

#[tokio::test]
async fn a_registry_version_in_trouble_is_served_in_the_only_spelling_that_was_seen() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("v1.0.0").version("1.0.0");
    let mirror = Mirror::over(&forge).await;
    let with_v = mirror.get("/official/fc3/flat/v1.0.0").await;
    let without = mirror.get("/official/fc3/flat/1.0.0").await;
    assert_eq!((with_v.status, without.status), (200, 200));
    eventually("both are stored", async || mirror.cache.archives().running_fills() == 0).await;
    crate::eventually::eventually("both are admitted", async || mirror.cache.archives().running_fills() == 0).await;
    mirror
        .cache
        .archives()
        .remove_all(&[srm_mirror::entry::Key::new("official:fc3/tag/1.0.0")])
        .await
        .expect("removed");
    forge.down().await;
    mirror.clock.advance(Duration::from_secs(2));
    let got = mirror.get("/official/fc3/flat/1.0.0").await;
    assert_eq!(got.status, 502, "a pinned version is never replaced by its other spelling: {}", got.cache_status());
    assert_eq!(mirror.get("/official/fc3/flat/v1.0.0").await.sha256(), with_v.sha256());
}
