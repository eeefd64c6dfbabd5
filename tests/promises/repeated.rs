//! What was answered a moment ago is answered again without being thought over, and is what it would be if it were.

use std::time::Duration;

use crate::{
    forge::Forge,
    mirror::{Got, Mirror, setup},
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

/// Asks until a hit has been kept and asks once more.
async fn again(mirror: &Mirror, path: &str, headers: &[(&str, &str)]) -> [Got; 2] {
    mirror.get_with(path, headers).await;
    [mirror.get_with(path, headers).await, mirror.get_with(path, headers).await]
}

#[tokio::test]
async fn a_repeated_answer_differs_in_nothing_but_its_request_id() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    for path in PREPARED {
        let [mut first, mut second] = again(&mirror, path, &[]).await;
        assert_eq!(first.status, 200, "{path}");
        assert_ne!(first.header("x-request-id"), second.header("x-request-id"), "{path}");
        // The second may have struck between the two.
        for name in ["x-request-id", "date", "age", "cache-status"] {
            assert!(first.headers.remove(name).is_some() && second.headers.remove(name).is_some(), "{path}: {name}");
        }
        assert_eq!((first.headers, first.body), (second.headers, second.body), "{path}");
    }
}

#[tokio::test]
async fn whatever_may_change_an_answer_does_so_right_after_another_one() {
    let forge = forge().await;
    let mirror = setup(&forge)
        .with(|config| config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")])
        .start()
        .await;
    for path in PREPARED {
        let [_, got] = again(&mirror, path, &[]).await;
        let shows = |got: &Got, host: &str| String::from_utf8_lossy(&got.body).contains(&format!("//{host}/"));
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
async fn time_goes_on_for_a_repeated_answer() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let [_, got] = again(&mirror, PREPARED[0], &[]).await;
    let age: u64 = got.header("age").parse().expect("seconds");
    mirror.clock.advance(Duration::from_secs(20));
    let later: u64 = mirror.get(PREPARED[0]).await.header("age").parse().expect("seconds");
    assert!((age + 20..age + 25).contains(&later), "{age} then {later}");
    // Stale: it is asked for anew behind this answer, and whoever comes after that gets the new one.
    mirror.clock.advance(Duration::from_secs(400));
    assert!(mirror.get(PREPARED[0]).await.cache_status().contains("stale-while-revalidate"));
}

#[tokio::test]
async fn a_document_that_changes_ends_what_was_made_of_it_at_once() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let path = "/devsapp/fc3/releases";
    let [_, old] = again(&mirror, path, &[]).await;
    assert_eq!(old.json().as_array().map(Vec::len), Some(2));
    forge.repo("devsapp/fc3").release("v1.2.0", |r| r);
    // A version that the list lacks has the list asked for anew, within the same second.
    mirror.clock.advance(Duration::from_secs(6));
    again(&mirror, path, &[]).await;
    assert_eq!(mirror.get("/devsapp/fc3/releases/tags/v1.2.0").await.status, 200);
    assert_eq!(mirror.get(path).await.json().as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn more_addresses_than_a_worker_keeps_are_all_answered() {
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
