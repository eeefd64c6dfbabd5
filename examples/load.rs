//! A load generator for bodies, as light as it can be, so that the server is what is measured: one thread, keep-alive,
//! and in drop mode the kernel throws the bytes away (`MSG_TRUNC`) instead of copying them to us.
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

/// Fetches over HTTP/1.1 for a while, or a number of times, and says how it went.
#[derive(Parser, Clone)]
#[command(name = "load")]
struct Arguments {
    /// What to fetch, `http://ADDRESS:PORT/path`; the connections take them in turn.
    #[arg(required = true)]
    urls: Vec<String>,
    /// What becomes of the bytes.
    #[arg(long, value_enum, default_value_t = Mode::Copy)]
    mode: Mode,
    #[arg(long, default_value_t = 16)]
    connections: u64,
    /// Ends after this long, also in the middle of a body.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Ends after this many requests of all connections together; without both, one for each connection.
    #[arg(long)]
    requests: Option<u64>,
    /// Each connection takes no more than this many bytes a second, through a small receive buffer.
    #[arg(long, value_name = "BYTES")]
    slow: Option<u64>,
    /// Every body must have this SHA-256; copies.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    /// The kernel drops them.
    Drop,
    /// They are read into a buffer.
    Copy,
}

/// What all connections count.
#[derive(Default)]
struct Tally {
    started: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// Of each request, from its last byte sent to the first byte of the body.
    first_bytes: Mutex<Vec<Duration>>,
    last_first_byte: Mutex<Option<SystemTime>>,
}

/// Where a URL leads: the address and the path. Names are not looked up.
fn parse(url: &str) -> Option<(std::net::SocketAddr, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    Some((authority.parse().ok()?, path))
}

struct Connection<'a> {
    arguments: &'a Arguments,
    tally: &'a Tally,
    stream: TcpStream,
    /// Read, and not used yet: the end of a head may bring the beginning of a body.
    held: Vec<u8>,
    /// Where bodies go; never touched in drop mode.
    scratch: Vec<u8>,
    hash: Option<Sha256>,
    asked: Instant,
    first: bool,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

impl<'a> Connection<'a> {
    async fn open(arguments: &'a Arguments, tally: &'a Tally, url: &str) -> io::Result<Self> {
        let (address, _) = parse(url).ok_or_else(|| broken(format!("{url}: not http://ADDRESS:PORT/path")))?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if arguments.slow.is_some() {
            socket.set_recv_buffer_size(64 << 10)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let scratch = vec![0; if arguments.mode == Mode::Drop { 1 << 20 } else { 128 << 10 }];
        let asked = Instant::now();
        Ok(Self { arguments, tally, stream, held: Vec::new(), scratch, hash: None, asked, first: false })
    }

    /// Receives at least one byte and at most `most` into the scratch, or nowhere; 0 at the end of the stream.
    async fn receive(&mut self, most: u64, flags: RecvFlags) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.scratch.len());
        let stream = &self.stream;
        let buffer = &mut self.scratch[..most];
        let received = stream.async_io(Interest::READABLE, || Ok(recv(stream, &mut *buffer, flags)?.1)).await?;
        if received < most {
            // The socket gave all it had: says so, or half of all calls would find nothing. On this one thread no news of
            // more can have come in between.
            let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
        }
        Ok(received)
    }

    /// One line without its end; the rest stays held.
    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.held.len() > 64 << 10 {
                return Err(broken("a line of more than 64 KiB"));
            }
            let received = self.receive(4 << 10, RecvFlags::empty()).await?;
            if received == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.held.extend_from_slice(&self.scratch[..received]);
        }
    }

    fn count(&mut self, bytes: usize) {
        if !self.first && bytes > 0 {
            self.first = true;
            self.tally.first_bytes.lock().unwrap().push(self.asked.elapsed());
            *self.tally.last_first_byte.lock().unwrap() = Some(SystemTime::now());
        }
        self.tally.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Exactly `len` bytes of a body.
    async fn body(&mut self, len: u64) -> io::Result<()> {
        let held = self.held.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        if let Some(hash) = &mut self.hash {
            hash.update(&self.held[..held]);
        }
        self.held.drain(..held);
        self.count(held);
        let mut left = len - held as u64;
        let flags = if self.arguments.mode == Mode::Drop { RecvFlags::TRUNC } else { RecvFlags::empty() };
        // A slow client takes twenty sips a second.
        let sip = self.arguments.slow.map_or(u64::MAX, |rate| (rate / 20).max(1));
        while left > 0 {
            let received = self.receive(left.min(sip), flags).await?;
            if received == 0 {
                return Err(broken(format!("{left} bytes of a body are missing")));
            }
            if let Some(hash) = &mut self.hash {
                hash.update(&self.scratch[..received]);
            }
            self.count(received);
            left -= received as u64;
            if sip != u64::MAX {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// One request and its whole answer; true where the connection may be used again.
    async fn fetch(&mut self, url: &str) -> io::Result<bool> {
        let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let (_, path) = parse(url).ok_or_else(|| broken("not a URL"))?;
        self.hash = self.arguments.sha256.is_some().then(Sha256::new);
        self.first = false;
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
        self.asked = Instant::now();
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

/// One client: request after request until nothing is left to do, or until too much went wrong.
async fn client(arguments: &Arguments, tally: &Tally, number: u64, limit: u64) {
    let mut connection = None;
    let mut in_a_row = 0;
    while in_a_row < 3 {
        let turn = tally.started.fetch_add(1, Relaxed);
        if turn >= limit {
            return;
        }
        let of = arguments.urls.len() as u64;
        let url = &arguments.urls[usize::try_from((number + turn / arguments.connections.max(1)) % of).unwrap()];
        let done = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(arguments, tally, url).await?,
            };
            let keep = open.fetch(url).await?;
            Ok::<_, io::Error>(keep.then_some(open))
        };
        match done.await {
            Ok(open) => {
                tally.requests.fetch_add(1, Relaxed);
                (connection, in_a_row) = (open, 0);
            }
            Err(error) => {
                tally.errors.fetch_add(1, Relaxed);
                tally.first_error.lock().unwrap().get_or_insert_with(|| error.to_string());
                in_a_row += 1;
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
    let tally = Arc::new(Tally::default());
    let endless = if arguments.seconds.is_some() { u64::MAX } else { arguments.connections };
    let limit = arguments.requests.unwrap_or(endless);
    let begun = Instant::now();
    let clients: Vec<_> = (0..arguments.connections)
        .map(|number| {
            let arguments = arguments.clone();
            let tally = tally.clone();
            tokio::spawn(async move { client(&arguments, &tally, number, limit).await })
        })
        .collect();
    let all = async {
        for client in clients {
            client.await.unwrap();
        }
    };
    let longest = arguments.seconds.map_or(Duration::MAX, Duration::from_secs_f64);
    let _ = tokio::time::timeout(longest, all).await;
    report(&arguments, &tally, begun.elapsed());
    if tally.errors.load(Relaxed) > 0 {
        std::process::exit(1);
    }
}

fn report(arguments: &Arguments, tally: &Tally, took: Duration) {
    let mut first: Vec<f64> = tally.first_bytes.lock().unwrap().iter().map(|d| d.as_secs_f64() * 1000.0).collect();
    first.sort_by(f64::total_cmp);
    let percentile = |part: usize| first.get((first.len() * part / 1000).min(first.len().saturating_sub(1))).copied();
    let last = tally.last_first_byte.lock().unwrap().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let bytes = tally.bytes.load(Relaxed);
    let seconds = took.as_secs_f64();
    let error = tally.first_error.lock().unwrap().clone();
    if arguments.json {
        let told = serde_json::json!({
            "bytes": bytes, "seconds": seconds, "requests": tally.requests.load(Relaxed),
            "errors": tally.errors.load(Relaxed), "first_error": error,
            "first_byte_ms": {
                "p50": percentile(500), "p90": percentile(900), "p99": percentile(990), "max": percentile(1000),
            },
            // Seconds since 1970: when the last request's body began.
            "last_first_byte_at": last.map(|at| at.as_secs_f64()),
        });
        println!("{told}");
        return;
    }
    println!(
        "{} requests, {} errors, {bytes} bytes in {seconds:.3} s: {:.1} MB/s",
        tally.requests.load(Relaxed),
        tally.errors.load(Relaxed),
        bytes as f64 / 1e6 / seconds
    );
    println!("first byte: median {:.2?} ms, 99% {:.2?} ms", percentile(500), percentile(990));
    if let Some(error) = error {
        println!("first error: {error}");
    }
}
