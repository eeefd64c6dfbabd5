//! `srm-mirror status` says whose fault it is, and agrees with `/readyz` and `/metrics`.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    eventually::eventually,
    forge::Forge,
    process::{Ended, Launch, Process},
};

const LIST: &str = "/devsapp/fc3/releases";

async fn status(dir: &Path, arguments: &[&str]) -> Ended {
    let dir = dir.to_str().expect("text");
    Launch::bare(&[&["status", "--cache-dir", dir], arguments].concat()).run().await
}

async fn report(dir: &Path) -> Value {
    let ended = status(dir, &["--json"]).await;
    serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"))
}

fn upstream<'a>(report: &'a Value, name: &str) -> &'a Value {
    let upstreams = report["upstreams"].as_array().expect("upstreams");
    upstreams.iter().find(|upstream| upstream["name"] == name).expect(name)
}

async fn metric(mirror: &Process, name: &str) -> String {
    let text = String::from_utf8(mirror.get("/metrics").await.body.to_vec()).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.trim().to_owned()
}

#[tokio::test]
async fn a_healthy_mirror_is_ready_and_names_the_upstreams_that_were_never_asked() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    assert_eq!(mirror.get(LIST).await.status, 200);
    let ended = status(dir.path(), &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("ready: srm-mirror "), "{ended:?}");
    assert!(ended.out.contains("github       answers; last answer "), "{ended:?}");
    assert!(ended.out.contains("official     not asked yet\n"), "{ended:?}");
    let report = report(dir.path()).await;
    assert_eq!((&report["pid"], &report["stale_answers"]), (&json!(mirror.pid()), &json!(0)));
    assert_eq!(upstream(&report, "github")["failure"], Value::Null);
}

#[tokio::test]
async fn while_a_forge_is_down_status_readyz_and_metrics_name_it() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = Launch::serve(&forge, dir.path())
        .set("documents.fresh_anonymous", "1ms")
        .set("documents.cooldown", "1ms")
        .set("documents.stale_while_revalidate", "1ms")
        .start();
    let mirror = mirror.await;
    assert_eq!(mirror.get(LIST).await.status, 200);
    forge.down().await;
    eventually("the breaker opens", || async {
        let got = mirror.get(LIST).await;
        assert_eq!(got.status, 200, "what is stored is served");
        metric(&mirror, "srm_mirror_upstream_breaker_open{upstream=\"github\"}").await == "1"
    })
    .await;
    let ended = status(dir.path(), &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = report(dir.path()).await;
    let github = upstream(&report, "github");
    assert_eq!(github["pause"]["code"], json!("upstream-unreachable"), "{report}");
    assert_eq!(github["failure"]["code"], json!("upstream-unreachable"), "{report}");
    assert!(github["failed"].as_u64() >= Some(5) && github["answered_at"].is_string(), "{report}");
    assert!(report["stale_answers"].as_u64() > Some(0), "{report}");
    assert_eq!(report["state"], json!("degraded"));
    let recent = report["recent"].as_array().expect("events");
    assert!(recent.iter().any(|event| event["text"].as_str().is_some_and(|text| text.contains("upstream=github"))));
    let ready = mirror.get("/readyz").await.json();
    assert_eq!(ready["status"], report["state"]);
    assert!(ready["reasons"][0].as_str().is_some_and(|reason| reason.starts_with("github does not answer")), "{ready}");
    assert!(report["reasons"][0].as_str().is_some_and(|reason| reason.starts_with("github does not answer")));
}

#[tokio::test]
async fn a_refused_credential_is_named_without_its_secret() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut mirror = Launch::serve(&forge, dir.path())
        .set("upstreams.github.token_env", "THE_TOKEN")
        .variable("THE_TOKEN", "N0TVALID")
        .start()
        .await;
    mirror.logs("the credential THE_TOKEN is wrong or revoked").await;
    let ended = status(dir.path(), &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains("credential THE_TOKEN refused since "), "{ended:?}");
    assert!(!ended.out.contains("N0TVALID"), "{ended:?}");
}
