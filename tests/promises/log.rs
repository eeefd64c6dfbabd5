//! The log: one event per request, as JSON or text, on standard error; and the operations pages.

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{
    forge::{Forge, Match},
    process::{Ended, Launch},
};

async fn log_of(format: Option<&str>) -> Ended {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
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
    let ended = log_of(None).await;
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
    let ended = log_of(Some("text")).await;
    let lines: Vec<&str> = ended.err.lines().filter(|line| line.contains("srm_mirror::access")).collect();
    assert_eq!(lines.len(), 5, "{}", ended.err);
    assert!(lines.iter().all(|line| !line.starts_with('{') && !line.contains('\u{1b}')), "{lines:?}");
    assert!(lines[0].contains("status=200") && lines[0].contains("devsapp/fc3"), "{}", lines[0]);
}

#[tokio::test]
async fn health_checks_need_no_forge() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.down().await;
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    let alive = mirror.get("/healthz").await;
    assert_eq!((alive.status, alive.json()["status"].as_str()), (200, Some("alive")));
    let ready = mirror.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")));
    assert_eq!(ready.header("cache-control"), "no-store");
}

#[tokio::test]
async fn no_request_waits_for_the_log_reader_and_lost_events_are_counted() {
    // More than queue, writer buffer and pipe hold together.
    const REQUESTS: usize = 12_000;
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Launch::serve(&forge, dir.path()).command().spawn().expect("the program starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = out.next_line().await.expect("read").expect("a line");
    let address = first.strip_prefix("listening on http://").expect("an address").to_owned();
    let (reader, mut writer) = TcpStream::connect(&address).await.expect("connected").into_split();
    let asked = tokio::spawn(async move {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
        for _ in 0..REQUESTS {
            writer.write_all(request.as_bytes()).await.expect("sent");
        }
        writer
    });
    let mut lines = BufReader::new(reader).lines();
    let mut answers = 0;
    while answers < REQUESTS {
        let line = lines.next_line().await.expect("read").expect("not closed");
        answers += usize::from(line.contains("HTTP/1.1 200"));
    }
    drop(asked.await.expect("no panic"));

    // The reader starts only now.
    let mut err = child.stderr.take().expect("piped");
    let pid = child.id().expect("running").to_string();
    assert!(tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill").success());
    let mut text = String::new();
    err.read_to_string(&mut text).await.expect("text");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let written = events.iter().filter(|event| event["target"] == "srm_mirror::access").count();
    let lost: u64 = events.iter().filter_map(|event| event["events"].as_u64()).sum();
    assert!(lost > 0 && written > 0, "{lost} lost, {written} written");
    assert_eq!(written as u64 + lost, REQUESTS as u64);
}

#[tokio::test]
async fn a_client_that_disconnects_before_its_response_has_an_event() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"1"));
    let gate = forge.gate_head(Match::any());
    let mut mirror = Launch::serve(&forge, dir.path()).start().await;
    let mut client = TcpStream::connect(mirror.address).await.expect("connected");
    client.write_all(b"GET /devsapp/fc3/zipball/1.0.0 HTTP/1.1\r\nhost: m\r\n\r\n").await.expect("sent");
    gate.reached().await;
    drop(client);
    // The forge still withholds its response.
    mirror.logs("aborted").await;
    gate.open();
    let ended = mirror.stop().await;
    let events = events(&ended);
    let left = events.iter().find(|event| event["package"] == "devsapp/fc3").unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!(left["outcome"], "aborted", "{left}");
    assert!(left["status"].is_null() && left["bytes"] == 0, "{left}");
}
