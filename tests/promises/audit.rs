//! The audit log says who was sent what, which rule refused, and what operators did; and holds no secret.

use std::path::Path;

use serde_json::{Value, json};
use srm_mirror::{access::RuleConfig, config::Config};

use crate::{
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, setup},
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge
}

fn audited(forge: &Forge, file: &Path) -> Setup {
    let rule =
        RuleConfig { packages: vec!["devsapp/*".into()], read: vec!["token:ci".into()], ..RuleConfig::default() };
    setup(forge).with(|config: &mut Config| {
        config.access.enabled = true;
        config.access.rules = vec![rule];
        config.audit.file = Some(file.to_owned());
    })
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The lines, once there are so many.
async fn recorded(file: &Path, count: usize) -> Vec<Value> {
    eventually("the lines", async || lines(file).len() >= count).await;
    lines(file)
}

async fn token(mirror: &Mirror) -> String {
    let ask = json!({"name": "ci", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
    let created = mirror.admin(mirror.dir(), "token/create", ask).await;
    created[0]["secret"].as_str().expect("a secret").to_owned()
}

#[tokio::test]
async fn every_answer_and_every_refusal_is_recorded_with_its_caller_and_its_rule() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("audit.jsonl");
    let forge = forge().await;
    let mirror = audited(&forge, &file).start().await;
    let secret = token(&mirror).await;
    let bearer = format!("Bearer {secret}");
    let served = mirror.get_with(ZIP, &[("authorization", &bearer)]).await;
    let again = mirror.get_with(ZIP, &[("authorization", &bearer)]).await;
    assert_eq!((served.status, again.status), (200, 200));
    assert_eq!(mirror.get(ZIP).await.status, 401);
    assert_eq!(mirror.get("/acme/x/releases").await.status, 401);
    assert_eq!(mirror.get("/healthz").await.status, 200);
    let lines = recorded(&file, 5).await;
    assert_eq!(lines.len(), 5, "health checks are left out: {lines:?}");
    let of = |index: usize, field: &str| lines[index][field].clone();
    assert_eq!(
        (of(0, "event"), of(0, "action"), of(0, "outcome")),
        ("administration".into(), "token/create".into(), "done".into())
    );
    assert_eq!(of(0, "request")["name"], "ci");
    for index in [1, 2] {
        assert_eq!(
            (of(index, "principal"), of(index, "status"), of(index, "outcome")),
            ("token:ci".into(), 200.into(), "complete".into())
        );
        assert_eq!((of(index, "package"), of(index, "version")), ("devsapp/fc3".into(), "v1.0.0".into()));
        assert_eq!(of(index, "bytes"), served.body.len());
    }
    assert_eq!(of(2, "sha256"), again.sha256());
    assert_eq!((of(3, "status"), of(3, "code"), of(3, "rule")), (401.into(), "unauthorized".into(), 1.into()));
    assert_eq!((of(4, "status"), of(4, "rule"), of(4, "principal")), (401.into(), Value::Null, Value::Null));
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(!text.contains(&secret), "a secret is in the audit log");
}

#[tokio::test]
async fn what_operators_do_is_recorded_whether_it_succeeds_or_not() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("audit.jsonl");
    let forge = forge().await;
    let mirror = audited(&forge, &file).start().await;
    mirror.admin(mirror.dir(), "block", json!({"pattern": "a/b@1", "reason": "why"})).await;
    let refused = mirror.control(mirror.dir(), reqwest::Method::POST, "/-/unblock", r#"{"pattern": "c/d"}"#).await;
    assert_eq!(refused.status, 400);
    let lines = recorded(&file, 2).await;
    assert_eq!((&lines[0]["action"], &lines[0]["request"]["reason"]), (&"block".into(), &"why".into()));
    assert_eq!((&lines[1]["action"], &lines[1]["outcome"]), (&"unblock".into(), &"failed".into()));
}

#[tokio::test]
async fn the_file_is_opened_again_on_reload_and_complete_after_the_end() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("audit.jsonl");
    let forge = forge().await;
    let mirror = audited(&forge, &file).start().await;
    assert_eq!(mirror.get(ZIP).await.status, 401);
    recorded(&file, 1).await;
    let moved = folder.path().join("moved");
    std::fs::rename(&file, &moved).expect("renamed");
    mirror.reload.request();
    let requests = std::cell::Cell::new(1);
    eventually("a new file", async || {
        requests.set(requests.get() + 1);
        assert_eq!(mirror.get(ZIP).await.status, 401);
        file.exists()
    })
    .await;
    mirror.stop().await;
    assert_eq!(lines(&file).len() + lines(&moved).len(), requests.get());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_stops_the_start() {
    let folder = tempfile::tempdir().expect("a directory");
    let forge = forge().await;
    let mut setup = audited(&forge, &folder.path().join("missing/audit.jsonl"));
    setup.config.disk.dir = Some(folder.path().join("cache"));
    let clock = srm_mirror::clock::Clock::default();
    let error = srm_mirror::app::App::bind_with_clock(setup.config, setup.credentials, clock).await.err();
    let text = format!("{:#}", error.expect("refused"));
    assert!(text.contains("audit.file") && text.contains("missing/audit.jsonl"), "{text}");
}
