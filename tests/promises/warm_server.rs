//! `warm --server` uses the plain routes: an offline mirror is final, `Retry-After` is obeyed and reported, and a mirror
//! that wants a token gets it, no other address does.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use srm_mirror::{access::RuleConfig, cache::policy::UpstreamMode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    forge::Forge,
    mirror::{Mirror, setup},
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

/// The heads of the requests that a server received.
type Heads = Arc<Mutex<Vec<String>>>;

/// Answers requests with these responses in order; repeats the last one.
async fn answers(answers: Vec<String>) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let heads = Heads::default();
    let seen = heads.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if socket.read_buf(&mut head).await.expect("read") == 0 {
                    break;
                }
            }
            let at = {
                let mut seen = seen.lock().expect("no panic");
                seen.push(String::from_utf8_lossy(&head).to_ascii_lowercase());
                (seen.len() - 1).min(answers.len() - 1)
            };
            socket.write_all(answers[at].as_bytes()).await.expect("written");
        }
    });
    (url, heads)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn retry_after_of_a_server_is_obeyed_and_the_wait_is_reported() {
    let (url, heads) = answers(vec![
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
    assert_eq!((waits, heads.lock().expect("no panic").len()), (expected.to_vec(), 4), "{ended:?}");
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

/// A mirror of [`forge`] that serves nothing without a token, and the token that it serves everything to.
async fn closed(forge: &Forge) -> (Mirror, String) {
    let rule = RuleConfig { packages: vec!["*".into()], read: vec!["token:warmer".into()], ..RuleConfig::default() };
    let closed = setup(forge).with(|config| {
        config.access.enabled = true;
        config.access.rules = vec![rule];
    });
    let mirror = closed.start().await;
    let ask = json!({"name": "warmer", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
    let answer = mirror.admin(mirror.dir(), "token/create", ask).await;
    let token = answer[0]["secret"].as_str().expect("a secret").to_owned();
    (mirror, token)
}

#[tokio::test]
async fn a_closed_mirror_is_warmed_with_a_token_from_a_file_or_the_variable() {
    let forge = forge().await;
    let (mirror, token) = closed(&forge).await;
    let warm = |package: &str, more: &[&str]| {
        let url = mirror.url("");
        Launch::bare(&[&["warm", "--server", &url, package], more].concat())
    };
    let without = warm("devsapp/fc3@1.0.0", &[]).run().await;
    assert_eq!(without.code, Some(1), "{without:?}");
    for words in ["only to clients with a token", "--token-file", "SRM_MIRROR_TOKEN"] {
        assert!(without.err.contains(words), "{}", without.err);
    }
    let wrong =
        warm("devsapp/fc3@1.0.0", &[]).variable("SRM_MIRROR_TOKEN", &token.replace("srmt_", "srmt_x")).run().await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.err.contains("no such token") && wrong.err.contains("from SRM_MIRROR_TOKEN"), "{}", wrong.err);

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{token}\n")).expect("written");
    let file = file.to_str().expect("text");
    let by_file =
        warm("devsapp/fc3@1.0.0", &["--token-file", file]).variable("SRM_MIRROR_TOKEN", "another").run().await;
    let by_variable = warm("devsapp/fc3@1.1.0", &[]).variable("SRM_MIRROR_TOKEN", &token).run().await;
    for ended in [&by_file, &by_variable] {
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    for ended in [without, wrong, by_file, by_variable] {
        assert!(!format!("{ended:?}").contains(&token[5..]), "{ended:?}");
    }
}

#[tokio::test]
async fn a_token_goes_to_the_named_server_and_to_no_redirects_target() {
    let (other, other_heads) = answers(vec![answer("200 OK", "", "[]")]).await;
    let location = format!("location: {other}/devsapp/fc3/releases\r\n");
    let (url, heads) = answers(vec![answer("302 Found", &location, "")]).await;
    let warm = Launch::bare(&["warm", "--server", &url, "devsapp/fc3"]);
    let ended = warm.variable("SRM_MIRROR_TOKEN", "srmt_secret").run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let check = Launch::bare(&["connect", &url, "--check", "--package", "devsapp/fc3@1.0.0"]);
    let checked = check.variable("SRM_MIRROR_TOKEN", "srmt_secret").run().await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let heads = heads.lock().expect("no panic");
    let sent = |head: &&String| head.contains("authorization: bearer srmt_secret");
    assert!(heads.iter().filter(sent).count() > 5, "{heads:?}");
    let own = url.trim_start_matches("http://");
    let elsewhere: Vec<_> = heads.iter().filter(|head| !head.contains(&format!("host: {own}"))).collect();
    assert!(!elsewhere.is_empty(), "the built-in names are tried");
    assert!(!elsewhere.iter().any(|head| head.contains("srmt_")), "{elsewhere:?}");
    assert_eq!(other_heads.lock().expect("no panic").len(), 0);
    assert!(!format!("{ended:?} {checked:?}").contains("srmt_secret"), "{ended:?} {checked:?}");
}

#[tokio::test]
async fn a_closed_mirror_is_checked_with_a_token() {
    let forge = forge().await;
    let (mirror, token) = closed(&forge).await;
    let check = Launch::bare(&["connect", &mirror.url(""), "--check", "--package", "devsapp/fc3"]);
    let with_token = check.clone().variable("SRM_MIRROR_TOKEN", &token).run().await;
    assert_eq!(with_token.code, Some(0), "{with_token:?}");
    let row = with_token.out.lines().find(|line| line.contains("s 2 by hosts entry")).expect("a row");
    assert!(row.starts_with("off") && row.contains("this client sends no token"), "{row}");
    let without = check.run().await;
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(without.out.contains("401 the mirror serves this only to clients with a token"), "{}", without.out);
}

#[tokio::test]
async fn a_token_file_that_cannot_be_used_is_exit_code_64() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    let file = file.to_str().expect("text");
    let run =
        async || Launch::bare(&["warm", "--server", "http://127.0.0.1:1", "--token-file", file, "a/b"]).run().await;
    let missing = run().await;
    std::fs::write(file, "two words").expect("written");
    let words = run().await;
    assert_eq!((missing.code, words.code), (Some(64), Some(64)), "{missing:?} {words:?}");
    assert!(missing.err.contains("cannot be read") && words.err.contains("has no token"), "{missing:?} {words:?}");
    let stray = Launch::bare(&["warm", "--token-file", file, "a/b"]).run().await;
    assert_eq!(stray.code, Some(64), "{stray:?}");
}
