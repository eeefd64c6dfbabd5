use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::value::{ByteSize, Period};

/// Time limit of every wait; reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Period = Period(Duration::from_millis(100));

/// More bytes than the kernel buffers for a client that does not read.
const LARGE: usize = 32 << 20;

/// Bytes of one frame of an endless body.
const FRAME: usize = 64 << 10;

type TestBody = UnsyncBoxBody<Bytes, io::Error>;

/// `/gated`: a first part, and the second when `gate` opens. `/wait`: nothing until `gate` opens. `/endless`: an endless
/// body. `/large`: one frame of [`LARGE`] bytes. Anything else: `hello`.
#[derive(Clone)]
struct Site {
    gate: Arc<Notify>,
    /// A permit for each answer that was dropped.
    dropped: Arc<Semaphore>,
    requests: Arc<AtomicUsize>,
    /// Frames of endless bodies, [`FRAME`] bytes each.
    frames: Arc<AtomicUsize>,
}

impl Default for Site {
    fn default() -> Self {
        let dropped = Arc::new(Semaphore::new(0));
        Self { gate: Arc::default(), dropped, requests: Arc::default(), frames: Arc::default() }
    }
}

struct Drops(Arc<Semaphore>);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Handler for Site {
    type Body = TestBody;

    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<TestBody>> + use<> {
        let site = self.clone();
        async move { site.answer(request, peer).await }
    }

    fn is_health_check(&self, request: &Request<Incoming>) -> bool {
        request.uri().path() == "/healthz"
    }

    fn refuse(&self, _: Request<Incoming>, _: Peer, refusal: Refusal) -> Response<TestBody> {
        let text = format!("{refusal:?}");
        Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync())
    }
}

impl Site {
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<TestBody> {
        assert!(peer.addr.ip().is_loopback() && peer.local.port() != 0);
        self.requests.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.clone();
        let drops = Drops(self.dropped.clone());
        let text = |text: &'static str| Ok::<_, io::Error>(http_body::Frame::data(Bytes::from_static(text.as_bytes())));
        Response::new(match request.uri().path() {
            "/gated" => {
                let second = futures_util::stream::once(async move {
                    gate.notified().await;
                    text("second")
                });
                let parts = futures_util::stream::iter([text("first ")]).chain(second);
                StreamBody::new(parts).boxed_unsync()
            }
            "/wait" => {
                gate.notified().await;
                Full::from("waited").map_err(|never| match never {}).boxed_unsync()
            }
            "/endless" => {
                let frames = self.frames.clone();
                let parts = futures_util::stream::repeat_with(move || {
                    let _held = &drops;
                    frames.fetch_add(1, Ordering::SeqCst);
                    Ok(http_body::Frame::data(Bytes::from_static(&[7; FRAME])))
                });
                StreamBody::new(parts).boxed_unsync()
            }
            "/large" => Full::from(vec![b'x'; LARGE]).map_err(|never| match never {}).boxed_unsync(),
            _ => Full::from("hello").map_err(|never| match never {}).boxed_unsync(),
        })
    }
}

struct Serving {
    address: SocketAddr,
    site: Site,
    shutdown: CancellationToken,
    abort: CancellationToken,
    done: JoinHandle<ShutdownReport>,
}

impl Serving {
    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: vec![([127, 0, 0, 1], 0).into()], ..Config::default() };
        change(&mut config);
        let bound = bind(&config, &InheritedSockets::default()).expect("a free port");
        let site = Site::default();
        let shutdown = CancellationToken::new();
        let abort = CancellationToken::new();
        let address = bound.addresses()[0];
        let done = tokio::spawn(bound.serve(site.clone(), shutdown.clone(), abort.clone()));
        Self { address, site, shutdown, abort, done }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    async fn get(&self, path: &str) -> TcpStream {
        let mut client = self.connect().await;
        ask(&mut client, path).await;
        client
    }

    /// Waits until this many answers have been dropped.
    async fn dropped(&self, count: u32) {
        let dropped = timeout(PATIENCE, self.site.dropped.acquire_many(count)).await;
        dropped.expect("the transfers are aborted").expect("open").forget();
    }

    async fn end(self) -> ShutdownReport {
        timeout(PATIENCE, self.done).await.expect("serving ends").expect("no panic")
    }
}

async fn ask(client: &mut TcpStream, path: &str) {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes()).await.expect("sent");
}

/// Reads until `end` was read.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = timeout(PATIENCE, client.read_u8()).await.expect("in time").expect("more bytes");
        text.push(byte);
    }
    String::from_utf8(text).expect("text")
}

/// Reads until the server closes or resets.
async fn rest(client: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut text)).await.expect("the server closes");
    String::from_utf8(text).expect("text")
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_header_is_disconnected() {
    let serving = Serving::with(|config| config.header_timeout = SHORT);
    for begun in ["", "G", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: m\r\nX-Slow: "] {
        let mut client = serving.connect().await;
        client.write_all(begun.as_bytes()).await.expect("sent");
        assert_eq!(rest(&mut client).await, "", "{begun:?}");
    }
    let mut second = serving.get("/").await;
    until(&mut second, "hello").await;
    second.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    assert_eq!(rest(&mut second).await, "", "the header of a second request has no more time");
    assert_eq!(serving.site.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_request_that_waits_for_the_mirror_does_not_time_out() {
    let serving = Serving::with(|config| (config.header_timeout, config.send_timeout) = (SHORT, SHORT));
    let mut wait = serving.get("/wait").await;
    let mut gated = serving.get("/gated").await;
    until(&mut gated, "first ").await;
    // Two silent connections, one after the other, serve as clock: both timeouts have passed when they are closed.
    for _ in 0..2 {
        rest(&mut serving.connect().await).await;
    }
    serving.site.gate.notify_waiters();
    until(&mut wait, "waited").await;
    until(&mut gated, "second").await;
}

#[tokio::test]
async fn the_end_of_a_response_reaches_a_slow_client_although_the_connection_is_idle() {
    let serving = Serving::with(|config| config.header_timeout = SHORT);
    let mut slow = serving.get("/large").await;
    until(&mut slow, "\r\n\r\n").await;
    // The clock again. The whole body is in the server's buffer, so the request has ended; then a drain begins, too.
    for _ in 0..2 {
        rest(&mut serving.connect().await).await;
    }
    serving.shutdown.cancel();
    assert_eq!(rest(&mut slow).await.len(), LARGE);
    assert_eq!(serving.end().await, ShutdownReport { aborted: 0 });
}

#[tokio::test]
async fn a_header_over_the_limit_is_431() {
    let serving = Serving::with(|config| config.header_limit = ByteSize(8 << 10));
    let mut client = serving.connect().await;
    let long = format!("GET / HTTP/1.1\r\nHost: m\r\nX-Long: {}", "x".repeat(9 << 10));
    client.write_all(long.as_bytes()).await.expect("sent");
    assert!(until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 431 "));
    assert_eq!(serving.site.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn http_1_connections_are_reused_and_http_2_works_by_prior_knowledge() {
    let serving = Serving::with(|_| {});
    let mut client = serving.get("/").await;
    until(&mut client, "hello").await;
    ask(&mut client, "/").await;
    until(&mut client, "hello").await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let response = http2.get(format!("http://{}/", serving.address)).send().await.expect("an answer");
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(response.bytes().await.expect("a body"), "hello");
}

#[tokio::test]
async fn a_drain_finishes_running_transfers_and_accepts_nothing_new() {
    let serving = Serving::with(|_| {});
    let mut idle = serving.get("/").await;
    until(&mut idle, "hello").await;
    let mut silent = serving.connect().await;
    let mut transfer = serving.get("/gated").await;
    until(&mut transfer, "first ").await;

    serving.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "", "an idle connection closes at once");
    assert_eq!(rest(&mut silent).await, "", "so does one without a request");
    assert!(TcpStream::connect(serving.address).await.is_err(), "nothing new is accepted");
    assert!(!serving.done.is_finished());

    serving.site.gate.notify_waiters();
    assert!(rest(&mut transfer).await.contains("second"));
    assert_eq!(serving.end().await, ShutdownReport { aborted: 0 });
}

#[tokio::test]
async fn an_abort_ends_a_drain_at_once() {
    let serving = Serving::with(|config| config.drain = Period::FOREVER);
    let mut transfer = serving.get("/gated").await;
    until(&mut transfer, "first ").await;
    serving.shutdown.cancel();
    serving.abort.cancel();
    assert_eq!(serving.end().await, ShutdownReport { aborted: 1 });
    assert!(!rest(&mut transfer).await.ends_with("0\r\n\r\n"), "an aborted transfer does not look complete");
}

#[tokio::test]
async fn a_drain_aborts_transfers_when_its_time_is_over() {
    let serving = Serving::with(|config| config.drain = SHORT);
    let mut transfer = serving.get("/gated").await;
    until(&mut transfer, "first ").await;
    serving.shutdown.cancel();
    assert_eq!(serving.end().await, ShutdownReport { aborted: 1 });
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_until_another_ends() {
    let serving = Serving::with(|config| config.max_connections = 2);
    let mut first = serving.get("/").await;
    until(&mut first, "hello").await;
    let mut second = serving.get("/").await;
    until(&mut second, "hello").await;
    let mut third = serving.get("/").await;
    // If the third were accepted, its request would be answered before these.
    for _ in 0..100 {
        ask(&mut first, "/").await;
        until(&mut first, "hello").await;
    }
    assert_eq!(serving.site.requests.load(Ordering::SeqCst), 102);
    drop(first);
    until(&mut third, "hello").await;
}

/// How a connection ends that the server closes.
async fn end_of(client: &mut TcpStream) -> io::Result<usize> {
    timeout(PATIENCE, client.read_to_end(&mut Vec::new())).await.expect("the server closes")
}

#[tokio::test]
async fn a_client_that_accepts_no_bytes_is_disconnected_and_its_connection_reset() {
    let serving = Serving::with(|config| config.send_timeout = SHORT);
    let mut stalled = serving.get("/endless").await;
    serving.dropped(1).await;
    let end = end_of(&mut stalled).await;
    assert_eq!(end.expect_err("nothing is kept for it").kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_response_that_a_shutdown_aborts_is_reset_and_a_connection_without_one_ends_in_order() {
    let serving = Serving::with(|config| (config.header_timeout, config.drain) = (SHORT, SHORT));
    let mut silent = serving.connect().await;
    assert_eq!(end_of(&mut silent).await.expect("in order"), 0, "it was too slow with its header");
    let mut idle = serving.get("/").await;
    assert!(end_of(&mut idle).await.expect("in order") > 0, "it was idle for too long");
    let mut running = serving.get("/gated").await;
    until(&mut running, "first ").await;
    serving.shutdown.cancel();
    assert_eq!(end_of(&mut running).await.expect_err("aborted").kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(serving.end().await, ShutdownReport { aborted: 1 });
}

#[tokio::test]
async fn an_http_2_client_that_never_opens_its_window_is_disconnected() {
    let serving = Serving::with(|config| config.send_timeout = SHORT);
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let unread = http2.get(format!("http://{}/endless", serving.address)).send().await.expect("an answer");
    serving.dropped(1).await;
    drop(unread);
}

/// What an HTTP/2 client sends that asks for a path on many streams at once, with windows that never close.
fn http2_requests(path: &str, count: u32) -> Vec<u8> {
    let window = i32::MAX.unsigned_abs();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let settings = frame(4, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat());
    let window_update = frame(8, 0, 0, &(window - 65_535).to_be_bytes());
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &window_update[..]].concat();
    // GET and http of HPACK's static table, then path and authority as literals.
    let path_len = u8::try_from(path.len()).expect("short");
    let header = [&[0x82, 0x86, 0x04, path_len], path.as_bytes(), &[0x01, 1, b'm']].concat();
    for number in 0..count {
        bytes.extend(frame(1, 0x5, number * 2 + 1, &header));
    }
    bytes
}

#[tokio::test]
async fn streams_of_a_client_that_does_not_read_take_little_memory() {
    const STREAMS: u32 = 100;
    let serving = Serving::with(|config| config.send_timeout = SHORT);
    let mut client = serving.connect().await;
    client.write_all(&http2_requests("/endless", STREAMS)).await.expect("sent");
    serving.dropped(STREAMS).await;
    let bytes = serving.site.frames.load(Ordering::SeqCst) * FRAME;
    // What the kernel takes, and two frames for each stream.
    let most = (16 << 20) + STREAMS as usize * 2 * FRAME;
    assert!(bytes > FRAME && bytes <= most, "{bytes} of {most} bytes");
    drop(client);
}

#[tokio::test]
async fn a_disconnected_client_frees_its_connection() {
    let serving = Serving::with(|config| config.max_connections = 1);
    let waiting = serving.get("/wait").await;
    drop(waiting);
    let mut next = serving.get("/").await;
    until(&mut next, "hello").await;
}

#[tokio::test]
async fn every_listener_is_served_and_dropping_the_server_aborts_all_connections() {
    let listen = vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into()];
    let config = Config { listen, max_connections: 1, ..Config::default() };
    let bound = bind(&config, &InheritedSockets::default()).expect("free ports");
    let addresses = bound.addresses().to_vec();
    let serve = tokio::spawn(bound.serve(Site::default(), CancellationToken::new(), CancellationToken::new()));
    for address in addresses.iter().chain(&addresses) {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        ask(&mut client, "/").await;
        until(&mut client, "hello").await;
    }
    let mut last = TcpStream::connect(addresses[1]).await.expect("a connection");
    ask(&mut last, "/gated").await;
    until(&mut last, "first ").await;
    serve.abort();
    rest(&mut last).await;
}

#[tokio::test]
async fn an_address_in_use_is_reported_in_one_sentence() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("address");
    let config = Config { listen: vec![taken], ..Config::default() };
    let error = bind(&config, &InheritedSockets::default()).expect_err("in use");
    let text = "the address is in use by another program; choose another with --listen or server.listen";
    assert_eq!(error.to_string(), format!("cannot listen on {taken}: {text}"));
    drop(holder);
}
