//! Which versions are served: by patterns with versions, by blocks on a running mirror, and by age; in lists, as latest, as
//! zips and by every name.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use srm_mirror::{
    config::Config,
    registry::{AgeConfig, Gone},
    value::Period,
};

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Match, Route},
    mirror::{Mirror, Setup, TestResponse, setup},
};

const PACKAGE: &str = "devsapp/fc3";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo(PACKAGE)
        .release("v1.0.0", |r| r)
        .release("v1.1.0", |r| r)
        .release("v1.2.0-beta.1", |r| r)
        .release("v1.2.0", |r| r);
    forge
}

fn texts(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|&pattern| pattern.to_owned()).collect()
}

fn denying(forge: &Forge, patterns: &[&str]) -> Setup {
    setup(forge).with(|config: &mut Config| config.packages.deny = texts(patterns))
}

fn tags(list: &Value) -> Vec<String> {
    let rows = list.as_array().unwrap_or_else(|| panic!("no array: {list}"));
    rows.iter().map(|row| row["tag_name"].as_str().expect("a tag").to_owned()).collect()
}

async fn listed(mirror: &Mirror) -> Vec<String> {
    let got = mirror.get(&format!("/{PACKAGE}/releases")).await;
    assert_eq!(got.status, 200, "{:?}", got.body);
    tags(&got.json())
}

async fn latest(mirror: &Mirror) -> TestResponse {
    mirror.get(&format!("/{PACKAGE}/releases/latest")).await
}

/// Every way to one version.
fn ways(version: &str) -> Vec<String> {
    let bare = version.trim_start_matches('v');
    let mut ways: Vec<String> = ["zipball", "flat", "releases/tags", "metadata"]
        .iter()
        .flat_map(|what| [version, bare].map(|version| format!("/{PACKAGE}/{what}/{version}")))
        .collect();
    ways.push(format!("/{PACKAGE}/zipball/refs/tags/{version}"));
    ways.push(format!("/github/DevsApp/FC3/zipball/{version}"));
    ways.push(format!("/repos/{PACKAGE}/zipball/{version}"));
    ways.push(format!("/repos/{PACKAGE}/releases/tags/{version}"));
    ways.push(format!("/simple/{PACKAGE}/zipball/{version}"));
    ways.push(format!("/v3/packages/devsapp__fc3/release/tags/{version}"));
    ways.push(format!("/v3/packages/devsapp__fc3/zipball/{version}"));
    ways
}

async fn is_refused(mirror: &Mirror, version: &str, reason: &str) {
    for path in ways(version) {
        let got = mirror.get(&path).await;
        let body = String::from_utf8_lossy(&got.body).into_owned();
        assert!(got.status == 403 && body.contains(reason), "{path}: {} {body}", got.status);
    }
}

async fn is_served(mirror: &Mirror, version: &str) {
    for path in ways(version) {
        assert_eq!(mirror.get(&path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn patterns_with_versions_hold_in_lists_as_latest_and_by_every_name() {
    for (allow, deny, served, last) in [
        (&[][..], &["devsapp/fc3@1.2.0"][..], &["v1.2.0-beta.1", "v1.1.0", "v1.0.0"][..], "v1.1.0"),
        (&[], &["devsapp/*@>=1.1, <2"], &["v1.0.0"], "v1.0.0"),
        (&[], &["*/*@*-beta*"], &["v1.2.0", "v1.1.0", "v1.0.0"], "v1.2.0"),
        (&["devsapp/fc3@1.0.*", "devsapp/fc3@v1.1.0"], &[], &["v1.1.0", "v1.0.0"], "v1.1.0"),
        (&["devsapp/*"], &["gitee:devsapp/*@1.2.0"], &["v1.2.0", "v1.2.0-beta.1", "v1.1.0", "v1.0.0"], "v1.2.0"),
    ] {
        let forge = forge().await;
        let setup = denying(&forge, deny).with(|config: &mut Config| config.packages.allow = texts(allow));
        let mirror = setup.start().await;
        assert_eq!(listed(&mirror).await, served, "{allow:?} {deny:?}");
        assert_eq!(latest(&mirror).await.json()["tag_name"], last, "{allow:?} {deny:?}");
        for version in ["v1.0.0", "v1.1.0", "v1.2.0-beta.1", "v1.2.0"] {
            if served.contains(&version) {
                is_served(&mirror, version).await;
            } else {
                is_refused(&mirror, version, "not among the versions").await;
            }
        }
    }
}

#[tokio::test]
async fn a_commit_is_refused_where_a_refused_tag_points_at_it() {
    let forge = forge().await;
    let refused = forge.repo(PACKAGE).commit("v1.2.0");
    let served = forge.repo(PACKAGE).commit("v1.1.0");
    let mirror = denying(&forge, &["devsapp/fc3@1.2.0"]).start().await;
    assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/{refused}")).await.status, 403);
    assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/{served}")).await.status, 200);
}

#[tokio::test]
async fn a_block_holds_from_the_next_request_on_stored_or_not_and_tells_its_reason() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    is_served(&mirror, "v1.2.0").await;
    assert_eq!(listed(&mirror).await.len(), 4);
    let block = json!({"pattern": "devsapp/fc3@1.2.0", "reason": "steals credentials, see SEC-17"});
    mirror.admin(mirror.dir(), "block", block).await;
    is_refused(&mirror, "v1.2.0", "blocked on this mirror: steals credentials, see SEC-17").await;
    assert_eq!(listed(&mirror).await, ["v1.2.0-beta.1", "v1.1.0", "v1.0.0"]);
    assert_eq!(latest(&mirror).await.json()["tag_name"], "v1.1.0");
    let blocks = mirror.admin(mirror.dir(), "blocks", json!({})).await;
    assert_eq!(blocks[0]["blocks"][0]["pattern"], "devsapp/fc3@1.2.0");
    let dir = mirror.stop().await.expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    is_refused(&mirror, "v1.2.0", "SEC-17").await;
    mirror.admin(dir.path(), "unblock", json!({"pattern": "devsapp/fc3@1.2.0"})).await;
    is_served(&mirror, "v1.2.0").await;
}

#[tokio::test]
async fn a_package_without_an_allowed_stable_version_has_no_latest_and_says_why() {
    let forge = forge().await;
    let mirror = denying(&forge, &["devsapp/fc3@>=1.0"]).start().await;
    let got = latest(&mirror).await;
    let body = String::from_utf8_lossy(&got.body).into_owned();
    assert!(got.status == 404 && body.contains("no stable version of devsapp/fc3"), "{} {body}", got.status);
}

#[tokio::test]
async fn blocks_hold_for_the_name_that_a_repository_has_now() {
    let forge = forge().await;
    forge.repo(PACKAGE).renamed_to("serverless-devs/fc");
    let mirror = denying(&forge, &["serverless-devs/fc@1.2.0"]).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.2.0").await.status, 403);
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.1.0").await.status, 200);
}

fn ago(days: i64) -> String {
    format!("{:.0}", Timestamp::now() - SignedDuration::from_hours(24 * days))
}

/// A forge whose releases were published this many days ago.
async fn aged() -> Forge {
    let forge = Forge::start().await;
    for (tag, days) in [("v1.0.0", 30), ("v1.1.0", 5), ("v1.2.0", 1)] {
        // The commit's date is the author's choice: it does not count.
        forge.repo(PACKAGE).release(tag, |r| r.created_at(&ago(400)).published_at(&ago(days)));
    }
    forge
}

fn with_age(forge: &Forge, age: Duration) -> Setup {
    setup(forge).with(|config: &mut Config| config.packages.min_age = Period(age))
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_version_is_served_when_it_is_old_enough() {
    let forge = aged().await;
    let mirror = with_age(&forge, 3 * DAY).start().await;
    assert_eq!(listed(&mirror).await, ["v1.1.0", "v1.0.0"]);
    assert_eq!(latest(&mirror).await.json()["tag_name"], "v1.1.0");
    is_refused(&mirror, "v1.2.0", "at least 3d old (packages.min_age)").await;
    is_served(&mirror, "v1.1.0").await;
    mirror.clock.advance(2 * DAY + Duration::from_secs(60));
    is_served(&mirror, "v1.2.0").await;
    assert_eq!(latest(&mirror).await.json()["tag_name"], "v1.2.0");
}

#[tokio::test]
async fn some_packages_may_have_another_age() {
    let forge = aged().await;
    let setup = with_age(&forge, 100 * DAY).with(|config: &mut Config| {
        config.packages.min_age_for = vec![AgeConfig { packages: "devsapp/*".into(), age: Period::secs(0) }];
    });
    is_served(&setup.start().await, "v1.2.0").await;
}

#[tokio::test]
async fn what_no_upstream_dates_is_as_old_as_its_first_sight() {
    let forge = aged().await;
    forge.repo(PACKAGE).tag("v0.9.0", |r| r);
    let mirror = with_age(&forge, 3 * DAY).start().await;
    let commit = forge.repo(PACKAGE).commit("v1.0.0");
    let paths = [
        format!("/{PACKAGE}/zipball/v0.9.0"),
        format!("/{PACKAGE}/zipball/main"),
        format!("/{PACKAGE}/zipball/{commit}"),
    ];
    for path in &paths {
        assert_eq!(mirror.get(path).await.status, 403, "{path}");
    }
    assert_eq!(forge.count_of(Route::Archive), 0, "nothing is downloaded to be refused");
    // The record outlives eviction, removal and a restart.
    mirror.admin(mirror.dir(), "rm", json!({"pattern": "*", "dry_run": false, "forget": false})).await;
    mirror.clock.advance(3 * DAY + Duration::from_secs(60));
    for path in &paths {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_recorded_as_seen() {
    let forge = aged().await;
    let mirror = with_age(&forge, 3 * DAY).start().await;
    assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/v1.0.0")).await.status, 200);
    let journal = || std::fs::read_to_string(mirror.dir().join("pins.jsonl")).expect("a journal");
    for number in 0..20 {
        let commit = format!("{number:040x}");
        for version in [commit, format!("v9.{number}.0"), format!("refs/tags/none{number}"), format!("name{number}")] {
            let got = mirror.get(&format!("/{PACKAGE}/zipball/{version}")).await;
            assert_eq!(got.status, 404, "{version}: {:?}", got.body);
        }
    }
    assert!(!journal().contains("/seen/"), "{}", journal());
}

#[tokio::test]
async fn a_stored_version_that_is_old_enough_is_served_while_the_forge_is_down() {
    let forge = aged().await;
    let mirror = with_age(&forge, 3 * DAY).start().await;
    assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/v1.0.0")).await.status, 200);
    mirror.clock.advance(4 * DAY);
    forge.fault(Match::any(), Fault::status(503, &[], "")).always();
    assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/v1.0.0")).await.status, 200);
}

#[tokio::test]
async fn the_age_of_a_registrys_version_is_that_of_its_creation() {
    let forge = Forge::start().await;
    let registry = forge.registry();
    drop(registry.component("fc3").version("0.1.21").version("0.1.22"));
    let mirror = with_age(&forge, 1_000_000 * DAY).start().await;
    let got = mirror.get("/v3/packages/fc3/release/tags/0.1.22").await;
    assert_eq!(got.status, 403, "{:?}", got.body);
    let got = mirror.get("/v3/packages/fc3/zipball/0.1.22").await;
    assert_eq!(got.status, 403, "{:?}", got.body);
}

#[tokio::test]
async fn a_withdrawn_version_is_kept_or_follows_its_upstream_as_configured() {
    for (gone, status) in [(Gone::Keep, 200), (Gone::Follow, 404)] {
        let forge = forge().await;
        let mirror = setup(&forge).with(|config: &mut Config| config.packages.gone = gone).start().await;
        let path = format!("/{PACKAGE}/zipball/v1.1.0");
        assert_eq!(mirror.get(&path).await.status, 200);
        forge.repo(PACKAGE).delete_release("v1.1.0").delete_tag("v1.1.0");
        mirror.clock.advance(Duration::from_secs(3600));
        // Stale lists are served while they are renewed.
        eventually("the version is as configured", async || mirror.get(&path).await.status == status).await;
        assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/v1.0.0")).await.status, 200);
        forge.fault(Match::any(), Fault::status(503, &[], "")).always();
        mirror.clock.advance(Duration::from_secs(36_000));
        assert_eq!(mirror.get(&format!("/{PACKAGE}/zipball/v1.0.0")).await.status, 200, "trouble withdraws nothing");
    }
}

#[tokio::test]
async fn a_metadata_record_says_where_its_version_comes_from() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let record = mirror.get(&format!("/{PACKAGE}/metadata/v1.1.0")).await.json();
    let provenance = &record["Provenance"];
    let repo = forge.repo(PACKAGE);
    assert_eq!(provenance["Upstream"], "github");
    assert_eq!(provenance["Sha256"], repo.sha256("v1.1.0"));
    assert_eq!(provenance["Commit"], repo.commit("v1.1.0"));
    assert!(provenance["FirstSeen"].as_str().is_some_and(|at| at.parse::<Timestamp>().is_ok()), "{provenance}");
}

#[tokio::test]
async fn warming_stores_no_version_that_is_refused() {
    let forge = forge().await;
    let mirror = denying(&forge, &["devsapp/fc3@1.2.0"]).start().await;
    let lists = mirror.admin(mirror.dir(), "warm/lists", json!({"package": PACKAGE})).await;
    let text = lists[0].to_string();
    assert!(text.contains("v1.1.0") && !text.contains("\"v1.2.0\""), "{text}");
}
