//! `warm` while the forge or the server fails: it retries, obeys `Retry-After`, and reports both.
//!
//! Retries wait for seconds: a name near the beginning of the alphabet lets these tests begin before others, and none waits for
//! them alone at the end.

use std::path::Path;

use serde_json::Value;

use crate::{
    closed_port::ClosedPort,
    forge::{Fault, Forge, Host, Match},
    mirror::Mirror,
    process::{Ended, Launch},
};

async fn forge(versions: u32) -> Forge {
    let forge = Forge::start().await;
    let mut repo = forge.repo("devsapp/fc3");
    for n in 0..versions {
        repo = repo.release(&format!("v1.{n}.0"), |r| r.noise("data.bin", n.into(), 50_000));
    }
    forge
}

fn warm(forge: &Forge, dir: &Path, arguments: &[&str]) -> Launch {
    Launch::over(forge, dir, &[&["warm", "--json"], arguments].concat()).set("documents.cooldown", "1s")
}

fn events(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["event"] == kind).count()
}

#[tokio::test]
async fn warm_succeeds_though_every_third_request_fails() {
    let forge = forge(9).await;
    let dir = tempfile::tempdir().expect("a directory");
    let fault = forge.fault(Match::any(), Fault::status(500, &[], "")).every_nth(3);
    let ended = warm(&forge, dir.path(), &["devsapp/fc3@all"]).set("documents.cooldown", "1ms").run().await;
    let events = events(&ended);
    assert_eq!((ended.code, count(&events, "fetched"), count(&events, "failed")), (Some(0), 9, 0), "{ended:?}");
    assert!(fault.hits() > 3, "nothing failed");
}

#[tokio::test]
async fn the_quota_is_never_overspent_and_each_wait_is_announced() {
    let forge = forge(7).await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.rate_limits(10, 5000);
    forge.rate_reset_in(3);
    let ended = warm(&forge, dir.path(), &["devsapp/fc3@all"]).run().await;
    let events = events(&ended);
    assert_eq!((ended.code, count(&events, "fetched")), (Some(0), 7), "{ended:?}");
    let wait = events.iter().find(|event| event["event"] == "waiting").expect("a wait");
    let seconds = wait["seconds"].as_u64().expect("seconds");
    let why = wait["reason"].as_str().expect("a reason");
    assert!((1..=5).contains(&seconds) && why.contains("it allows 5 more requests"), "{wait}");
    assert_eq!(wait["for"], "github");
    let refused = forge.count(|seen| matches!(seen.status, Some(403 | 429)));
    assert_eq!(refused, 0, "the quota was run into");
}

#[tokio::test]
async fn an_announced_rate_limit_is_waited_for() {
    let forge = forge(1).await;
    let mirror = Mirror::over(&forge).await;
    let limited = || Fault::SecondaryRateLimit { retry_after: Some("1".into()) };
    for arguments in [&["--server", &mirror.url("")][..], &[]] {
        forge.repo("devsapp/fc3").delete_release("v1.0.0").release("v1.0.0", |r| r);
        forge.fault(Match::on(Host::GithubApi), limited());
        let ended = if arguments.is_empty() {
            let dir = tempfile::tempdir().expect("a directory");
            warm(&forge, dir.path(), &["devsapp/fc3"]).run().await
        } else {
            Launch::bare(&[&["warm", "--json", "devsapp/fc3"], arguments].concat()).run().await
        };
        let events = events(&ended);
        assert_eq!((ended.code, count(&events, "fetched"), count(&events, "waiting")), (Some(0), 1, 1), "{ended:?}");
    }
}

#[tokio::test]
async fn a_wait_longer_than_allowed_is_a_failure_with_its_reason() {
    let forge = forge(1).await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.fault(Match::any(), Fault::SecondaryRateLimit { retry_after: Some("900".into()) });
    let ended = warm(&forge, dir.path(), &["devsapp/fc3", "--max-wait", "10s"]).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let events = events(&ended);
    let reason = events[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("try again in 900 s, which is longer than --max-wait"), "{reason}");
}

#[tokio::test]
async fn an_unreachable_upstream_is_69_after_one_attempt() {
    let forge = forge(1).await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.down().await;
    let ended = warm(&forge, dir.path(), &["devsapp/fc3", "devsapp/a", "devsapp/b", "--jobs", "1"]).run().await;
    assert_eq!((ended.code, count(&events(&ended), "failed")), (Some(69), 3), "{ended:?}");
}

#[tokio::test]
async fn failures_are_named_with_their_reasons_and_the_rest_is_fetched() {
    let forge = forge(2).await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/bad").release("v1.0.0", |r| r.wrong_crc());
    let specs = ["devsapp/fc3@1.0.0", "devsapp/fc3@9.9.9", "devsapp/fc3@^7", "devsapp/none", "devsapp/bad"];
    let ended = warm(&forge, dir.path(), &specs).set("documents.cooldown", "1ms").run().await;
    let events = events(&ended);
    assert_eq!((ended.code, count(&events, "fetched"), count(&events, "failed")), (Some(1), 1, 4), "{ended:?}");
    let failures = &events.last().expect("a summary")["failures"];
    for (what, why) in [
        ("devsapp/fc3@9.9.9", "has no version 9.9.9"),
        ("devsapp/fc3@^7", "none of its 2 releases fits ^7"),
        ("devsapp/none", "there is no package"),
        ("devsapp/bad@v1.0.0", "invalid response"),
    ] {
        let failure = failures.as_array().expect("a list").iter().find(|failure| failure["what"] == what);
        let reason = failure.unwrap_or_else(|| panic!("{what}: {failures}"))["reason"].as_str().expect("a reason");
        assert!(reason.contains(why), "{what}: {reason}");
    }
}

#[tokio::test]
async fn an_address_without_a_server_is_69() {
    let closed = ClosedPort::new();
    let url = format!("http://{}", closed.address());
    let ended = Launch::bare(&["warm", "--server", &url, "devsapp/fc3"]).run().await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.err.contains("failed  devsapp/fc3: "), "{}", ended.err);
}
