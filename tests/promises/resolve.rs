//! A version resolves to a zip with the fewest upstream requests, in a fixed order: a pin, the release list, a tag
//! without a release, a branch. Each step is tested for its requests and its result.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    eventually::eventually,
    forge::{Forge, Host, Match},
    mirror::{Mirror, TestResponse, setup},
};

const NAME: &str = "devsapp/fc3";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo(NAME).release("v1.0.0", |r| r).release("v1.1.0", |r| r).release("2.0.0", |r| r);
    forge
}

/// The upstream requests since the last call, abbreviated.
fn take_requests(forge: &Forge) -> Vec<String> {
    let word = |seen: &crate::forge::Seen| {
        let path = seen.path().strip_prefix("/repos/devsapp/fc3").unwrap_or_default().to_owned();
        match (seen.host, path.as_str()) {
            (Host::Archive, _) => "archive".to_owned(),
            (_, "/releases") => "list".to_owned(),
            (_, path) if path.starts_with("/zipball/") => "zip ".to_owned() + path.trim_start_matches("/zipball/"),
            (_, path) => path.trim_start_matches('/').to_owned(),
        }
    };
    let words = forge.requests().iter().map(word).collect();
    forge.clear_log();
    words
}

async fn zip(mirror: &Mirror, version: &str) -> TestResponse {
    mirror.get(&format!("/devsapp/fc3/zipball/{version}")).await
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

#[tokio::test]
async fn a_listed_version_costs_the_list_and_its_zip_then_nothing_in_either_spelling_for_an_hour() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let first = zip(&mirror, "1.0.0").await;
    assert_eq!((first.status, first.sha256()), (200, forge.sha256(NAME, "v1.0.0")));
    assert_eq!(first.header("cache-control"), IMMUTABLE);
    assert_eq!(first.header("content-disposition"), "attachment; filename=\"fc3-v1.0.0.zip\"");
    let other = ["zip refs/tags/1.0.0", "archive"];
    assert_eq!(take_requests(&forge), [&["list"][..], &other, &["zip refs/tags/v1.0.0", "archive"]].concat());
    for spelling in ["1.0.0", "v1.0.0", "refs/tags/v1.0.0"] {
        assert_eq!(zip(&mirror, spelling).await.sha256(), first.sha256(), "{spelling}");
    }
    assert!(take_requests(&forge).is_empty(), "a pin needs no list and no upstream");
    mirror.clock.advance(secs(3500));
    assert_eq!(zip(&mirror, "1.0.0").await.sha256(), first.sha256());
    assert_eq!(take_requests(&forge), ["list"], "that there is no tag 1.0.0 is remembered for an hour");
    assert_eq!(zip(&mirror, "v2.0.0").await.sha256(), forge.sha256(NAME, "2.0.0"), "the list's v is toggled off");
    assert_eq!(take_requests(&forge), ["zip refs/tags/v2.0.0", "archive", "zip refs/tags/2.0.0", "archive"]);
}

#[tokio::test]
async fn a_stored_list_is_enough_however_old_and_with_the_api_down() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    take_requests(&forge);
    mirror.clock.advance(secs(30 * 86_400));
    assert_eq!(zip(&mirror, "v1.1.0").await.status, 200);
    assert_eq!(take_requests(&forge), ["zip refs/tags/v1.1.0", "archive"]);
    forge.down().await;
    mirror.clock.advance(secs(30 * 86_400));
    assert_eq!(zip(&mirror, "v1.1.0").await.status, 200, "pinned and stored");
    assert_eq!(zip(&mirror, "v1.0.0").await.status, 502, "listed, but its zip was never seen");
    assert_eq!(zip(&mirror, "v1.0.0").await.status, 503, "and cooling down");
    assert_eq!(zip(&mirror, "3.0.0").await.status, 502);
}

#[tokio::test]
async fn with_a_token_a_version_missing_from_an_older_list_revalidates_it_once_in_five_seconds() {
    let forge = forge().await;
    forge.accept_token("T0KEN");
    let mirror = setup(&forge).token("github", "T0KEN").start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    forge.repo(NAME).release("v1.2.0", |r| r);
    take_requests(&forge);
    mirror.clock.advance(secs(6));
    assert_eq!(zip(&mirror, "v1.2.0").await.sha256(), forge.sha256(NAME, "v1.2.0"), "a fresh release is found at once");
    assert_eq!(take_requests(&forge), ["list", "zip refs/tags/v1.2.0", "archive"]);

    let nowhere = zip(&mirror, "none-1").await;
    assert_eq!(nowhere.status, 404);
    let message = nowhere.json()["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("devsapp/fc3 on github has no version none-1"), "{message}");
    assert_eq!(
        take_requests(&forge),
        ["zip refs/tags/none-1", "archive", "commits/heads/none-1"],
        "the list is seconds old"
    );
    assert_eq!(zip(&mirror, "none-1").await.status, 404);
    assert!(take_requests(&forge).is_empty(), "a 404 is remembered");
    mirror.clock.advance(secs(6));
    assert_eq!(zip(&mirror, "none-2").await.status, 404);
    assert_eq!(take_requests(&forge), ["list", "zip refs/tags/none-2", "archive", "commits/heads/none-2"]);

    forge.repo(NAME).release("v1.3.0", |r| r);
    mirror.clock.advance(secs(6));
    let release = mirror.get("/devsapp/fc3/releases/tags/v1.3.0").await;
    assert_eq!((release.status, release.json()["tag_name"].as_str()), (200, Some("v1.3.0")));
    assert_eq!(take_requests(&forge), ["list"]);
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/v1.4.0").await.status, 404);
    assert!(take_requests(&forge).is_empty(), "the list was confirmed seconds ago");
}

#[tokio::test]
async fn without_a_token_a_fresh_list_is_not_asked_for_again_and_the_tag_is() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    forge.repo(NAME).release("v1.2.0", |r| r);
    take_requests(&forge);
    mirror.clock.advance(secs(200));
    let release = mirror.get("/devsapp/fc3/releases/tags/v1.2.0").await;
    assert_eq!((release.status, release.json()["tag_name"].as_str()), (200, Some("v1.2.0")));
    assert_eq!(take_requests(&forge)[0], "releases/tags/v1.2.0");
    eventually("the list has it", async || mirror.get("/devsapp/fc3/releases").await.json()[0]["tag_name"] == "v1.2.0")
        .await;
    take_requests(&forge);
    assert_eq!(zip(&mirror, "v1.2.0").await.status, 200);
    assert_eq!(take_requests(&forge), ["zip refs/tags/v1.2.0", "archive"]);
}

#[tokio::test]
async fn a_tag_without_a_release_is_found_with_or_without_a_slash_in_it() {
    let forge = forge().await;
    forge.repo(NAME).tag_only("nightly").tag_only("release/2024.1");
    let mirror = setup(&forge).start().await;
    let got = zip(&mirror, "nightly").await;
    assert_eq!((got.sha256(), got.header("cache-control")), (forge.sha256(NAME, "nightly"), IMMUTABLE));
    assert_eq!(take_requests(&forge), ["list", "zip refs/tags/nightly", "archive"]);
    let literal = zip(&mirror, "release/2024.1").await;
    assert_eq!(literal.sha256(), forge.sha256(NAME, "release/2024.1"));
    assert_eq!(literal.header("content-disposition"), "attachment; filename=\"fc3-release-2024.1.zip\"");
    assert_eq!(take_requests(&forge), ["zip refs/tags/release/2024.1", "archive"]);
    for same in ["release%2F2024.1", "release%2f2024.1", "refs/tags/release/2024.1", "refs%2Ftags%2Frelease%2F2024.1"] {
        assert_eq!(zip(&mirror, same).await.sha256(), literal.sha256(), "{same}");
    }
    assert!(take_requests(&forge).is_empty());
}

#[tokio::test]
async fn a_branch_is_cached_for_a_minute_and_revalidated_by_its_commit() {
    let forge = forge().await;
    forge.repo(NAME).branch("dev/next", |b| b.file("index.js", "1"));
    let mirror = setup(&forge).start().await;
    let first_commit = forge.repo(NAME).commit("dev/next");
    let first_zip = forge.sha256(NAME, "dev/next");
    let first = zip(&mirror, "dev/next").await;
    assert_eq!((first.status, first.sha256()), (200, first_zip.clone()));
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    let by_commit = format!("zip {first_commit}");
    let tag = ["list", "zip refs/tags/dev/next", "archive"];
    assert_eq!(take_requests(&forge), [&tag[..], &["commits/heads/dev%2Fnext", &by_commit, "archive"]].concat());

    mirror.clock.advance(secs(58));
    assert_eq!(zip(&mirror, "dev/next").await.sha256(), first_zip);
    assert!(take_requests(&forge).is_empty(), "fresh");

    mirror.clock.advance(secs(4));
    let same = zip(&mirror, "refs/heads/dev/next").await;
    assert_eq!((same.sha256(), same.cache_status()), (first_zip.clone(), "srm-mirror; fwd=stale; fwd-status=304"));
    assert_eq!(same.header("age"), "0", "what ages is the commit's word, which was just renewed");
    assert_eq!(take_requests(&forge), ["commits/heads/dev%2Fnext"], "unchanged: no download");

    forge.repo(NAME).branch("dev/next", |b| b.file("index.js", "2"));
    assert_eq!(zip(&mirror, "dev/next").await.sha256(), first_zip, "fresh for a minute");
    mirror.clock.advance(secs(61));
    take_requests(&forge);
    let moved = zip(&mirror, "dev/next").await;
    assert_eq!(moved.sha256(), forge.sha256(NAME, "dev/next"));
    assert_ne!(moved.sha256(), first_zip);
    let by_commit = format!("zip {}", forge.repo(NAME).commit("dev/next"));
    assert_eq!(
        take_requests(&forge),
        ["commits/heads/dev%2Fnext", &by_commit, "archive"],
        "that it is no tag is remembered"
    );

    forge.down().await;
    mirror.clock.advance(secs(3600));
    for spelling in ["dev/next", "refs/heads/dev/next"] {
        let stale = zip(&mirror, spelling).await;
        assert_eq!((stale.status, stale.sha256()), (200, moved.sha256()), "{spelling}");
        assert!(stale.cache_status().contains("stale-if-error"), "{spelling}: {}", stale.cache_status());
        assert_eq!(stale.header("cache-control"), "public, max-age=60");
    }
    assert_eq!(zip(&mirror, "refs/heads/other").await.status, 502);
}

#[tokio::test]
async fn a_full_commit_is_fetched_without_list_or_tag_requests() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let commit = forge.repo(NAME).commit("v1.0.0");
    let got = zip(&mirror, &commit).await;
    assert_eq!((got.sha256(), got.header("cache-control")), (forge.sha256(NAME, &commit), IMMUTABLE));
    assert_eq!(take_requests(&forge), [format!("zip {commit}"), "archive".to_owned()]);
    forge.down().await;
    assert_eq!(zip(&mirror, &commit).await.status, 200);
    assert_eq!(zip(&mirror, &"0".repeat(40)).await.status, 502);
}

#[tokio::test]
async fn refs_tags_is_only_a_tag_and_refs_heads_only_a_branch() {
    let forge = forge().await;
    forge.repo(NAME).tag_only("dup").branch("dup", |b| b.file("b", "branch"));
    let mirror = setup(&forge).start().await;
    let tag = forge.sha256(NAME, "refs/tags/dup");
    let branch = forge.sha256(NAME, "refs/heads/dup");
    assert_ne!(tag, branch);
    assert_eq!(zip(&mirror, "refs/heads/dup").await.sha256(), branch);
    assert_eq!(take_requests(&forge)[0], "commits/heads/dup", "a branch needs no list");
    mirror.clock.advance(secs(61));
    let plain = zip(&mirror, "dup").await;
    assert_eq!((plain.sha256(), plain.header("cache-control")), (tag.clone(), IMMUTABLE), "a tag goes before a branch");
    assert_eq!(zip(&mirror, "refs/tags/dup").await.sha256(), tag);
    assert_eq!(zip(&mirror, "refs/heads/dup").await.sha256(), branch);
    take_requests(&forge);
    assert_eq!(zip(&mirror, "refs/tags/main").await.status, 404, "main is no tag");
    assert_eq!(take_requests(&forge), ["zip refs/tags/main", "archive"]);
    assert_eq!(zip(&mirror, "refs/heads/v1.0.0").await.status, 404, "v1.0.0 is no branch");
    assert_eq!(take_requests(&forge), ["commits/heads/v1.0.0"]);
    assert_eq!(zip(&mirror, "refs/tags/1.0.0").await.status, 404, "exact means exact");
}

#[tokio::test]
async fn requests_during_the_tag_attempt_of_a_branch_get_the_branch() {
    let forge = forge().await;
    let gate = forge.gate_head(Match::path_contains("refs/tags/main"));
    let mirror = setup(&forge).start().await;
    let first = async { zip(&mirror, "main").await };
    let later = async {
        gate.reached().await;
        let (all, _) = tokio::join!(join_all((0..8).map(|_| zip(&mirror, "main"))), async {
            // Usually long enough for the others to wait; if it is not, they are served all the same.
            for _ in 0..20 {
                mirror.get("/healthz").await;
            }
            gate.open();
        });
        all
    };
    let (first, mut all) = tokio::join!(first, later);
    all.push(first);
    for got in all {
        assert_eq!((got.status, got.header("cache-control")), (200, "public, max-age=60"));
    }
}

#[tokio::test]
async fn an_unreachable_forge_maps_every_step_to_its_error() {
    let forge = forge().await;
    forge.down().await;
    let mirror = setup(&forge).start().await;
    for (version, status) in [("1.0.0", 502), ("1.0.0", 503), ("nightly", 502), ("refs/tags/a", 502)] {
        assert_eq!(zip(&mirror, version).await.status, status, "{version}");
    }
    forge.up().await;
    mirror.clock.advance(secs(6));
    assert_eq!(zip(&mirror, "1.0.0").await.status, 200);
}
