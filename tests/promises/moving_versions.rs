//! Versions that are published again and again: fresh within a minute, never pinned, one conditional request when unchanged.

use std::time::Duration;

use srm_mirror::config::Config;

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Host, Match, RepoRef, Route, Validators},
    mirror::{Mirror, Setup, setup},
};

const DEV: &str = "/official/fc3/flat/dev";
const REVISIONS: &str = "official:fc3/moving/dev/";

fn moving(setup: Setup, upstream: &str, patterns: &[&str]) -> Setup {
    let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    setup.with(|config: &mut Config| config.upstreams.get_mut(upstream).expect("a default").moving = patterns)
}

pub async fn revisions(mirror: &Mirror) -> usize {
    mirror.cache.archive_tiers().revisions(REVISIONS).await.expect("readable").len()
}

/// A minute later.
fn later(mirror: &Mirror) {
    mirror.clock.advance(Duration::from_secs(61));
}

#[tokio::test]
async fn a_republished_version_is_served_within_a_minute_without_a_pin() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.22").version("dev");
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get(DEV).await;
    assert_eq!((first.status, first.sha256()), (200, fc3.sha256("dev")));
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    // Is it new, and its bytes; each by way of the storage.
    assert_eq!(forge.counts().into_iter().collect::<Vec<_>>(), [(Route::V3Zip, 2), (Route::Storage, 2)]);
    forge.clear_log();
    assert_eq!(mirror.get(DEV).await.sha256(), first.sha256());
    assert_eq!(forge.requests().len(), 0, "fresh for a minute");

    let fc3 = fc3.republish("dev", |spec| spec.file("dist/index.js", "// the next one"));
    later(&mirror);
    let second = mirror.get(DEV).await;
    assert_eq!((second.status, second.sha256()), (200, fc3.sha256("dev")));
    assert_ne!(second.sha256(), first.sha256());
    assert!(second.cache_status().contains("fwd=stale; fwd-status=200"), "{}", second.cache_status());
    assert_eq!(mirror.cache.pins().keys_with_prefix("").await.expect("readable"), []);
    eventually("only the present revision is stored", async || revisions(&mirror).await == 1).await;
    // A released version beside it is pinned.
    assert_eq!(mirror.get("/official/fc3/flat/0.1.22").await.status, 200);
    assert_eq!(mirror.cache.pins().keys_with_prefix("").await.expect("readable").len(), 1);
}

#[tokio::test]
async fn an_unchanged_version_costs_one_conditional_request_a_minute() {
    for validators in [Validators::Both, Validators::Etag, Validators::LastModified] {
        let forge = Forge::start().await;
        forge.registry().options(|options| options.validators = validators);
        let fc3 = forge.registry().component("fc3").version("dev");
        let mirror = Mirror::over(&forge).await;
        assert_eq!(mirror.get(DEV).await.status, 200);
        for _ in 0..3 {
            forge.clear_log();
            later(&mirror);
            assert_eq!(mirror.get(DEV).await.sha256(), fc3.sha256("dev"));
            let seen = forge.requests();
            assert_eq!(seen.len(), 2, "the registry, and its storage: {validators:?}");
            assert_eq!((seen[1].host, seen[1].status), (Host::Storage, Some(304)), "{validators:?}");
        }
    }
}

#[tokio::test]
async fn without_validators_a_version_is_not_fetched_again_for_ten_minutes() {
    let forge = Forge::start().await;
    forge.registry().options(|options| options.validators = Validators::None);
    let fc3 = forge.registry().component("fc3").version("dev");
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get(DEV).await;
    fc3.republish("dev", |spec| spec.file("dist/index.js", "// the next one"));
    forge.clear_log();
    for _ in 0..3 {
        later(&mirror);
        assert_eq!(mirror.get(DEV).await.sha256(), first.sha256());
    }
    assert_eq!(forge.requests().len(), 0);
}

#[tokio::test]
async fn while_the_registry_is_down_the_stored_revision_is_served() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("dev");
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get(DEV).await;
    assert_eq!(first.status, 200);
    // A client may have the whole zip before it is stored.
    eventually("the zip is stored", async || revisions(&mirror).await == 1).await;
    // The new revision is known, and its zip cannot be had.
    fc3.republish("dev", |spec| spec.file("dist/index.js", "// the next one"));
    let fault = forge.fault(Match::route(Route::Storage), Fault::status(500, &[], "")).skip(1).always();
    later(&mirror);
    let stale = mirror.get(DEV).await;
    assert_eq!((stale.status, stale.sha256()), (200, first.sha256()));
    assert!(stale.cache_status().contains("stale-if-error"), "{}", stale.cache_status());
    fault.remove();
    forge.fault(Match::any(), Fault::Refuse).always();
    mirror.clock.advance(Duration::from_secs(86_400));
    let stale = mirror.get(DEV).await;
    assert_eq!((stale.status, stale.sha256()), (200, first.sha256()));
    assert!(stale.cache_status().contains("stale-if-error"), "{}", stale.cache_status());
}

#[tokio::test]
async fn a_pin_under_a_pattern_is_ignored_and_holds_again_without_it() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("dev");
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = moving(setup(&forge), "official", &[]).start_in(dir.path()).await;
    let pinned = mirror.get(DEV).await;
    assert!(mirror.get("/official/fc3/zipball/dev").await.header("cache-control").contains("immutable"));
    mirror.stop().await;
    let fc3 = fc3.republish("dev", |spec| spec.file("dist/index.js", "// the next one"));
    let mirror = setup(&forge).start_in(dir.path()).await;
    let got = mirror.get(DEV).await;
    assert_eq!((got.sha256(), got.header("cache-control")), (fc3.sha256("dev"), "public, max-age=60"));
    mirror.stop().await;
    let mirror = moving(setup(&forge), "official", &[]).start_in(dir.path()).await;
    assert_eq!(mirror.get(DEV).await.sha256(), pinned.sha256());
}

#[tokio::test]
async fn metadata_and_releases_of_a_moving_version_pin_nothing() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.22").version("dev.3");
    let mirror = Mirror::over(&forge).await;
    let record = mirror.get("/official/fc3/metadata/dev.3").await;
    assert_eq!((record.status, record.json()["Name"].as_str()), (200, Some("fc3")));
    assert_eq!(mirror.get("/official/fc3/metadata").await.status, 200);
    assert_eq!(mirror.get("/official/fc3/releases/tags/dev.3").await.json()["tag_name"], "dev.3");
    assert_eq!(mirror.cache.pins().keys_with_prefix("").await.expect("readable"), []);
}

#[tokio::test]
async fn a_moving_tag_of_a_forge_follows_its_commit() {
    let forge = Forge::start().await;
    let repo = forge.repo("acme/tool").tag("nightly", |r| r.file("index.js", "first"));
    let mirror = moving(setup(&forge), "github", &["nightly*"]).start().await;
    let first = mirror.get("/acme/tool/zipball/nightly").await;
    assert_eq!((first.status, first.sha256()), (200, repo.sha256("nightly")));
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    forge.clear_log();
    later(&mirror);
    assert_eq!(mirror.get("/acme/tool/zipball/nightly").await.sha256(), first.sha256());
    assert_eq!(forge.requests().len(), 1, "one conditional request for the commit");
    let repo = repo.tag("nightly", |r| r.file("index.js", "second"));
    later(&mirror);
    let second = mirror.get("/acme/tool/zipball/refs/tags/nightly").await;
    assert_eq!((second.status, second.sha256()), (200, repo.sha256("nightly")));
    assert_eq!(mirror.cache.pins().keys_with_prefix("").await.expect("readable"), []);
    assert_eq!(mirror.get("/acme/tool/zipball/nightly-none").await.status, 404);
}

#[tokio::test]
async fn a_moving_tag_of_gitee_follows_its_commit() {
    let forge = Forge::start().await;
    let repo = forge.gitee_repo("example/demo").tag("nightly", |r| r.file("index.js", "first"));
    let mirror = moving(setup(&forge), "gitee", &["nightly*"]).start().await;
    let path = "/gitee/example/demo/zipball/nightly";
    let first = mirror.get(path).await;
    // Gitee is asked for the zip of the commit.
    let by_commit = |repo: &RepoRef| repo.sha256(&repo.commit("nightly"));
    assert_eq!((first.status, first.sha256()), (200, by_commit(&repo)));
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    forge.clear_log();
    assert_eq!(mirror.get(path).await.sha256(), first.sha256());
    assert_eq!(forge.requests().len(), 0, "fresh for a minute");
    later(&mirror);
    assert_eq!(mirror.get(path).await.sha256(), first.sha256());
    assert_eq!(forge.requests().len(), 1, "one request for the commit, and no zip");
    let repo = repo.tag("nightly", |r| r.file("index.js", "second"));
    later(&mirror);
    let second = mirror.get("/gitee/example/demo/zipball/refs/tags/nightly").await;
    assert_eq!((second.status, second.sha256()), (200, by_commit(&repo)));
    assert_ne!(first.sha256(), second.sha256());
    assert_eq!(mirror.cache.pins().keys_with_prefix("").await.expect("readable"), []);
}
