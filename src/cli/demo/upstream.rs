//! The upstream of the demo: GitHub's API and the v3 registry on one loopback address, for the few routes that the mirror
//! asks. One request per connection.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::packages::{DemoPackage, PACKAGES};

/// Largest header of a request, bytes: the mirror's are a few hundred.
const MAX_DEMO_REQUEST_BYTES: usize = 8 << 10;
/// Most connections at once.
const MAX_CONNECTIONS: usize = 256;
/// Longest time of a request and its answer.
const DEMO_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an error of `accept`, such as the lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound upstream.
pub(super) struct DemoUpstream {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the upstream sends.
enum DemoResponse {
    Json(Value),
    Zip(Vec<u8>),
    NotFound,
}

impl DemoUpstream {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests. Never returns.
    pub(super) async fn serve(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(async move {
                        // A time-out or an error ends the connection; the mirror reports it.
                        let _ = tokio::time::timeout(DEMO_REQUEST_TIMEOUT, answer(stream)).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// Reads one request and answers it.
async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MAX_DEMO_REQUEST_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let response = if matches!(method, "GET" | "HEAD") { respond(target) } else { DemoResponse::NotFound };
    let (status, kind, body) = match response {
        DemoResponse::Json(value) => ("200 OK", "application/json", value.to_string().into_bytes()),
        DemoResponse::Zip(zip) => ("200 OK", "application/zip", zip),
        DemoResponse::NotFound => ("404 Not Found", "application/json", b"{\"message\":\"Not Found\"}".to_vec()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&body).await?;
    }
    stream.shutdown().await
}

/// The response to a GET of `target`, a path with or without a query.
fn respond(target: &str) -> DemoResponse {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let found = match *segments.as_slice() {
        ["github", "repos", owner, name, ref rest @ ..] => find(Some(owner), name).and_then(|it| github(it, rest)),
        ["v3", "packages", "releases"] => {
            let rows = PACKAGES.iter().filter(|package| package.is_of_registry());
            Some(envelope(rows.map(DemoPackage::catalog_row).collect()))
        }
        ["v3", "packages", name, ref rest @ ..] => find(None, name).and_then(|it| registry(it, rest, query)),
        _ => None,
    };
    found.unwrap_or(DemoResponse::NotFound)
}

fn find(owner: Option<&str>, name: &str) -> Option<&'static DemoPackage> {
    PACKAGES.iter().find(|package| package.is(owner, name))
}

fn github(package: &DemoPackage, rest: &[&str]) -> Option<DemoResponse> {
    let value = match *rest {
        [] => package.github_repository(),
        ["releases"] => package.github_list(),
        ["releases", "latest"] => package.github_release(package.latest()),
        ["releases", "tags", tag] => package.github_release(package.version(tag)?),
        ["tags"] => package.github_tags(),
        ["branches"] => json!([]),
        ["zipball", "refs", "tags", tag] => return Some(DemoResponse::Zip(package.zip(package.version(tag)?))),
        _ => return None,
    };
    Some(DemoResponse::Json(value))
}

fn registry(package: &DemoPackage, rest: &[&str], query: &str) -> Option<DemoResponse> {
    let value = match *rest {
        // The second page is empty.
        ["release"] if query.split('&').any(|pair| pair.starts_with("page=") && pair != "page=1") => json!([]),
        ["release"] => package.registry_list(),
        ["release", "latest"] => package.registry_release(package.latest()),
        ["release", "tags", tag] => package.registry_release(package.version(tag)?),
        ["zipball", tag] => return Some(DemoResponse::Zip(package.zip(package.version(tag)?))),
        _ => return None,
    };
    Some(envelope(value))
}

/// Every body of the registry is in an envelope.
fn envelope(body: Value) -> DemoResponse {
    DemoResponse::Json(json!({"request_id": "demo", "body": body}))
}
