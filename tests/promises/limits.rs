//! Limits per client (header size, time, connections) and the size limit of a zip.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    eventually::eventually,
    forge::{Forge, Host, Lengths},
    mirror::setup,
    plain_client,
    process::{Launch, Process, files, spooled},
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";

async fn mirror(len: u64, change: impl FnOnce(Launch) -> Launch) -> (Forge, tempfile::TempDir, Process) {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, len));
    let mirror = change(Launch::serve(&forge, dir.path())).start().await;
    (forge, dir, mirror)
}

async fn response_text(mirror: &Process, request: &str) -> String {
    let mut stream = TcpStream::connect(mirror.address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_header_over_the_limit_is_431_and_the_next_client_is_served() {
    let (_forge, _dir, mirror) = mirror(1000, |launch| launch.set("server.header_limit", "8KiB")).await;
    let field = format!("GET /healthz HTTP/1.1\r\nHost: m\r\nX: {}\r\n\r\n", "x".repeat(9 << 10));
    assert!(response_text(&mirror, &field).await.starts_with("HTTP/1.1 431"));
    let fields: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nHost: m\r\n{fields}\r\n");
    assert!(response_text(&mirror, &many).await.starts_with("HTTP/1.1 431"));
    assert_eq!(mirror.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_header_that_arrives_too_slowly_ends_the_connection() {
    let (_forge, _dir, mirror) = mirror(1000, |launch| launch.set("server.header_timeout", "200ms")).await;
    for beginning in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nHost: m\r\n"] {
        let started = Instant::now();
        assert_eq!(response_text(&mirror, beginning).await, "", "{beginning:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "it took as long as without the limit");
    }
    // Bytes that each arrive in time do not extend the header's deadline.
    let mut stream = TcpStream::connect(mirror.address).await.expect("connected");
    let mut sent = 0;
    while stream.write_all(b"G").await.is_ok() && sent < 200 {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(sent < 200, "a header may arrive byte by byte without end");
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_until_another_ends() {
    let (_forge, _dir, mirror) = mirror(1000, |launch| launch.set("server.max_connections", "2")).await;
    let one = TcpStream::connect(mirror.address).await.expect("connected");
    let _two = TcpStream::connect(mirror.address).await.expect("connected");
    let asking = response_text(&mirror, "GET /devsapp/fc3/releases HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    let mut asking = std::pin::pin!(asking);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut asking).await;
    assert!(early.is_err(), "a third connection was served: {early:?}");
    drop(one);
    assert!(asking.await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_and_others_are_not() {
    // Larger than the kernel's socket buffers.
    let (forge, _dir, mut mirror) = mirror(24 << 20, |launch| launch.set("server.send_timeout", "300ms")).await;
    let sum = forge.sha256("devsapp/fc3", "v1.0.0");
    assert_eq!(mirror.get(ZIP).await.sha256(), sum);
    let mut stalled = TcpStream::connect(mirror.address).await.expect("connected");
    let request = format!("GET {ZIP} HTTP/1.1\r\nHost: m\r\nUser-Agent: stalled\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.expect("sent");
    assert_eq!(mirror.get(ZIP).await.sha256(), sum);
    mirror.logs("\"user_agent\":\"stalled\"").await;
    let log = mirror.err();
    let event = log.lines().find(|line| line.contains("\"user_agent\":\"stalled\"")).expect("an event");
    assert!(event.contains("\"outcome\":\"aborted\""), "{event}");
}

#[tokio::test]
async fn a_stalled_http_2_stream_is_reset_although_others_of_its_connection_move() {
    const STALLED: usize = 20;
    let (_forge, _dir, mut mirror) = mirror(4 << 20, |launch| launch.set("server.send_timeout", "300ms")).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    let client = plain_client::builder().http2_prior_knowledge();
    // A window for each stream, and one for the connection that no number of stalled streams fills.
    let client = client.http2_initial_stream_window_size(65_535).http2_initial_connection_window_size(64 << 20);
    let client = client.build().expect("a client");
    let url = format!("http://{}{ZIP}", mirror.address);
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(client.get(&url).header("user-agent", "stalled").send().await.expect("a head"));
    }
    let ended = |log: &str| -> Vec<serde_json::Value> {
        let lines = log.lines().filter(|line| line.contains("\"user_agent\":\"stalled\""));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let started = Instant::now();
    while ended(&mirror.err()).len() < STALLED {
        assert!(started.elapsed() < Duration::from_secs(20), "stalled streams live on beside moving ones");
        assert_eq!(client.head(&url).header("user-agent", "moving").send().await.expect("a head").status(), 200);
    }
    let took = started.elapsed();
    let events = ended(&mirror.err());
    let moving = mirror.err().lines().find(|line| line.contains("\"moving\"")).expect("an event").to_owned();
    let moving: serde_json::Value = serde_json::from_str(&moving).expect("JSON");
    for event in &events {
        assert_eq!((&event["outcome"], &event["peer"]), (&"aborted".into(), &moving["peer"]), "{event}");
        assert!(event["bytes"].as_u64() < Some(1 << 20), "{event}");
    }
    assert!(took >= Duration::from_millis(200), "{took:?}");
    for response in stalled {
        assert!(response.bytes().await.is_err(), "a reset stream looks complete");
    }
    // The connection lives, and a client that reads has the whole zip.
    let whole = client.get(&url).send().await.expect("a head").bytes().await.expect("whole");
    assert_eq!(&whole[..], &mirror.get(ZIP).await.body[..]);
    mirror.logs("complete").await;
}

#[tokio::test]
async fn a_zip_over_the_limit_with_a_content_length_is_502() {
    let forge = Forge::start().await;
    forge.lengths(Lengths::Always);
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 2 << 20));
    let mirror = setup(&forge).with(|config| config.archives.max_size.0 = 1 << 20).start().await;
    let got = mirror.get(ZIP).await;
    assert_eq!(got.status, 502);
    assert!(String::from_utf8_lossy(&got.body).contains("1048576 bytes"), "{:?}", got.body);
}

#[tokio::test]
async fn a_zip_of_unknown_length_over_the_limit_breaks_the_connection() {
    let forge = Forge::start().await;
    forge.lengths(Lengths::Never);
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 2 << 20));
    let mirror = setup(&forge).with(|config| config.archives.max_size.0 = 1 << 20).start().await;
    let got = mirror.request(reqwest::Method::GET, ZIP, &[]).await;
    assert!(got.as_ref().is_err() || got.as_ref().is_ok_and(|got| got.status == 502), "{got:?}");
    eventually("the spool is gone", || async { spooled(mirror.dir()) == 0 }).await;
    assert!(files(&mirror.dir().join("blobs")).is_empty(), "it was stored");
    assert_eq!(forge.count(|seen| seen.host == Host::Archive), 1, "a zip that is too large is not requested again");
}
