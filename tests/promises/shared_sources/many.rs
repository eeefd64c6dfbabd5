//! Many recorded sources at once, and records that the bucket does not take.

use std::collections::BTreeSet;

use super::*;

/// Where requests look for the source, and where they do not.
const SEARCHED: &str = "acme";
const NOT_SEARCHED: &str = "plain";

pub(super) fn names(owner: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{owner}/p{number:05}"))
}

/// What operators have set, of these names in the simplest dialect.
pub(super) fn set_state(names: impl Iterator<Item = String>, upstream: &str) -> String {
    let source = json!({"upstream": upstream, "at": "2026-01-01T00:00:00Z"});
    let sources: serde_json::Map<_, _> = names.map(|name| (name, source.clone())).collect();
    json!({"sources": {"srm": sources}}).to_string()
}

fn sources_of(dir: &Path) -> usize {
    let text = std::fs::read_to_string(dir.join("sources.jsonl")).expect("readable");
    text.lines().filter(|line| line.starts_with('{')).count()
}

async fn push(mirror: &Mirror, dir: &Path) -> Vec<Value> {
    mirror.admin(dir, "shared/push", json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_of_many_names_without_a_search_are_set_with_one_write() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    let dir = recorded_before(&forge, names(NOT_SEARCHED, 50), "gitee").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    eventually("they are in the bucket", async || not_shared(&mirror).await == 0).await;
    assert_eq!(bucket.requests(&Method::PUT, SET), 1);
    assert_eq!(bucket.names("sources").len(), 0, "no mirror would read them");
    bucket.script().clear_log();
    let events = push(&mirror, dir.path()).await;
    assert_eq!(events.last().map(|end| &end["event"]), Some(&json!("end")), "{events:?}");
    assert!(!events.iter().any(|event| event["event"] == "stopped"), "{events:?}");
    assert_eq!(bucket.requests(&Method::PUT, SET), 0, "they are set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_recorded_sources_leaves_their_file_as_it_is() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    let dir = recorded_before(&forge, names(SEARCHED, 30), "github").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    eventually("they are in the bucket", async || not_shared(&mirror).await == 0).await;
    let before = sources_of(dir.path());
    for _ in 0..2 {
        push(&mirror, dir.path()).await;
    }
    assert_eq!((sources_of(dir.path()), not_shared(&mirror).await), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_beyond_the_limit_of_what_operators_can_set_are_named_once_and_end_no_push() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    bucket.overwrite(SET, set_state(names("full", 10_000), "gitee"));
    let dir = recorded_before(&forge, names(NOT_SEARCHED, 3).chain(names(SEARCHED, 2)), "github").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    eventually("the others are in the bucket", async || not_shared(&mirror).await == 3).await;
    let events = push(&mirror, dir.path()).await;
    assert!(!events.iter().any(|event| event["event"] == "stopped"), "{events:?}");
    assert_eq!(events.last().map(|end| &end["sources"]), Some(&json!(3)), "{events:?}");
    // Reads of what operators have set go on; the three are not tried with each.
    bucket.script().clear_log();
    crate::zips::eventually("some rounds", || bucket.requests(&Method::GET, SET) >= 8).await;
    let mut named = crate::logs::lines("there is no room for the sources of names");
    named.retain(|line| line.contains("\"names\":3,"));
    assert!(named.len() == 1 && named[0].contains("\"ERROR\""), "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_limit_as_many_sources_are_set_as_there_is_room_for() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    bucket.overwrite(SET, set_state(names("full", 9_990), "gitee"));
    let dir = recorded_before(&forge, names(NOT_SEARCHED, 20), "github").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    eventually("ten are in the bucket", async || not_shared(&mirror).await == 10).await;
    let events = push(&mirror, dir.path()).await;
    assert_eq!(events.last().map(|end| &end["sources"]), Some(&json!(10)), "{events:?}");
    let set: Value = serde_json::from_slice(&bucket.object(SET).expect("a state")).expect("JSON");
    assert_eq!(set["sources"]["srm"].as_object().map(serde_json::Map::len), Some(10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_in_the_bucket_is_named_once_and_ends_no_push() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    bucket.overwrite("sources/srm/acme/p00001.json", "{}");
    let dir = recorded_before(&forge, names(SEARCHED, 20), "github").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    eventually("the others are in the bucket", async || not_shared(&mirror).await == 1).await;
    let events = push(&mirror, dir.path()).await;
    assert!(!events.iter().any(|event| event["event"] == "stopped"), "{events:?}");
    let damaged: Vec<_> = events.iter().filter(|event| event["event"] == "source").collect();
    assert!(damaged.len() == 1 && damaged[0]["name"] == "acme/p00001", "{events:?}");
    assert_eq!(events.last().map(|end| &end["sources"]), Some(&json!(1)), "{events:?}");
    mirror.stop().await;
    let rows = "[{packages = \"acme/*\", upstreams = [\"gitee\", \"github\"]}]";
    let launch = Launch::over(&forge, dir.path(), &["shared", "push"]).set("routes", rows);
    let ended = bucket.configure(launch).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("source not taken by the bucket  acme/p00001 (srm)"), "{ended:?}");
    assert!(ended.out.contains("1 recorded sources were not taken by the bucket"), "{ended:?}");
    let named = crate::logs::lines("the recorded source in the bucket is damaged");
    let named: Vec<_> = named.iter().filter(|line| line.contains("p00001")).collect();
    assert_eq!(named.len(), 1, "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_gets_few_requests_for_many_sources_and_has_all_of_them_when_it_works() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    bucket.fault(Method::PUT, "sources", BucketFault::Status(503));
    let dir = recorded_before(&forge, names(SEARCHED, 2000), "github").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    crate::zips::eventually("it is tried again", || bucket.requests(&Method::PUT, "sources") > 24).await;
    let log = bucket.script().log();
    let tried = log.iter().filter(|seen| seen.method == Method::PUT && seen.name.contains("sources/srm/"));
    let tried: BTreeSet<_> = tried.map(|seen| &seen.name).collect();
    assert!(tried.len() <= 8, "a failure ends each attempt: {} were tried", tried.len());
    bucket.script().clear_faults();
    eventually("they are in the bucket", async || not_shared(&mirror).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_starts_uses_all_that_operators_have_set_and_skips_what_is_no_name() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    let set = names("many", 9_999).chain(["no name at all".to_owned()]);
    bucket.overwrite(SET, set_state(set, "gitee"));
    let mirror = over(&forge, &bucket).start().await;
    let text = || std::fs::read_to_string(mirror.dir().join("sources.jsonl")).expect("readable");
    assert_eq!(mirror.cache.disk().sources().list().len(), 9_999);
    assert_eq!(recorded_at(&mirror, mirror.dir(), "many/p09998").await.as_deref(), Some("gitee"));
    assert!(!text().contains("no name at all"));
    bucket.script().clear_log();
    crate::zips::eventually("some rounds", || bucket.requests(&Method::GET, SET) >= 5).await;
    let lines = crate::logs::lines("an operator has set the source of a name");
    assert!(!lines.iter().any(|line| line.contains("no name at all")), "{lines:?}");
    assert_eq!(sources_of(mirror.dir()), 9_999, "each once");
}
