//! Release documents are fresh for a period, then revalidated, and served stale while the upstream fails.

use std::time::Duration;

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Match, Seen},
    mirror::{Mirror, Setup, TestResponse, setup},
};

const LIST: &str = "/devsapp/fc3/releases";
const FORGE_LIST: &str = "/repos/devsapp/fc3/releases";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge.accept_token("T0KEN");
    forge
}

fn with_token(forge: &Forge) -> Setup {
    setup(forge).token("github", "T0KEN").with(|config| config.packages.private = srm_mirror::registry::Private::Serve)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn lists(forge: &Forge) -> usize {
    forge.count(|seen| seen.path() == FORGE_LIST)
}

fn tags(got: &TestResponse) -> Vec<String> {
    let list = got.json();
    let tag = |release: &serde_json::Value| release["tag_name"].as_str().expect("text").to_owned();
    list.as_array().expect("a list").iter().map(tag).collect()
}

/// Fetches the list once, so that it is stored.
async fn stored(mirror: &Mirror) {
    let first = mirror.get(LIST).await;
    assert_eq!((first.status, first.cache_status()), (200, "srm-mirror; fwd=uri-miss; fwd-status=200; stored"));
}

#[tokio::test]
async fn a_list_is_fresh_for_a_minute_with_a_token_and_for_five_without() {
    for (token, fresh) in [(true, 60), (false, 300)] {
        let forge = forge().await;
        let mirror = if token { with_token(&forge) } else { setup(&forge) }.start().await;
        stored(&mirror).await;
        mirror.clock.advance(secs(fresh - 2));
        let hit = mirror.get(LIST).await;
        assert!(hit.cache_status().starts_with("srm-mirror; hit; ttl="), "{}", hit.cache_status());
        assert!(!hit.cache_status().contains("ttl=-"), "{}", hit.cache_status());
        assert_eq!(hit.header("age").parse::<u64>().expect("a number") / 10, (fresh - 2) / 10);
        assert_eq!(lists(&forge), 1, "fresh: no upstream request");

        mirror.clock.advance(secs(3));
        let stale = mirror.get(LIST).await;
        assert!(stale.cache_status().contains("hit; ttl=-"), "{}", stale.cache_status());
        assert!(stale.cache_status().ends_with("detail=stale-while-revalidate"), "{}", stale.cache_status());
        forge.wait_for_request(|seen| seen.path() == FORGE_LIST && seen.status == Some(304)).await;
        assert_eq!(lists(&forge), 2);
    }
}

#[tokio::test]
async fn a_stale_list_is_served_at_once_while_one_revalidation_runs() {
    let forge = forge().await;
    let mirror = with_token(&forge).start().await;
    stored(&mirror).await;
    let used = forge.rate_used(Some("T0KEN"));
    mirror.clock.advance(secs(61));
    let gate = forge.gate_head(Match::path(FORGE_LIST));
    for _ in 0..5 {
        let stale = mirror.get(LIST).await;
        assert_eq!(tags(&stale), ["v1.0.0"], "answered although the upstream has said nothing yet");
    }
    gate.reached().await;
    gate.open();
    let asked = forge.wait_for_request(|seen| seen.status == Some(304)).await;
    assert!(asked.header("if-none-match").starts_with("W/\""), "asked by the stored ETag");
    eventually("the renewed list is fresh", async || !mirror.get(LIST).await.cache_status().contains("ttl=-")).await;
    assert_eq!(lists(&forge), 2, "one revalidation for all of them");
    assert_eq!(forge.rate_used(Some("T0KEN")), used, "a 304 costs nothing with a token");
}

#[tokio::test]
async fn after_the_stale_while_revalidate_window_a_request_waits_for_the_upstream() {
    let forge = forge().await;
    let mirror = with_token(&forge).start().await;
    stored(&mirror).await;
    forge.repo("devsapp/fc3").release("v1.1.0", |r| r);
    mirror.clock.advance(secs(661));
    let got = mirror.get(LIST).await;
    assert_eq!(tags(&got), ["v1.1.0", "v1.0.0"]);
    assert_eq!(got.cache_status(), "srm-mirror; fwd=stale; fwd-status=200; stored");
    mirror.clock.advance(secs(661));
    let got = mirror.get(LIST).await;
    assert_eq!(got.cache_status(), "srm-mirror; fwd=stale; fwd-status=304");
    assert_eq!(lists(&forge), 3);
}

/// Each upstream failure, the status with nothing stored, and the `Cache-Status` detail with a stored document.
fn failures() -> Vec<(&'static str, Fault, u16, &'static str)> {
    let json = [("content-type", "application/json")];
    let limit = [("x-ratelimit-remaining", "0"), ("content-type", "application/json")];
    let retry = [("retry-after", "77"), ("content-type", "application/json")];
    vec![
        ("refused", Fault::Refuse, 502, "stale-if-error"),
        ("500", Fault::status(500, &json, "{}"), 502, "stale-if-error"),
        ("503", Fault::status(503, &json, "{}"), 502, "stale-if-error"),
        ("401", Fault::status(401, &json, r#"{"message":"Bad credentials"}"#), 502, "stale-if-error"),
        ("403", Fault::status(403, &json, r#"{"message":"no"}"#), 502, "stale-if-error"),
        ("silence", Fault::HeadStall, 504, "stale-if-error"),
        ("cut", Fault::CutAfter(20), 502, "stale-if-error"),
        ("not JSON", Fault::status(200, &json, "<<<"), 502, "stale-if-error"),
        ("half JSON", Fault::EndShortAfter(30), 502, "stale-if-error"),
        ("a page", Fault::Html200, 502, "stale-if-error"),
        (
            "primary limit",
            Fault::status(403, &limit, r#"{"message":"API rate limit exceeded"}"#),
            503,
            "upstream-throttled",
        ),
        ("secondary limit", Fault::SecondaryRateLimit { retry_after: None }, 503, "upstream-throttled"),
        ("429", Fault::status(429, &retry, "{}"), 503, "upstream-throttled"),
    ]
}

fn quick(setup: Setup) -> Setup {
    setup.with(|config| {
        for section in config.upstreams.values_mut() {
            section.response_timeout = srm_mirror::value::Period(Duration::from_millis(300));
        }
    })
}

#[tokio::test]
async fn a_stale_list_is_served_and_marked_for_every_upstream_failure() {
    for (what, fault, _, detail) in failures() {
        let forge = forge().await;
        let mirror = quick(setup(&forge)).start().await;
        stored(&mirror).await;
        // A changed list, so that the failing response has a body.
        forge.repo("devsapp/fc3").release("v1.1.0", |r| r);
        forge.fault(Match::path(FORGE_LIST), fault).always();
        mirror.clock.advance(secs(30 * 86_400));
        let got = mirror.get(LIST).await;
        assert_eq!((got.status, tags(&got)), (200, vec!["v1.0.0".to_owned()]), "{what}");
        let status = got.cache_status();
        assert!(status.starts_with("srm-mirror; fwd=stale; ") && status.ends_with(detail), "{what}: {status}");
        // A slow machine may need a second for it.
        assert!(status.contains("ttl=-259170"), "{what}: {status}");
        assert!(["2592000", "2592001", "2592002"].contains(&got.header("age")), "{what}: {}", got.header("age"));

        let asked = forge.requests().len();
        let again = mirror.get(LIST).await;
        let status = again.cache_status();
        assert_eq!(again.status, 200, "{what}");
        assert!(status.starts_with("srm-mirror; hit; ttl=-") && status.ends_with(detail), "{what}: {status}");
        assert_eq!(forge.requests().len(), asked, "{what}: no upstream request during the cool-down");
    }
}

#[tokio::test]
async fn with_nothing_stored_each_failure_has_its_status_and_a_cool_down() {
    for (what, fault, status, _) in failures() {
        let forge = forge().await;
        let mirror = quick(setup(&forge)).start().await;
        let planned = forge.fault(Match::path(FORGE_LIST), fault).always();
        let got = mirror.get(LIST).await;
        assert_eq!(got.status, status, "{what}: {:?}", got.body);
        assert!(!got.header("retry-after").is_empty(), "{what}");
        assert_eq!(got.header("cache-control"), "no-store", "{what}");
        assert!(got.json()["message"].is_string(), "{what}");

        let asked = forge.requests().len();
        mirror.clock.advance(secs(4));
        let again = mirror.get(LIST).await;
        assert_eq!(forge.requests().len(), asked, "{what}: no more than one attempt in five seconds");
        assert!((500..=504).contains(&again.status), "{what}");
        if matches!(what, "refused" | "500" | "503" | "silence" | "cut") {
            assert_eq!((again.status, again.header("retry-after")), (503, "1"), "{what}");
            assert_eq!(again.cache_status(), "srm-mirror; detail=cool-down", "{what}");
        }
        if status != 503 {
            planned.remove();
            mirror.clock.advance(secs(2));
            assert_eq!(mirror.get(LIST).await.status, 200, "{what}: asked again, and nothing was remembered as true");
        }
        planned.release();
    }
}

#[tokio::test]
async fn while_cooling_down_a_stale_list_within_the_window_starts_no_revalidation() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    stored(&mirror).await;
    let failing = forge.fault(Match::path(FORGE_LIST), Fault::status(500, &[], "")).always();
    mirror.clock.advance(secs(301));
    assert!(mirror.get(LIST).await.cache_status().ends_with("stale-while-revalidate"));
    eventually("the failure is known", async || {
        let status = mirror.get(LIST).await;
        status.cache_status().starts_with("srm-mirror; hit; ttl=-") && status.cache_status().ends_with("stale-if-error")
    })
    .await;
    for _ in 0..10 {
        assert_eq!(mirror.get(LIST).await.status, 200);
    }
    assert_eq!(failing.hits(), 1);
    failing.remove();
    mirror.clock.advance(secs(6));
    mirror.get(LIST).await;
    forge.wait_for_request(|seen| seen.status == Some(304)).await;
}

#[tokio::test]
async fn stale_if_error_has_its_limit_where_one_is_set() {
    let forge = forge().await;
    let mirror = setup(&forge)
        .with(|config| config.documents.stale_if_error = srm_mirror::value::Period::secs(3600))
        .start()
        .await;
    stored(&mirror).await;
    forge.down().await;
    mirror.clock.advance(secs(300 + 3590));
    assert_eq!(mirror.get(LIST).await.status, 200);
    mirror.clock.advance(secs(11));
    assert_eq!(mirror.get(LIST).await.status, 502);
}

#[tokio::test]
async fn a_404_is_remembered_for_as_long_as_a_list_is_fresh_and_no_longer() {
    let forge = Forge::start().await;
    let mirror = setup(&forge).start().await;
    let first = mirror.get(LIST).await;
    assert_eq!((first.status, first.cache_status()), (404, "srm-mirror; fwd=uri-miss; fwd-status=404"));
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    mirror.clock.advance(secs(299));
    let second = mirror.get(LIST).await;
    assert_eq!((second.status, second.cache_status()), (404, "srm-mirror; hit; detail=remembered"));
    assert_eq!(lists(&forge), 1);
    mirror.clock.advance(secs(2));
    assert_eq!(mirror.get(LIST).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_at_once_cost_one_request_upstream_cold_stale_and_failing() {
    let forge = forge().await;
    let mirror = std::sync::Arc::new(setup(&forge).start().await);
    let herd = async || {
        let gate = forge.gate_head(Match::path(FORGE_LIST).when(|seen: &Seen| seen.header("via") != "x"));
        let asked = lists(&forge);
        let all: Vec<_> = (0..50)
            .map(|_| {
                let mirror = mirror.clone();
                tokio::spawn(async move { mirror.get(LIST).await })
            })
            .collect();
        gate.reached().await;
        gate.open();
        let mut got = Vec::new();
        for one in all {
            got.push(one.await.expect("no panic"));
        }
        assert_eq!(lists(&forge), asked + 1);
        got
    };
    let cold = herd().await;
    assert!(cold.iter().all(|got| got.status == 200));
    assert!(cold.iter().filter(|got| got.cache_status().ends_with("collapsed")).count() <= 49);
    mirror.clock.advance(secs(3600));
    let stale = herd().await;
    assert!(stale.iter().all(|got| got.status == 200));
    mirror.clock.advance(secs(3600));
    forge.fault(Match::path(FORGE_LIST), Fault::status(500, &[], "")).always();
    let failing = herd().await;
    assert!(failing.iter().all(|got| got.status == 200 && got.cache_status().ends_with("stale-if-error")));
}

#[tokio::test]
async fn documents_survive_a_restart_with_the_forge_down() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    stored(&mirror).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases/latest").await.status, 200);
    mirror.stop().await;
    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert!(mirror.get(LIST).await.cache_status().starts_with("srm-mirror; hit"));
    mirror.clock.advance(secs(86_400));
    for path in [LIST, "/devsapp/fc3/releases/latest", "/devsapp/fc3/releases/tags/1.0.0"] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}");
        let detail = if path.ends_with("/1.0.0") { "other-spelling" } else { "stale-if-error" };
        assert!(got.cache_status().ends_with(detail), "{path}: {}", got.cache_status());
    }
}

#[tokio::test]
async fn a_disconnecting_client_does_not_end_the_revalidation() {
    let forge = forge().await;
    let mirror = setup(&forge).start().await;
    let gate = forge.gate_head(Match::path(FORGE_LIST));
    let url = mirror.url(LIST);
    let client = mirror.client.clone();
    let leaving = tokio::spawn(async move { client.get(url).send().await.map(drop) });
    gate.reached().await;
    leaving.abort();
    let _ = leaving.await;
    gate.open();
    eventually("the list is stored", async || mirror.get(LIST).await.cache_status().starts_with("srm-mirror; hit"))
        .await;
    assert_eq!(lists(&forge), 1);
}
