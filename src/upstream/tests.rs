//! A scripted HTTP server on loopback, and helpers for the tests that use it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    entry::{Digest, DocumentMeta, UpstreamStatus, Validators},
    origin::Missing,
    package::Releases,
    value::{ByteSize, Period, Secret, memory_budget::MemoryBudget},
};

mod credentials;
mod gitee;
mod github;
mod gzip;
mod lists;
mod logs;
mod registries;
mod requests;
mod simple;
mod stuck;
mod tags;
mod v3;

/// A request as the server received it.
#[derive(Clone, Debug)]
struct RecordedRequest {
    method: String,
    /// The request target: path and query, or `host:port` for CONNECT.
    target: String,
    headers: Vec<(String, String)>,
}

impl RecordedRequest {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The server's base URL, from the `Host` header.
    fn base(&self) -> String {
        format!("http://{}", self.header("host").expect("a host"))
    }
}

/// How a response ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ResponseEnd {
    /// Complete; the connection stays open.
    Whole,
    /// The connection is closed after the body.
    Closed,
    /// One byte fewer than announced is sent, then nothing.
    Silence,
    /// Nothing is sent, not even the head.
    Nothing,
    /// The connection is closed before the head.
    Hangup,
}

#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: ResponseEnd,
    /// False for a body without `Content-Length`, ended by closing the connection.
    sized: bool,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), end: ResponseEnd::Whole, sized: true }
    }

    fn json(value: serde_json::Value) -> Self {
        Self::new(200).with("content-type", "application/json; charset=utf-8").body(value.to_string())
    }

    fn zip() -> Self {
        Self::new(200).with("content-type", "application/zip").body("PK\u{3}\u{4}zip")
    }

    fn html() -> Self {
        Self::new(200).with("content-type", "text/html; charset=utf-8").body("<!DOCTYPE html>")
    }

    fn error(status: u16, message: &str) -> Self {
        Self::new(status)
            .with("content-type", "application/json")
            .body(serde_json::json!({ "message": message }).to_string())
    }

    fn to(status: u16, location: impl Into<String>) -> Self {
        Self::new(status).with("location", location)
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn end(mut self, end: ResponseEnd) -> Self {
        self.end = end;
        self
    }
}

type Script = Arc<dyn Fn(&RecordedRequest) -> Reply + Send + Sync>;

/// A server that responds by script and records the requests. Stops when dropped.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<RecordedRequest>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Script = Arc::new(script);
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, script.clone(), log.clone()));
            }
        });
        Self { address, seen, task }
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> Vec<RecordedRequest> {
        self.seen.lock().clone()
    }

    /// The request targets since the last call.
    fn take_targets(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock()).into_iter().map(|seen| seen.target).collect()
    }
}

async fn connection(mut stream: TcpStream, script: Script, log: Arc<Mutex<Vec<RecordedRequest>>>) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = read.drain(..end + 4).collect();
                break String::from_utf8(head).expect("a head in UTF-8");
            }
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next().expect("a request line").split(' ');
        let seen = RecordedRequest {
            method: first.next().expect("a method").to_owned(),
            target: first.next().expect("a target").to_owned(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        let reply = script(&seen);
        log.lock().push(seen);
        let mut answer = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
        for (name, value) in &reply.headers {
            answer += &format!("{name}: {value}\r\n");
        }
        if reply.sized && reply.status != 304 {
            let more = usize::from(reply.end == ResponseEnd::Silence);
            answer += &format!("content-length: {}\r\n", reply.body.len() + more);
        }
        match reply.end {
            ResponseEnd::Nothing => return std::future::pending().await,
            ResponseEnd::Hangup => return,
            ResponseEnd::Whole | ResponseEnd::Closed | ResponseEnd::Silence => {}
        }
        let answer = [answer.as_bytes(), b"\r\n", &reply.body].concat();
        if stream.write_all(&answer).await.is_err() || reply.end == ResponseEnd::Closed || !reply.sized {
            return;
        }
        if reply.end == ResponseEnd::Silence {
            return std::future::pending().await;
        }
    }
}

fn config(kind: UpstreamKind, api: &str) -> Config {
    Config {
        kind,
        api: api.parse().expect("an address"),
        web: Some(api.parse().expect("an address")),
        token_env: None,
        redirect_hosts: Vec::new(),
        ..defaults().remove("github").expect("a default")
    }
}

fn process() -> ProcessContext {
    ProcessContext { instance: "test".into(), memory: MemoryBudget::unlimited() }
}

fn with_token(config: &Config) -> Arc<dyn Upstream> {
    build("forge", config, vec![token("secret-token")], &process()).expect("a valid section")
}

fn anonymous(config: &Config) -> Arc<dyn Upstream> {
    build("forge", config, Vec::new(), &process()).expect("a valid section")
}

fn token(text: &str) -> CredentialSource {
    CredentialSource::of_token("VARIABLE", &Secret::new(text)).expect("a token")
}

fn package() -> PackageName {
    "devsapp/fc3".parse().expect("a name")
}

/// A package of a registry.
fn plain_name() -> PackageName {
    PackageName::plain("fc3").expect("a name")
}

/// Asks for a document of [`package`], or of [`plain_name`] on a registry.
async fn ask(
    upstream: &Arc<dyn Upstream>,
    ask: DocumentAsk,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    upstream.document(&package_on(upstream), &ask, stored).await
}

fn package_on(upstream: &Arc<dyn Upstream>) -> PackageName {
    if upstream.existence_ask() == DocumentAsk::Latest { plain_name() } else { package() }
}

/// Fetches a document that must have changed.
async fn get<T: DeserializeOwned>(upstream: &Arc<dyn Upstream>, what: DocumentAsk) -> Result<T, FetchError> {
    Ok(parse(&stored(ask(upstream, what, None).await?)))
}

fn parse<T: DeserializeOwned>(document: &Document) -> T {
    serde_json::from_slice(&document.body).expect("the document's type")
}

/// Stores a changed document as the cache would.
fn stored(fetched: FetchedDocument) -> Document {
    let FetchedDocument::Changed { body, validators } = fetched else { panic!("not changed: {fetched:?}") };
    let now = Timestamp::now();
    let meta = DocumentMeta {
        digest: Digest::of(&body),
        validated_at: now,
        changed_at: now,
        validators,
        upstream_status: UpstreamStatus::Present,
    };
    Document { meta: Arc::new(meta), body }
}

/// The same document, whose pages were last fetched two hours ago.
fn long_ago(document: &Document) -> Document {
    let mut meta = DocumentMeta::clone(&document.meta);
    meta.validators.last_full_fetch = Some(Timestamp::now() - Duration::from_secs(7200));
    Document { meta: Arc::new(meta), body: document.body.clone() }
}

fn renewed(fetched: FetchedDocument) -> Validators {
    match fetched {
        FetchedDocument::NotModified { validators } => validators,
        FetchedDocument::Changed { .. } => panic!("changed"),
    }
}

fn tags(document: &Document) -> Vec<String> {
    parse::<Releases>(document).releases.into_iter().map(|release| release.tag_name).collect()
}

/// Fetches a whole archive.
async fn zip(upstream: &Arc<dyn Upstream>, reference: GitRef) -> Result<(FetchedBody, Vec<u8>), FetchError> {
    let mut fetched = upstream.archive(&package_on(upstream), &reference, ClientId::Mirror).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = fetched.body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok((fetched, bytes))
}

fn tag(name: &str) -> GitRef {
    GitRef::Tag(name.to_owned())
}

fn release(tag: &str) -> serde_json::Value {
    serde_json::json!({
        "url": "https://api.forge.test/1", "id": 1, "tag_name": tag, "name": tag, "draft": false, "prerelease": false,
        "created_at": "2021-01-04T07:41:23Z", "published_at": "2021-01-04T08:00:00Z", "body": "notes", "assets": []
    })
}

fn error<T>(result: Result<T, FetchError>) -> FetchError {
    result.err().expect("an error")
}
