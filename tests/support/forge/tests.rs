//! Tests of the forge. The crate that includes this file must have the forge as `crate::forge`.

use std::{
    io::{Cursor, Read},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::forge::{Fault, Forge, GiteeZips, Host, Lengths, Match, hex};

pub(crate) fn client() -> Client {
    let none = reqwest::redirect::Policy::none();
    Client::builder().no_proxy().redirect(none).user_agent("forge-test").build().unwrap()
}

pub(crate) async fn get(url: &str) -> Response {
    client().get(url).send().await.unwrap()
}

pub(crate) async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

pub(crate) fn value<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

async fn three() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.file("src/index.js", "exports.a = 1;\n".repeat(99)).publish_yaml("Type: Component\n"))
        .release("v2.0.0-rc.1", |r| r.prerelease().no_body())
        .release("v1.1.0", |r| r.executable("bin/run", "#!/bin/sh\n").symlink("run", "bin/run"))
        .release("v3.0.0", |r| r.draft());
    forge
}

#[tokio::test]
async fn zips_open_and_contain_their_commit() {
    let forge = three().await;
    let repo = forge.repo("devsapp/fc3");
    for (tag, files) in [("v1.0.0", 3), ("v1.1.0", 3)] {
        let bytes = repo.zip_bytes(tag);
        let mut zip = zip::ZipArchive::new(Cursor::new(&bytes)).unwrap();
        let commit = repo.commit(tag);
        assert_eq!(zip.comment(), commit.as_bytes());
        assert_eq!(zip.by_index(0).unwrap().name().unwrap(), format!("devsapp-fc3-{}/", &commit[..7]));
        let mut read = 0;
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).unwrap();
            // Reading to the end checks the CRC.
            std::io::copy(&mut entry, &mut std::io::sink()).unwrap();
            read += usize::from(!entry.is_dir());
        }
        assert_eq!(read, files);
    }
}

#[tokio::test]
async fn packing_options_take_effect() {
    let forge = Forge::start().await;
    let repo = forge
        .repo("o/r")
        .release("late", |r| r.data_descriptors().noise("n", 1, 300_000))
        .release("bad", |r| r.wrong_crc())
        .release("flat", |r| r.no_top_folder())
        .release("raw", |r| r.raw_zip("no zip"));
    let open = |tag: &str| zip::ZipArchive::new(Cursor::new(repo.zip_bytes(tag)));
    let mut noise = Vec::new();
    let mut late = open("late").unwrap();
    let last = late.len() - 1;
    late.by_index(last).unwrap().read_to_end(&mut noise).unwrap();
    assert_eq!(noise.len(), 300_000);
    assert!(open("bad").unwrap().by_index(1).unwrap().read_to_end(&mut noise).is_err());
    assert_eq!(open("flat").unwrap().by_index(0).unwrap().name().unwrap(), "README.md");
    assert!(open("raw").is_err());

    let before = repo.sha256("late");
    let commit = repo.commit("late");
    let repo = repo.repack("late");
    assert_eq!(repo.commit("late"), commit);
    assert_ne!(repo.sha256("late"), before);
    let repo = repo.edit_release("late", |r| r.body("other notes"));
    assert_eq!(repo.commit("late"), commit);
    let repo = repo.tag("late", |t| t.file("new", "content"));
    assert_ne!(repo.commit("late"), commit);
}

#[tokio::test]
async fn the_api_leads_to_the_archive_host_and_the_bytes_are_those_of_the_model() {
    let forge = three().await;
    let api = forge.github_api();
    let list = json(get(&format!("{api}/repos/devsapp/fc3/releases")).await).await;
    let tags: Vec<&str> = list.as_array().unwrap().iter().map(|r| r["tag_name"].as_str().unwrap()).collect();
    assert_eq!(tags, ["v1.1.0", "v2.0.0-rc.1", "v1.0.0"]);
    assert_eq!(list[1]["body"], Value::Null);
    let latest = get(&format!("{api}/repos/devsapp/fc3/releases/latest")).await;
    assert_eq!(value(&latest, "last-modified"), "Mon, 01 Jan 2024 04:01:00 GMT");
    let latest = json(latest).await;
    assert_eq!(latest["tag_name"], "v1.1.0");

    let found = get(&format!("{api}/repos/devsapp/fc3/zipball/refs/tags/v1.0.0")).await;
    assert_eq!(found.status(), StatusCode::FOUND);
    let location = value(&found, "location").to_owned();
    assert_eq!(location, format!("http://{}/devsapp/fc3/legacy.zip/refs/tags/v1.0.0", forge.archive_host()));
    for length in [false, true] {
        let zip = get(&location).await;
        assert_eq!(zip.headers().contains_key(header::CONTENT_LENGTH), length);
        assert!(value(&zip, "etag").starts_with("W/\""));
        assert_eq!(zip.bytes().await.unwrap(), forge.zip_bytes("devsapp/fc3", "v1.0.0"));
    }
    assert_eq!(forge.count(|seen| seen.host == Host::Archive && seen.complete), 2);

    let leaked = client().get(&location).header("authorization", "Bearer x").send().await.unwrap();
    assert_eq!((leaked.status().as_u16(), forge.leaks().len()), (400, 1));
}

#[tokio::test]
async fn pages_are_linked_by_id_and_end_at_a_thousand() {
    let forge = Forge::start().await;
    let repo = (0..1005).fold(forge.repo("o/many"), |repo, n| repo.release(&format!("v{n}"), |r| r));
    let mut url = format!("{}/repos/o/many/releases?per_page=100", forge.github_api());
    let mut seen = 0;
    let last = loop {
        let response = get(&url).await;
        let link = value(&response, "link").to_owned();
        if response.status() != StatusCode::OK {
            break response.status();
        }
        seen += json(response).await.as_array().unwrap().len();
        let next = link.split(", ").find(|link| link.ends_with("rel=\"next\"")).unwrap();
        url = next[1..next.find('>').unwrap()].to_owned();
        assert!(url.contains(&format!("/repositories/{}/releases?per_page=100&page=", repo.id())), "{url}");
    };
    assert_eq!((seen, last.as_u16()), (1000, 422));
}

#[tokio::test]
async fn a_304_is_free_with_a_token_and_counts_without() {
    let forge = three().await;
    forge.accept_token("ghp_test");
    let url = format!("{}/repos/devsapp/fc3/releases", forge.github_api());
    for token in [None, Some("ghp_test")] {
        let ask = |etag: String| {
            let request = client().get(&url).header("if-none-match", etag);
            token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token)).send()
        };
        let first = ask(String::new()).await.unwrap();
        let etag = value(&first, "etag").to_owned();
        assert_eq!(etag.len(), 4 + 64);
        let again = ask(etag.clone()).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(value(&again, "etag"), etag.trim_start_matches("W/"));
        let used = if token.is_some() { 1 } else { 2 };
        assert_eq!(forge.rate_used(token), used);
        assert_eq!(value(&again, "x-ratelimit-used"), used.to_string());
        forge.repo("devsapp/fc3").edit_release("v1.0.0", |r| r.body(token.unwrap_or("new")));
        assert_eq!(ask(etag).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn quota_tokens_privacy_and_agents_are_enforced() {
    let forge = three().await;
    forge.accept_token("ghp_test");
    forge.repo("o/secret").release("v1", |r| r).private();
    let api = forge.github_api();
    let status = async |url: &str, token: &str| {
        let request = client().get(format!("{api}{url}"));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("/repos/o/secret", "").await, 404);
    assert_eq!(status("/repos/o/secret", "ghp_test").await, 200);
    assert_eq!(status("/repos/devsapp/fc3", "wrong").await, 401);
    let found = client().get(format!("{api}/repos/o/secret/zipball/v1")).bearer_auth("ghp_test").send().await.unwrap();
    let location = value(&found, "location").to_owned();
    assert_eq!(get(&location).await.status(), StatusCode::OK);
    assert_eq!(get(location.split('?').next().unwrap()).await.status(), StatusCode::NOT_FOUND);
    let bare = Client::builder().no_proxy().build().unwrap();
    assert_eq!(bare.get(format!("{api}/repos/devsapp/fc3")).send().await.unwrap().status(), StatusCode::FORBIDDEN);

    forge.repo("o/blocked").blocked();
    assert_eq!(status("/repos/o/blocked/releases", "").await, 451);
    let id = forge.repo("o/old").renamed_to("o/new").id();
    let moved = get(&format!("{api}/repos/o/old/releases?per_page=5")).await;
    assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(value(&moved, "location"), format!("{api}/repositories/{id}/releases?per_page=5"));
    assert_eq!(get(value(&moved, "location")).await.status(), StatusCode::OK);

    forge.rate_limits(forge.rate_used(None), 5000);
    let over = get(&format!("{api}/repos/devsapp/fc3")).await;
    assert_eq!((over.status().as_u16(), value(&over, "x-ratelimit-remaining")), (403, "0"));
    assert!(json(over).await["message"].as_str().unwrap().starts_with("API rate limit exceeded"));
    forge.rate_renew();
    assert_eq!(status("/repos/devsapp/fc3", "").await, 200);
}

#[tokio::test]
async fn commits_and_branches_follow_a_moved_branch() {
    let forge = three().await;
    let repo = forge.repo("devsapp/fc3").branch("dev", |b| b.file("a", "1"));
    let url = format!("{}/repos/devsapp/fc3/commits/heads%2Fdev", forge.github_api());
    let ask = async || {
        let answer = client().get(&url).header("accept", "application/vnd.github.sha").send().await.unwrap();
        answer.text().await.unwrap()
    };
    let old = ask().await;
    assert_eq!(old, repo.commit("dev"));
    let repo = repo.branch("dev", |b| b.file("a", "2"));
    assert_ne!(ask().await, old);
    assert_eq!(repo.commit(&old), old, "an old commit stays reachable");
    repo.tag_only("dev");
    let both = format!("http://{}/devsapp/fc3/legacy.zip/dev", forge.archive_host());
    assert_eq!(get(&both).await.status(), StatusCode::MULTIPLE_CHOICES);
}

#[tokio::test]
async fn a_gate_holds_every_body_until_it_opens() {
    let forge = Forge::start().await;
    let size = 20 << 20;
    forge.repo("demo/big").release("v1", |r| r.big(size));
    let half = size / 2;
    let gate = forge.gate(Match::on(Host::Archive), half);
    let url = format!("http://{}/demo/big/legacy.zip/refs/tags/v1", forge.archive_host());
    let mut responses = Vec::new();
    for _ in 0..3 {
        let mut response = get(&url).await;
        let mut hasher = Sha256::new();
        let mut read = 0;
        while read < half {
            let piece = response.chunk().await.unwrap().unwrap();
            read += piece.len() as u64;
            hasher.update(&piece);
        }
        assert_eq!(read, half, "not one byte beyond the gate");
        responses.push((response, hasher));
    }
    gate.reached_by(3).await;
    assert!(forge.requests().iter().all(|seen| seen.sent == half && !seen.complete));
    gate.open();
    for (mut response, mut hasher) in responses {
        while let Some(piece) = response.chunk().await.unwrap() {
            hasher.update(&piece);
        }
        assert_eq!(hex(&hasher.finalize()), forge.sha256("demo/big", "v1"));
    }
}

/// Reads a body until it ends; true if it ended cleanly.
async fn drain(mut response: Response) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => all.extend_from_slice(&piece),
            Ok(None) => return (all, true),
            Err(_) => return (all, false),
        }
    }
}

#[tokio::test]
async fn broken_bodies_break_where_they_should() {
    let forge = Forge::start().await;
    forge.repo("o/r").release("v1", |r| r.noise("n", 7, 3_000_000));
    let whole = forge.zip_bytes("o/r", "v1");
    let url = format!("http://{}/o/r/legacy.zip/refs/tags/v1", forge.archive_host());
    for lengths in [Lengths::Never, Lengths::Always] {
        forge.lengths(lengths);
        let zips = || Match::path_contains("legacy.zip").method("GET");
        for at in [0, 1, 65_536, 1_234_567] {
            let expected = &whole[..at as usize];
            forge.fault(zips(), Fault::CutAfter(at));
            let (read, clean) = drain(get(&url).await).await;
            assert!(!clean && read == expected, "cut at {at}, {lengths:?}: {} bytes, clean {clean}", read.len());
            forge.fault(zips(), Fault::EndShortAfter(at));
            assert!(drain(get(&url).await).await == (expected.to_vec(), true));
            forge.fault(zips(), Fault::ShortLength(at));
            assert!(drain(get(&url).await).await == (expected.to_vec(), true));
        }
        forge.fault(zips(), Fault::WrongBytesAt(70_000));
        let (mut read, _) = drain(get(&url).await).await;
        assert_eq!(read[70_000], !whole[70_000]);
        read[70_000] = whole[70_000];
        assert!(read == whole);
        assert!(drain(get(&url).await).await == (whole.to_vec(), true), "each struck once");
    }
}

#[tokio::test]
async fn stalls_last_until_released() {
    let forge = Forge::start().await;
    forge.repo("o/r").release("v1", |r| r.noise("n", 7, 300_000));
    let url = format!("http://{}/o/r/legacy.zip/refs/tags/v1", forge.archive_host());
    let stall = forge.fault(Match::any(), Fault::Stall { after: 1000 });
    let mut response = get(&url).await;
    stall.reached().await;
    let mut read = 0;
    while read < 1000 {
        read += response.chunk().await.unwrap().unwrap().len();
    }
    assert_eq!(read, 1000);
    stall.release();
    assert!(drain(response).await.1);

    let stall = forge.fault(Match::any(), Fault::HeadStall);
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { get(&url).await.status() }
    });
    stall.reached().await;
    assert!(!waiting.is_finished());
    stall.release();
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);

    let slow = Fault::Slow { bytes: 100_000, pause: Duration::from_millis(1) };
    forge.fault(Match::any(), slow);
    assert!(drain(get(&url).await).await.1);
}

#[tokio::test]
async fn faults_apply_the_configured_number_of_times() {
    let forge = three().await;
    let url = format!("{}/repos/devsapp/fc3", forge.github_api());
    let third = forge.fault(Match::any(), Fault::status(502, &[("x-test", "1")], "bad")).every_nth(3);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(get(&url).await.status().as_u16());
    }
    assert_eq!(seen, [200, 200, 502, 200, 200, 502]);
    assert_eq!(third.hits(), 2);
    third.remove();
    forge.fault(Match::path("/repos/devsapp/fc3"), Fault::Refuse).skip(1).times(1);
    assert_eq!(get(&url).await.status(), StatusCode::OK);
    assert!(client().get(&url).send().await.is_err());
    assert_eq!(forge.requests().last().unwrap().status, None);
    let limit = Fault::SecondaryRateLimit { retry_after: Some("30".to_owned()) };
    forge.fault(Match::any(), limit);
    let limited = get(&url).await;
    assert_eq!((limited.status().as_u16(), value(&limited, "retry-after")), (403, "30"));
}

#[tokio::test]
async fn down_cuts_everything_and_up_keeps_the_port() {
    let forge = three().await;
    let url = format!("{}/repos/devsapp/fc3", forge.github_api());
    let kept = client();
    assert!(!kept.get(&url).send().await.unwrap().bytes().await.unwrap().is_empty());
    let gate = forge.gate(Match::on(Host::Archive), 10);
    let held = get(&format!("http://{}/devsapp/fc3/legacy.zip/refs/tags/v1.0.0", forge.archive_host())).await;
    gate.reached().await;
    for _ in 0..3 {
        forge.down().await;
        forge.down().await;
        let before = forge.connections();
        assert!(kept.get(&url).send().await.unwrap_err().is_connect());
        assert_eq!(forge.connections(), before);
        forge.up().await;
        assert_eq!(kept.get(&url).send().await.unwrap().status(), StatusCode::OK);
    }
    assert!(!drain(held).await.1, "a body in flight is cut");
}

#[tokio::test]
async fn tests_can_wait_for_log_entries() {
    let forge = three().await;
    let url = format!("{}/repos/devsapp/fc3/releases/tags/v1.0.0?x=1", forge.github_api());
    let request = tokio::spawn(async move { get(&url).await.status() });
    let seen = forge.wait_for_request(|seen| seen.status == Some(200)).await;
    assert_eq!((seen.query("x").as_deref(), seen.header("user-agent")), (Some("1"), "forge-test"));
    request.await.unwrap();
    forge.clear_log();
    assert!(forge.requests().is_empty());
}

#[tokio::test]
async fn gitee_differs_from_github_where_the_real_one_does() {
    let forge = Forge::start().await;
    forge.accept_token("gitee_test");
    let repo = forge
        .gitee_repo("example/demo")
        .release("0.0.1", |r| r.created_at("2022-12-31T20:00:00Z"))
        .release("v1.0.0", |r| r.no_body());
    let api = format!("{}/repos/example/demo", forge.gitee_api());
    let list = get(&format!("{api}/releases")).await;
    assert_eq!((value(&list, "total_count"), value(&list, "total_page")), ("2", "1"));
    let list = json(list).await;
    assert_eq!(list[0]["tag_name"], "0.0.1");
    assert_eq!(list[0]["created_at"], "2023-01-01T04:00:00+08:00");
    assert!(list[0].get("zipball_url").is_none() && list[0].get("draft").is_none());
    let list = json(get(&format!("{api}/releases?direction=desc")).await).await;
    assert_eq!(list[0]["tag_name"], "v1.0.0");
    let missing = get(&format!("{api}/releases/tags/none")).await;
    assert_eq!((missing.status().as_u16(), missing.text().await.unwrap().as_str()), (200, "null"));
    assert_eq!(json(get(&format!("{}/repos/a/b", forge.gitee_api())).await).await["message"], "Not Found Project");

    let zip = format!("{api}/zipball?ref=v1.0.0");
    let anonymous = get(&zip).await;
    assert_eq!((anonymous.status().as_u16(), json(anonymous).await["code"].as_u64()), (401, Some(40001)));
    let with_token = async || client().get(&zip).header("authorization", "token gitee_test").send().await.unwrap();
    assert_eq!(with_token().await.bytes().await.unwrap(), repo.zip_bytes("v1.0.0"));
    forge.gitee_options(|options| options.zips = GiteeZips::RedirectToWeb);
    let location = value(&with_token().await, "location").to_owned();
    assert_eq!(get(&location).await.bytes().await.unwrap(), repo.zip_bytes("v1.0.0"));
    let web = format!("{}/example/demo/archive/refs/tags/v1.0.0.zip", forge.gitee_web());
    assert_eq!(get(&web).await.bytes().await.unwrap(), repo.zip_bytes("v1.0.0"));
    forge.gitee_options(|options| options.html_archives = true);
    assert_eq!(value(&get(&web).await, "content-type"), "text/html; charset=utf-8");
    forge.gitee_options(|options| options.anonymous_limit = Some(0));
    assert_eq!(json(get(&api).await).await["message"], "Rate Limit Exceeded");
}

#[tokio::test(start_paused = true)]
async fn paused_time_changes_nothing() {
    let forge = three().await;
    let gate = forge.gate_head(Match::any());
    let url = format!("{}/repos/devsapp/fc3", forge.github_api());
    let waiting = tokio::spawn(async move { get(&url).await.status() });
    gate.reached().await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    gate.open();
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
}
