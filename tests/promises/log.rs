//! The log: one event per request, a machine's or a person's, on standard error; and what the ops pages say.

use serde_json::Value;

use crate::{
    forge::Forge,
    process::{Ended, Launch},
};

async fn asked(format: Option<&str>) -> Ended {
    let (forge, dir) = (Forge::start().await, tempfile::tempdir().expect("a directory"));
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"1"));
    let launch = Launch::serve(&forge, dir.path());
    let launch = match format {
        Some(format) => launch.set("log.format", format),
        None => launch,
    };
    let mirror = launch.start().await;
    for path in ["/devsapp/fc3/zipball/1.0.0", "/devsapp/fc3/releases", "/devsapp/none/releases", "/nothing", "/readyz"]
    {
        mirror.get(path).await;
    }
    mirror.stop().await
}

fn events(ended: &Ended) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no object: {line}"));
    let all = ended.err.lines().map(parse);
    all.filter(|event: &Value| event["target"] == "srm_mirror::access").collect()
}

#[tokio::test]
async fn off_a_terminal_every_line_is_one_object_and_every_request_one_event() {
    let ended = asked(None).await;
    let events = events(&ended);
    let status: Vec<_> = events.iter().map(|event| event["status"].as_u64()).collect();
    assert_eq!(status, [200, 200, 404, 404, 200].map(Some), "{}", ended.err);
    let zip = &events[0];
    for (field, value) in [
        ("package", "devsapp/fc3"),
        ("cache", "miss"),
        ("outcome", "complete"),
        ("upstream", "github"),
        ("dialect", "srm"),
    ] {
        assert_eq!(zip[field], value, "{zip}");
    }
    for field in ["request_id", "duration_ms", "bytes", "client", "method", "version", "upstream_status"] {
        assert!(!zip[field].is_null(), "{field}: {zip}");
    }
    assert!(zip["bytes"].as_u64() > Some(100), "{zip}");
    assert!(!ended.out.contains("srm_mirror::access"), "the log is not for standard output");
}

#[tokio::test]
async fn text_is_text_and_has_the_same_events() {
    let ended = asked(Some("text")).await;
    let lines: Vec<&str> = ended.err.lines().filter(|line| line.contains("srm_mirror::access")).collect();
    assert_eq!(lines.len(), 5, "{}", ended.err);
    assert!(lines.iter().all(|line| !line.starts_with('{') && !line.contains('\u{1b}')), "{lines:?}");
    assert!(lines[0].contains("status=200") && lines[0].contains("devsapp/fc3"), "{}", lines[0]);
}

#[tokio::test]
async fn alive_and_ready_are_asked_without_a_forge() {
    let (forge, dir) = (Forge::start().await, tempfile::tempdir().expect("a directory"));
    forge.down().await;
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let alive = mirror.get("/healthz").await;
    assert_eq!((alive.status, alive.json()["status"].as_str()), (200, Some("alive")));
    let ready = mirror.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
    assert_eq!(ready.header("cache-control"), "no-store");
}
