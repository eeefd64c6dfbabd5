//! A name has one source on all mirrors of a bucket: the one that was recorded first, or the one that an operator has set.
//!
//! With `SRM_MIRROR_TEST_BUCKET`, the tests without faults run over a real service.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use srm_mirror::{dialect::RouteConfig, storage::disk::SourceSelection};
use tempfile::TempDir;

use crate::{
    bucket::{BucketFault, TestBucket},
    eventually::eventually,
    fleets::Fleet,
    forge::{Forge, Host, Match},
    mirror::{Mirror, Setup, TestResponse, setup},
    process::Launch,
    shared_bucket::node,
};

#[path = "shared_sources/bundles.rs"]
mod bundles;
#[path = "shared_sources/failures.rs"]
mod failures;
#[path = "shared_sources/many.rs"]
mod many;

const LIST: &str = "/acme/tool/releases";
/// The record of that name.
const RECORD: &str = "sources/srm/acme/tool.json";
/// What operators have set.
const SET: &str = "state/sources.json";

/// The number of sources that a mirror has recorded and the bucket is not known to have.
async fn not_shared(mirror: &Mirror) -> usize {
    let sources = mirror.cache.disk().sources();
    sources.page_after(None, usize::MAX, SourceSelection::NotShared).await.expect("readable").len()
}

fn routes() -> Vec<RouteConfig> {
    let row = |packages: &str, upstreams: &[&str]| RouteConfig {
        packages: packages.into(),
        dialect: None,
        upstreams: upstreams.iter().map(|&name| name.to_owned()).collect(),
    };
    vec![row("acme/*", &["gitee", "github"]), row("solo/*", &["github"])]
}

/// A mirror over the bucket that asks Gitee first.
fn over(forge: &Forge, bucket: &TestBucket) -> Setup {
    node(forge, bucket).with(|config| config.routes = routes())
}

/// Two such mirrors.
async fn two_mirrors(forges: [&Forge; 2], bucket: &TestBucket) -> [Mirror; 2] {
    [over(forges[0], bucket).start().await, over(forges[1], bucket).start().await]
}

/// The same mirror before it had a bucket.
fn without_bucket(forge: &Forge) -> Setup {
    setup(forge).with(|config| config.routes = routes())
}

/// A forge on which GitHub alone has the packages.
async fn github_only() -> Forge {
    let forge = Forge::start().await;
    for name in ["acme/tool", "acme/other", "solo/tool", "plain/tool"] {
        forge.repo(name).release("1.0.0", |r| r.file("index.js", "github"));
    }
    forge
}

/// A forge on which Gitee has them, too.
async fn both() -> Forge {
    let forge = github_only().await;
    on_gitee(&forge);
    forge
}

fn on_gitee(forge: &Forge) {
    for name in ["acme/tool", "acme/other", "plain/tool"] {
        forge.gitee_repo(name).release("1.0.0", |r| r.file("index.js", "gitee"));
    }
}

/// The upstream in the address of the list's first zip, which GitHub's need not have; none where the answer has no list.
fn source(got: &TestResponse) -> Option<String> {
    if got.status != 200 {
        return None;
    }
    let json = got.json();
    let url = json[0]["zipball_url"].as_str().expect("a text");
    Some(if url.contains("/gitee/") { "gitee" } else { "github" }.to_owned())
}

async fn source_at(mirror: &Mirror, path: &str) -> Option<String> {
    source(&mirror.get(path).await)
}

fn requests_to(forge: &Forge, host: Host) -> usize {
    forge.requests().iter().filter(|seen| seen.host == host).count()
}

async fn set(mirror: &Mirror, dir: &Path, name: &str, upstream: &str) -> TestResponse {
    let ask = json!({"name": name, "upstream": upstream});
    mirror.control(dir, Method::POST, "/-/route/set", ask.to_string()).await
}

/// The upstream that a mirror has recorded for a name, as an operator sees it.
async fn recorded_at(mirror: &Mirror, dir: &Path, name: &str) -> Option<String> {
    let shown = mirror.admin(dir, "route", json!({"name": name})).await;
    shown[0]["dialects"][0]["recorded"]["upstream"].as_str().map(str::to_owned)
}

/// A directory whose recorded sources are of the time before the bucket.
async fn recorded_before(forge: &Forge, names: impl Iterator<Item = String>, upstream: &str) -> TempDir {
    let dir = without_bucket(forge).start().await.stop().await.expect("its directory");
    let line = |name| json!({"name": name, "dialect": "srm", "upstream": upstream, "at": "2026-01-01T00:00:00Z"});
    let lines: String = names.map(|name| format!("{}\n", line(name))).collect();
    std::fs::write(dir.path().join("sources.jsonl"), lines).expect("written");
    dir
}

/// The upstream of an object.
fn recorded(bucket: &TestBucket, name: &str) -> Option<String> {
    let record: Value = serde_json::from_slice(&bucket.object(name)?).expect("JSON");
    Some(record["upstream"].as_str().expect("a text").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_whose_forges_answer_differently_take_one_source() {
    let bucket = TestBucket::start().await;
    let forges = [github_only().await, both().await];
    let first = over(&forges[0], &bucket).start().await;
    assert_eq!(source_at(&first, LIST).await.as_deref(), Some("github"));
    let second = over(&forges[1], &bucket).start().await;
    assert_eq!(source_at(&second, LIST).await.as_deref(), Some("github"));
    assert_eq!(requests_to(&forges[1], Host::Gitee), 0, "the first upstream of the route is not asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mirrors_that_search_at_the_same_time_all_take_the_source_that_the_bucket_accepts() {
    let bucket = TestBucket::scripted().await;
    let forges = [both().await, github_only().await];
    let mirrors = two_mirrors([&forges[0], &forges[1]], &bucket).await;
    let gate = bucket.gate(Method::PUT, "sources");
    let open = async {
        crate::zips::eventually("both have found one", || bucket.requests(&Method::PUT, "sources") == 2).await;
        gate.open();
    };
    let (one, other, ()) = tokio::join!(mirrors[0].get(LIST), mirrors[1].get(LIST), open);
    let winner = recorded(&bucket, RECORD).expect("a record");
    for got in [&one, &other] {
        assert!(source(got).is_none_or(|source| source == winner), "{winner}: {got:?}");
    }
    assert!(source(&one).is_some() || source(&other).is_some());
    for mirror in &mirrors {
        assert_eq!(recorded_at(mirror, mirror.dir(), "acme/tool").await.as_ref(), Some(&winner));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_has_lost_its_disk_uses_the_recorded_source() {
    let bucket = TestBucket::start().await;
    let forge = github_only().await;
    let first = over(&forge, &bucket).start().await;
    for path in [LIST, "/acme/other/releases"] {
        assert_eq!(source_at(&first, path).await.as_deref(), Some("github"));
    }
    first.stop().await;
    // The first upstream of the route has the name, too, and then fails.
    on_gitee(&forge);
    forge.clear_log();
    let wiped = over(&forge, &bucket).start().await;
    assert_eq!(source_at(&wiped, LIST).await.as_deref(), Some("github"));
    forge.down_host(Host::Gitee).await;
    assert_eq!(source_at(&wiped, "/acme/other/releases").await.as_deref(), Some("github"));
    assert_eq!(requests_to(&forge, Host::Gitee), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_sets_holds_on_all_mirrors_within_5_s_on_those_that_were_away_and_on_new_ones() {
    let bucket = TestBucket::start().await;
    let forge = both().await;
    let first = over(&forge, &bucket).with(TestBucket::by_default).start().await;
    let second = over(&forge, &bucket).with(TestBucket::by_default).start().await;
    let third = over(&forge, &bucket).start().await;
    // The answers are remembered; of plain/tool, no source is recorded.
    for mirror in [&first, &second, &third] {
        assert_eq!(source_at(mirror, LIST).await.as_deref(), Some("gitee"));
        assert_eq!(source_at(mirror, "/plain/tool/releases").await.as_deref(), Some("github"));
    }
    let third_dir = third.stop().await.expect("its directory");
    for (name, upstream) in [("acme/tool", "github"), ("plain/tool", "gitee")] {
        let answer = set(&first, first.dir(), name, upstream).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let set_at = Instant::now();
    let holds = async |mirror: &Mirror| {
        source_at(mirror, LIST).await.as_deref() == Some("github")
            && source_at(mirror, "/plain/tool/releases").await.as_deref() == Some("gitee")
    };
    assert!(holds(&first).await);
    eventually("it holds on the other one", async || holds(&second).await).await;
    assert!(set_at.elapsed() < Duration::from_secs(6), "{:?}", set_at.elapsed());
    let third = over(&forge, &bucket).start_in(third_dir.path()).await;
    assert!(holds(&third).await, "it was away, and knows it before its first answer");
    assert!(holds(&over(&forge, &bucket).start().await).await, "so does a new one");
    // Back again, from another mirror.
    assert_eq!(set(&second, second.dir(), "acme/tool", "gitee").await.status, 200);
    eventually("the last word", async || source_at(&first, LIST).await.as_deref() == Some("gitee")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_of_a_bundle_hold_on_all_mirrors_and_replace_none() {
    let bucket = TestBucket::start().await;
    let forge = both().await;
    let [first, second] = two_mirrors([&forge, &forge], &bucket).await;
    let import = async |mirror: &Mirror, name: &str, upstream: &str, dry_run: bool| {
        let source = json!({"name": name, "dialect": "srm", "upstream": upstream, "at": "2026-01-01T00:00:00Z"});
        let ask = json!({"source": source, "dry_run": dry_run});
        mirror.admin(mirror.dir(), "import/source", ask).await[0]["state"].as_str().expect("a state").to_owned()
    };
    // Requests of plain/tool look for no source: it is set.
    for (name, upstream) in [("acme/tool", "github"), ("plain/tool", "gitee")] {
        assert_eq!(import(&first, name, upstream, false).await, "recorded");
        assert_eq!(import(&first, name, upstream, false).await, "known");
        assert_eq!(source_at(&first, &format!("/{name}/releases")).await.as_deref(), Some(upstream));
    }
    assert_eq!(import(&second, "acme/tool", "gitee", true).await, "different");
    assert_eq!(import(&second, "acme/tool", "gitee", false).await, "different");
    assert_eq!(source_at(&second, LIST).await.as_deref(), Some("github"));
    let follows = async || source_at(&second, "/plain/tool/releases").await.as_deref() == Some("gitee");
    eventually("it holds on the other one", follows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_from_before_the_bucket_are_in_it_after_the_start_and_the_first_ones_there_count_loudly() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::start().await;
    let forges = [both().await, github_only().await];
    let mut dirs = Vec::new();
    for (forge, expected) in [(&forges[0], "gitee"), (&forges[1], "github")] {
        let mirror = without_bucket(forge).start().await;
        assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some(expected));
        dirs.push((mirror.stop().await.expect("its directory"), forge));
    }
    let operators = without_bucket(&forges[0]).start_in(dirs[0].0.path()).await;
    assert_eq!(set(&operators, dirs[0].0.path(), "plain/tool", "gitee").await.status, 200);
    operators.stop().await;

    let first = over(dirs[0].1, &bucket).start_in(dirs[0].0.path()).await;
    eventually("they are in the bucket", async || not_shared(&first).await == 0).await;
    let second = over(dirs[1].1, &bucket).start_in(dirs[1].0.path()).await;
    eventually("they are compared", async || not_shared(&second).await == 0).await;
    assert_eq!(recorded_at(&second, dirs[1].0.path(), "acme/tool").await.as_deref(), Some("gitee"));
    let lines = crate::logs::lines("another mirror has recorded another source of a name");
    let named = lines.iter().filter(|line| line.contains("acme/tool") && line.contains("\"ERROR\"")).count();
    assert!(named >= 1, "{lines:?}");
    // What was set before the bucket is set for all.
    let new = over(&forges[0], &bucket).start().await;
    assert_eq!(source_at(&new, "/plain/tool/releases").await.as_deref(), Some("gitee"));
    // Once: a restart finds nothing to do.
    second.stop().await;
    let second = over(dirs[1].1, &bucket).start_in(dirs[1].0.path()).await;
    assert_eq!(not_shared(&second).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_a_bucket_has_lost_are_uploaded_again_on_demand() {
    let bucket = TestBucket::start().await;
    let forge = github_only().await;
    let mirror = over(&forge, &bucket).start().await;
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("github"));
    let dir = mirror.stop().await.expect("its directory");
    on_gitee(&forge);
    let empty = TestBucket::start().await;
    let mirror = over(&forge, &empty).start_in(dir.path()).await;
    let events = mirror.admin(dir.path(), "shared/push", json!({})).await;
    assert_eq!(events.last().map(|end| &end["event"]), Some(&json!("end")), "{events:?}");
    let new = over(&forge, &empty).start().await;
    assert_eq!(source_at(&new, LIST).await.as_deref(), Some("github"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_costs_one_read_and_one_create_one_read_where_it_is_recorded_and_nothing_afterwards() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let [first, second] = two_mirrors([&forge, &forge], &bucket).await;
    let costs = || (bucket.requests(&Method::GET, "sources"), bucket.requests(&Method::PUT, "sources"));
    let held = forge.gate_head(Match::on(Host::Gitee));
    let many = async || futures_util::future::join_all((0..20).map(|_| first.get(LIST))).await;
    let open = async {
        held.reached().await;
        held.open();
    };
    let (got, ()) = tokio::join!(many(), open);
    assert!(got.iter().all(|got| source(got).as_deref() == Some("gitee")));
    assert_eq!(costs(), (1, 1), "all who ask at the same time share one search");
    assert_eq!(source_at(&second, LIST).await.as_deref(), Some("gitee"));
    assert_eq!(costs(), (2, 1), "another mirror reads it");
    for mirror in [&first, &second] {
        mirror.get(LIST).await;
        // No source of these is looked for.
        mirror.get("/plain/tool/releases").await;
        mirror.get("/github/acme/other/releases").await;
    }
    assert_eq!(costs(), (2, 1));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(first.get("/acme/none/releases").await.status, 404);
    }
    let reads = costs().0 - 2;
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("few");
    assert!((1..=seconds + 1).contains(&reads), "{reads} in {seconds} s: such a name is read once a second");
    first.clock.advance(Duration::from_secs(1));
    assert_eq!(first.get("/acme/none/releases").await.status, 404);
    assert_eq!(costs(), (3 + reads, 1), "nothing is recorded of a name that no upstream has");
    assert_eq!((bucket.requests(&Method::PUT, "state/sources"), bucket.object(SET)), (0, None));
}
