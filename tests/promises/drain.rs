//! SIGTERM: new connections are refused, running requests finish, and the process ends in time without leftovers.

use futures_util::StreamExt as _;
use tokio::net::TcpStream;

use crate::{
    eventually::eventually,
    forge::{Forge, Gate, Host, Match},
    process::{Launch, Process, spooled},
};

const ZIP: &str = "/devsapp/fc3/zipball/1.0.0";
const LEN: u64 = 2 << 20;

/// A mirror with one client that reads a zip whose second half the forge withholds.
async fn half_way(drain: &str) -> (Forge, tempfile::TempDir, Gate, Process, reqwest::Response) {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, LEN));
    let gate = forge.gate(Match::on(Host::Archive), LEN / 2);
    let mirror = Launch::serve(&forge, dir.path()).set("server.drain", drain).start().await;
    let response = mirror.open(ZIP).await;
    assert_eq!(response.status(), 200);
    gate.reached().await;
    (forge, dir, gate, mirror, response)
}

#[tokio::test]
async fn a_running_transfer_finishes_while_new_connections_are_refused() {
    let (forge, dir, gate, mut mirror, response) = half_way("1h").await;
    mirror.signal("TERM").await;
    mirror.logs("draining").await;
    let address = mirror.address;
    eventually("new connections are refused", || async move { TcpStream::connect(address).await.is_err() }).await;
    assert!(mirror.try_get("/readyz").await.is_err(), "a load balancer would still see it as ready");
    gate.open();
    let bytes = response.bytes().await.expect("a whole transfer");
    assert_eq!(srm_mirror::entry::Digest::of(&bytes).to_string(), forge.sha256("devsapp/fc3", "v1.0.0"));
    let ended = mirror.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);

    forge.down().await;
    assert_eq!(spooled(dir.path()), 0);
    let mirror = Launch::serve(&forge, dir.path()).start().await;
    assert_eq!(mirror.get(ZIP).await.status, 200, "the zip that finished during the drain was not stored");
}

#[tokio::test]
async fn connections_are_accepted_and_served_during_the_drain_delay_while_readyz_says_draining() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 64));
    let mut mirror = Launch::serve(&forge, dir.path()).set("server.drain_delay", "1h").start().await;
    mirror.signal("TERM").await;
    mirror.logs("draining").await;
    for _ in 0..3 {
        // Each over a connection of its own.
        drop(TcpStream::connect(mirror.address).await.expect("accepted"));
        assert_eq!(mirror.get(ZIP).await.status, 200);
    }
    let ready = mirror.get("/readyz").await;
    assert_eq!((ready.status, ready.header("connection")), (503, ""));
    mirror.signal("TERM").await;
    mirror.ended().await;
}

#[tokio::test]
async fn readyz_says_draining_on_a_connection_that_is_still_open() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (_forge, _dir, gate, mut mirror, response) = half_way("1h").await;
    // A request that is half sent at the signal is still answered.
    let mut stream = TcpStream::connect(mirror.address).await.expect("connected");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: m\r\n").await.expect("sent");
    // An answer on another connection proves that the first one was accepted.
    assert_eq!(mirror.get("/healthz").await.status, 200);
    mirror.signal("TERM").await;
    mirror.logs("draining").await;
    let _ = stream.write_all(b"\r\n").await;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 503") && text.contains("draining"), "{text}");
    gate.open();
    drop(response);
    assert_eq!(mirror.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_transfer_that_outlasts_the_drain_is_aborted_and_leaves_no_spool() {
    let (_forge, dir, _gate, mirror, response) = half_way("300ms").await;
    mirror.signal("TERM").await;
    assert!(response.bytes().await.is_err(), "half a zip looked complete");
    let ended = mirror.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("aborted transfers"), "{}", ended.err);
    assert_eq!(spooled(dir.path()), 0);
}

#[tokio::test]
async fn a_second_signal_ends_the_mirror_at_once() {
    for (first, second, code) in [("TERM", "TERM", 143), ("INT", "INT", 130), ("TERM", "INT", 130)] {
        let (_forge, _dir, _gate, mut mirror, response) = half_way("1h").await;
        mirror.signal(first).await;
        mirror.logs("draining").await;
        mirror.signal(second).await;
        assert_eq!(mirror.ended().await.code, Some(code));
        assert!(response.bytes().await.is_err(), "half a zip looked complete");
    }
}

#[tokio::test]
async fn a_download_without_clients_is_aborted_and_leaves_no_spool() {
    let (_forge, dir, _gate, mirror, response) = half_way("1h").await;
    let mut body = response.bytes_stream();
    body.next().await.expect("a chunk").expect("good");
    drop(body);
    assert_eq!(spooled(dir.path()), 1, "the download goes on without its client");
    let ended = mirror.stop().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(spooled(dir.path()), 0);
}
