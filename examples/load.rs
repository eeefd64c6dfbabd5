//! A load generator for response bodies that uses little CPU time itself: one thread, keep-alive, and in drop mode the
//! kernel discards the bytes (`MSG_TRUNC`) instead of copying them.
//!
//! `cargo run --release -p examples --bin load -- --connections 16 --seconds 5 http://127.0.0.1:8080/devsapp/fc3/zipball/v0.2.0`
#![allow(clippy::unwrap_used)]

use std::{
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use clap::{Parser, ValueEnum};
use rustix::net::{RecvFlags, recv};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{TcpSocket, TcpStream},
};

/// Fetches URLs over HTTP/1.1 for a time or a number of requests, and reports rates.
#[derive(Parser, Clone)]
#[command(name = "load")]
struct Arguments {
    /// URLs, `http://ADDRESS:PORT/path`; the connections use them in turn.
    #[arg(required = true)]
    urls: Vec<String>,
    /// Whether the received bytes are dropped or copied.
    #[arg(long, value_enum, default_value_t = Mode::Copy)]
    mode: Mode,
    /// Number of connections.
    #[arg(long, default_value_t = 16)]
    connections: u64,
    /// Ends after this time, even within a body.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Ends after this many requests in total. Without --requests and --seconds: one per connection.
    #[arg(long)]
    requests: Option<u64>,
    /// Limits each connection to this many bytes per second, with a small receive buffer.
    #[arg(long, value_name = "BYTES")]
    slow: Option<u64>,
    /// Expects this SHA-256 of every body; implies copy mode.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    /// The kernel discards them.
    Drop,
    /// They are read into a buffer.
    Copy,
}

/// Counters shared by all connections.
#[derive(Default)]
struct LoadStats {
    started: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// For each request, the time from its last byte to the first byte of the body.
    first_bytes: Mutex<Vec<Duration>>,
    last_first_byte: Mutex<Option<SystemTime>>,
}

/// Splits a URL into address and path. Host names are not resolved.
fn parse_url(url: &str) -> Option<(std::net::SocketAddr, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    Some((authority.parse().ok()?, path))
}

struct Connection<'a> {
    arguments: &'a Arguments,
    stats: &'a LoadStats,
    stream: TcpStream,
    /// Received but not consumed yet: a read of the head may contain the beginning of the body.
    buffered: Vec<u8>,
    /// Destination of bodies; not written in drop mode.
    scratch: Vec<u8>,
    hash: Option<Sha256>,
    sent_at: Instant,
    first_byte_seen: bool,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

impl<'a> Connection<'a> {
    async fn open(arguments: &'a Arguments, stats: &'a LoadStats, url: &str) -> io::Result<Self> {
        let (address, _) = parse_url(url).ok_or_else(|| broken(format!("{url}: not http://ADDRESS:PORT/path")))?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if arguments.slow.is_some() {
            socket.set_recv_buffer_size(64 << 10)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let scratch = vec![0; if arguments.mode == Mode::Drop { 1 << 20 } else { 128 << 10 }];
        let sent_at = Instant::now();
        Ok(Self {
            arguments,
            stats,
            stream,
            buffered: Vec::new(),
            scratch,
            hash: None,
            sent_at,
            first_byte_seen: false,
        })
    }

    /// Receives 1 to `max` bytes into `scratch`, or discards them; 0 at the end of the stream.
    async fn receive(&mut self, max: u64, flags: RecvFlags) -> io::Result<usize> {
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(self.scratch.len());
        let stream = &self.stream;
        let buffer = &mut self.scratch[..max];
        let received = stream.async_io(Interest::READABLE, || Ok(recv(stream, &mut *buffer, flags)?.1)).await?;
        if received < max {
            // The socket is empty: clear its readiness, or every second call would find nothing. On this single thread no
            // readiness event can have arrived in between.
            let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
        }
        Ok(received)
    }

    /// Receives one line, without its end. Further bytes stay buffered.
    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffered.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffered.len() > 64 << 10 {
                return Err(broken("a line of more than 64 KiB"));
            }
            let received = self.receive(4 << 10, RecvFlags::empty()).await?;
            if received == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.buffered.extend_from_slice(&self.scratch[..received]);
        }
    }

    fn count(&mut self, bytes: usize) {
        if !self.first_byte_seen && bytes > 0 {
            self.first_byte_seen = true;
            self.stats.first_bytes.lock().unwrap().push(self.sent_at.elapsed());
            *self.stats.last_first_byte.lock().unwrap() = Some(SystemTime::now());
        }
        self.stats.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Receives exactly `len` bytes of a body.
    async fn body(&mut self, len: u64) -> io::Result<()> {
        let buffered = self.buffered.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        if let Some(hash) = &mut self.hash {
            hash.update(&self.buffered[..buffered]);
        }
        self.buffered.drain(..buffered);
        self.count(buffered);
        let mut left = len - buffered as u64;
        let flags = if self.arguments.mode == Mode::Drop { RecvFlags::TRUNC } else { RecvFlags::empty() };
        // A slow client receives twenty times per second.
        let max_chunk = self.arguments.slow.map_or(u64::MAX, |rate| (rate / 20).max(1));
        while left > 0 {
            let received = self.receive(left.min(max_chunk), flags).await?;
            if received == 0 {
                return Err(broken(format!("{left} bytes of a body are missing")));
            }
            if let Some(hash) = &mut self.hash {
                hash.update(&self.scratch[..received]);
            }
            self.count(received);
            left -= received as u64;
            if max_chunk != u64::MAX {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Sends one request and receives its response; true if the connection can be reused.
    async fn fetch(&mut self, url: &str) -> io::Result<bool> {
        let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let (_, path) = parse_url(url).ok_or_else(|| broken("not a URL"))?;
        self.hash = self.arguments.sha256.is_some().then(Sha256::new);
        self.first_byte_seen = false;
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
        self.sent_at = Instant::now();
        let status = self.line().await?;
        let mut len = None;
        let mut chunked = false;
        let mut keep = true;
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                None => break,
                Some(("content-length", value)) => len = value.parse().ok(),
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(("connection", value)) => keep = value != "close",
                Some(_) => {}
            }
        }
        if !matches!(status.split(' ').nth(1), Some("200" | "206")) {
            return Err(broken(format!("{url}: {status}")));
        }
        match len {
            Some(len) => self.body(len).await?,
            None if chunked => loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16).map_err(|_| broken(format!("{line:?} is no chunk")))?;
                self.body(size).await?;
                self.line().await?;
                if size == 0 {
                    break;
                }
            },
            None => return Err(broken(format!("{url}: a body of unknown length"))),
        }
        if let (Some(hash), Some(expected)) = (self.hash.take(), &self.arguments.sha256) {
            let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            if found != *expected {
                return Err(broken(format!("{url}: SHA-256 {found}, not {expected}")));
            }
        }
        Ok(keep)
    }
}

/// One client: sends requests in sequence until the limit is reached or three in a row have failed.
async fn client(arguments: &Arguments, stats: &LoadStats, number: u64, limit: u64) {
    let mut connection = None;
    let mut failures = 0;
    while failures < 3 {
        let turn = stats.started.fetch_add(1, Relaxed);
        if turn >= limit {
            return;
        }
        let of = arguments.urls.len() as u64;
        let url = &arguments.urls[usize::try_from((number + turn / arguments.connections.max(1)) % of).unwrap()];
        let done = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(arguments, stats, url).await?,
            };
            let keep = open.fetch(url).await?;
            Ok::<_, io::Error>(keep.then_some(open))
        };
        match done.await {
            Ok(open) => {
                stats.requests.fetch_add(1, Relaxed);
                connection = open;
                failures = 0;
            }
            Err(error) => {
                stats.errors.fetch_add(1, Relaxed);
                stats.first_error.lock().unwrap().get_or_insert_with(|| error.to_string());
                failures += 1;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = Arguments::parse();
    if arguments.sha256.is_some() {
        arguments.mode = Mode::Copy;
    }
    let arguments = Arc::new(arguments);
    let stats = Arc::new(LoadStats::default());
    let endless = if arguments.seconds.is_some() { u64::MAX } else { arguments.connections };
    let limit = arguments.requests.unwrap_or(endless);
    let started_at = Instant::now();
    let clients: Vec<_> = (0..arguments.connections)
        .map(|number| {
            let arguments = arguments.clone();
            let stats = stats.clone();
            tokio::spawn(async move { client(&arguments, &stats, number, limit).await })
        })
        .collect();
    let all = async {
        for client in clients {
            client.await.unwrap();
        }
    };
    let longest = arguments.seconds.map_or(Duration::MAX, Duration::from_secs_f64);
    let _ = tokio::time::timeout(longest, all).await;
    report(&arguments, &stats, started_at.elapsed());
    if stats.errors.load(Relaxed) > 0 {
        std::process::exit(1);
    }
}

fn report(arguments: &Arguments, stats: &LoadStats, took: Duration) {
    let mut first: Vec<f64> = stats.first_bytes.lock().unwrap().iter().map(|d| d.as_secs_f64() * 1000.0).collect();
    first.sort_by(f64::total_cmp);
    let percentile = |part: usize| first.get((first.len() * part / 1000).min(first.len().saturating_sub(1))).copied();
    let last = stats.last_first_byte.lock().unwrap().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let bytes = stats.bytes.load(Relaxed);
    let seconds = took.as_secs_f64();
    let error = stats.first_error.lock().unwrap().clone();
    if arguments.json {
        let summary = serde_json::json!({
            "bytes": bytes, "seconds": seconds, "requests": stats.requests.load(Relaxed),
            "errors": stats.errors.load(Relaxed), "first_error": error,
            "first_byte_ms": {
                "p50": percentile(500), "p90": percentile(900), "p99": percentile(990), "max": percentile(1000),
            },
            // Time of the first body byte of the last request, in seconds since 1970.
            "last_first_byte_at": last.map(|at| at.as_secs_f64()),
        });
        println!("{summary}");
        return;
    }
    println!(
        "{} requests, {} errors, {bytes} bytes in {seconds:.3} s: {:.1} MB/s",
        stats.requests.load(Relaxed),
        stats.errors.load(Relaxed),
        bytes as f64 / 1e6 / seconds
    );
    println!("first byte: median {:.2?} ms, 99% {:.2?} ms", percentile(500), percentile(990));
    if let Some(error) = error {
        println!("first error: {error}");
    }
}
