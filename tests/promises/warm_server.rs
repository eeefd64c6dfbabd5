//! `warm --server` uses the plain routes: an offline mirror is final, and `Retry-After` is obeyed and reported.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use srm_mirror::cache::policy::UpstreamMode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    forge::Forge,
    mirror::setup,
    process::{Ended, Launch},
};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    forge
}

fn events(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[tokio::test]
async fn an_offline_server_is_asked_once_and_its_misses_are_named() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let warmed = Launch::over(&forge, dir.path(), &["warm", "--quiet", "devsapp/fc3@1.0.0"]).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    let connections = forge.connections();
    let mirror = setup(&forge).with(|config| config.mode = UpstreamMode::Offline).start_in(dir.path()).await;
    let begun = std::time::Instant::now();
    let specs = ["warm", "--json", "--server", &mirror.url(""), "devsapp/fc3@all", "devsapp/other"];
    let by_address = Launch::bare(&specs).run().await;
    let by_socket =
        Launch::over(&forge, dir.path(), &["warm", "--json", "devsapp/fc3@all", "devsapp/other"]).run().await;
    for ended in [by_address, by_socket] {
        let events = events(&ended);
        let failed: Vec<_> =
            of(&events, "failed").iter().map(|event| event["what"].as_str().expect("a text")).collect();
        assert_eq!(
            (ended.code, failed.as_slice()),
            (Some(1), &["devsapp/other", "devsapp/fc3@v1.1.0"][..]),
            "{ended:?}"
        );
        let reasons = of(&events, "failed").into_iter().map(|event| event["reason"].as_str().expect("a reason"));
        assert!(reasons.into_iter().all(|why| why.contains("not in this mirror, which is offline")), "{events:?}");
        assert_eq!((of(&events, "stored").len(), of(&events, "waiting").len()), (1, 0), "{events:?}");
    }
    // Each retry would wait at least a second.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it was tried again and again");
    assert_eq!(forge.connections(), connections);
}

#[tokio::test]
async fn an_offline_directory_is_a_failure_with_its_reason_and_opens_no_socket() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let connections = forge.connections();
    let ended = Launch::over(&forge, dir.path(), &["warm", "devsapp/fc3"]).set("mode", "offline").run().await;
    assert_eq!((ended.code, forge.connections()), (Some(1), connections), "{ended:?}");
    assert!(ended.err.contains("not in this mirror, which is offline"), "{}", ended.err);
}

/// Answers requests with these responses in order; repeats the last one.
async fn answers(answers: Vec<String>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if socket.read_buf(&mut head).await.expect("read") == 0 {
                    break;
                }
            }
            let at = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            socket.write_all(answers[at].as_bytes()).await.expect("written");
        }
    });
    (url, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn retry_after_of_a_server_is_obeyed_and_the_wait_is_reported() {
    let (url, asked) = answers(vec![
        answer("429 Too Many Requests", "retry-after: 1\r\n", "slow down"),
        answer("503 Service Unavailable", "retry-after: 1\r\n", r#"{"message":"github limits the mirror's requests"}"#),
        answer("200 OK", "", "[]"),
        answer("404 Not Found", "", r#"{"message":"none"}"#),
    ])
    .await;
    let ended = Launch::bare(&["warm", "--server", &url, "devsapp/fc3"]).run().await;
    let waits: Vec<_> = ended.out.lines().filter(|line| line.starts_with("waiting")).collect();
    let expected = [
        "waiting 1 s for the mirror: the mirror answered 429 Too Many Requests",
        "waiting 1 s for the mirror: github limits the mirror's requests",
    ];
    assert_eq!((waits, asked.load(Ordering::SeqCst)), (expected.to_vec(), 4), "{ended:?}");
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), "failed  devsapp/fc3: it has no release\n"));
}

#[tokio::test]
async fn a_plain_name_without_a_route_is_an_error_with_the_remedy() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let run =
        |arguments: &'static [&'static str]| Launch::over(&forge, dir.path(), arguments).set("names.official", "false");
    let ended = run(&["warm", "fc3@1.0.0"]).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for words in ["no route says where fc3 comes from", "write owner/repo", "add a route or an alias"] {
        assert!(ended.err.contains(words), "{}", ended.err);
    }
    let ended = run(&["warm", "fc3@1.0.0"]).set("names.default_owner", "devsapp").run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let other = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).with(|config| config.names.official = Some(false)).start_in(other.path()).await;
    let ended = Launch::bare(&["warm", "--server", &mirror.url(""), "fc3@1.0.0"]).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("no route says where fc3 comes from"), "{}", ended.err);
}
