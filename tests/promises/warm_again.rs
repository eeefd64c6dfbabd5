//! A second `warm` fetches only what is missing, however the first one ended, with or without a running server.

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    eventually::eventually,
    forge::{Forge, Host, Match},
    mirror::{Mirror, setup},
    process::{Ended, Launch, blob, spooled},
};

const TAGS: [&str; 3] = ["v1.0.0", "v1.1.0", "v1.2.0"];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let mut repo = forge.repo("devsapp/fc3");
    for (seed, tag) in TAGS.into_iter().enumerate() {
        repo = repo.release(tag, |r| r.noise("data.bin", seed as u64, 1 << 20));
    }
    forge
}

fn summary(ended: &Ended) -> Value {
    let last = ended.out.lines().last().unwrap_or_else(|| panic!("no summary: {ended:?}"));
    serde_json::from_str(last).expect("JSON")
}

fn counts(ended: &Ended) -> (Option<i32>, u64, u64, u64) {
    let summary = summary(ended);
    let count = |name: &str| summary[name].as_u64().expect("a number");
    (ended.code, count("fetched"), count("stored"), count("failed"))
}

fn zips(forge: &Forge, tag: &str) -> usize {
    forge.count(|seen| seen.host == Host::Archive && seen.contains(tag))
}

fn all(forge: &Forge, dir: &Path) -> Launch {
    Launch::over(forge, dir, &["warm", "--json", "--jobs", "1", "devsapp/fc3@all"])
}

#[tokio::test]
async fn a_complete_package_costs_one_conditional_request_through_the_running_server() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(counts(&all(&forge, mirror.dir()).run().await), (Some(0), 3, 0, 0));
    for tag in TAGS {
        assert!(blob(mirror.dir(), &forge.sha256("devsapp/fc3", tag)).exists());
    }
    mirror.clock.advance(Duration::from_secs(7200));
    forge.clear_log();
    assert_eq!(counts(&all(&forge, mirror.dir()).run().await), (Some(0), 0, 3, 0));
    let asked = forge.requests();
    let told: Vec<_> = asked.iter().map(|seen| (seen.path(), seen.status)).collect();
    assert!(asked.len() == 1 && !asked[0].header("if-none-match").is_empty(), "{told:?}");
    assert_eq!(mirror.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn only_a_new_release_is_fetched() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(counts(&all(&forge, dir.path()).run().await), (Some(0), 3, 0, 0));
    forge.repo("devsapp/fc3").release("v1.3.0", |r| r);
    mirror.clock.advance(Duration::from_secs(60));
    assert_eq!(counts(&all(&forge, dir.path()).run().await), (Some(0), 1, 3, 0));
    assert_eq!(mirror.get("/devsapp/fc3/releases/latest").await.json()["tag_name"], "v1.3.0");
}

#[tokio::test]
async fn a_version_without_a_date_is_as_old_as_its_pin() {
    let forge = forge().await;
    forge.repo("devsapp/fc3").tag_only("edge");
    let dir = tempfile::tempdir().expect("a directory");
    let run = |age| Launch::over(&forge, dir.path(), &["warm", "--json", "devsapp/fc3@edge", "--min-age", age]).run();
    assert_eq!(counts(&run("1h").await), (Some(0), 0, 0, 0), "it was never seen");
    let fetched = Launch::over(&forge, dir.path(), &["warm", "--json", "devsapp/fc3@edge"]).run().await;
    assert_eq!(counts(&fetched), (Some(0), 1, 0, 0));
    assert_eq!(counts(&run("1h").await), (Some(0), 0, 0, 0), "it was seen just now");
    assert_eq!(counts(&run("0s").await), (Some(0), 0, 1, 0));
}

#[tokio::test]
async fn a_running_mirror_is_filled_by_its_address() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let url = mirror.url("");
    let run = || Launch::bare(&["warm", "--json", "--server", &url, "devsapp/fc3@^1.1"]).run();
    let first = run().await;
    assert_eq!(counts(&first), (Some(0), 2, 0, 0), "{first:?}");
    assert!(first.out.contains(&forge.sha256("devsapp/fc3", "v1.2.0")), "{}", first.out);
    let asked = forge.requests().len();
    eventually("both are stored", async || counts(&run().await) == (Some(0), 0, 2, 0)).await;
    assert_eq!(forge.requests().len(), asked, "a second run asked the forge");
}

/// Stops a run by a signal while its second version waits at a gate; another run finishes the work.
async fn stopped_by(signal: &str, code: Option<i32>) {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let gate = forge.gate(Match::on(Host::Archive).containing("v1.1.0"), 1 << 19);
    let mut job = all(&forge, dir.path()).begin();
    job.wait_for_output("\"event\":\"fetched\",\"what\":\"devsapp/fc3@v1.2.0\"").await;
    gate.reached().await;
    job.signal(signal).await;
    let ended = job.ended().await;
    assert_eq!(ended.code, code, "{ended:?}");
    if code.is_some() {
        let last = summary(&ended);
        assert_eq!((&last["interrupted"], &last["fetched"]), (&true.into(), &1.into()), "{ended:?}");
        assert_eq!(spooled(dir.path()), 0, "a part was left");
    }
    gate.open();
    assert_eq!(counts(&all(&forge, dir.path()).run().await), (Some(0), 2, 1, 0));
    assert_eq!((zips(&forge, "v1.2.0"), zips(&forge, "v1.1.0"), zips(&forge, "v1.0.0")), (1, 2, 1));
    for tag in TAGS {
        assert!(blob(dir.path(), &forge.sha256("devsapp/fc3", tag)).exists());
    }
}

#[tokio::test]
async fn ctrl_c_stops_cleanly_and_the_next_run_continues() {
    stopped_by("INT", Some(130)).await;
}

#[tokio::test]
async fn the_run_after_a_kill_continues() {
    stopped_by("KILL", None).await;
}

#[tokio::test]
async fn ctrl_c_does_not_stop_the_server() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let gate = forge.gate(Match::on(Host::Archive), 1 << 19);
    let job = Launch::over(&forge, mirror.dir(), &["warm", "devsapp/fc3@1.0.0"]).begin();
    gate.reached().await;
    job.signal("INT").await;
    assert_eq!(job.ended().await.code, Some(130));
    gate.open();
    let stored = blob(mirror.dir(), &forge.sha256("devsapp/fc3", "v1.0.0"));
    eventually("the fill goes on", async || stored.exists()).await;
    assert_eq!(zips(&forge, "v1.0.0"), 1);
}
