//! The mirror under test: the whole application in this process, on a free port, with a scripted forge as upstream.

#![allow(dead_code, unreachable_pub)]

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use srm_mirror::{
    app::App,
    cache::Cache,
    clock::Clock,
    config::Config,
    server::ReloadHandle,
    upstream::{self, CredentialSource},
    value::{Period, Secret},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{forge::Forge, plain_client};

/// A running mirror. Dropping it aborts it; [`Mirror::stop`] shuts it down as SIGTERM does.
pub struct Mirror {
    pub address: SocketAddr,
    /// The address of the TLS listener, if there is one.
    pub tls_address: Option<SocketAddr>,
    /// The address of the listener for metrics, if there is one.
    pub metrics_address: Option<SocketAddr>,
    /// The address of the listener for other nodes, if there is one.
    pub node_address: Option<SocketAddr>,
    /// Reads certificates and credentials again.
    pub reload: ReloadHandle,
    pub clock: Clock,
    pub cache: Arc<Cache>,
    pub client: reqwest::Client,
    dir: Option<TempDir>,
    shutdown: CancellationToken,
    abort: CancellationToken,
    run: Option<JoinHandle<()>>,
}

/// The configuration and credentials of a mirror to start.
pub struct Setup {
    pub config: Config,
    pub credentials: BTreeMap<String, Vec<CredentialSource>>,
}

/// A complete response.
pub struct TestResponse {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

/// The text of an error, as a client prints it.
#[derive(Debug, PartialEq)]
pub struct PrintedError(pub String);

/// Longest body that a failing test prints.
const MAX_PRINTED_BODY_BYTES: usize = 4 << 10;

impl std::fmt::Debug for TestResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = std::str::from_utf8(&self.body).ok().filter(|text| text.len() <= MAX_PRINTED_BODY_BYTES);
        let body = text.map_or_else(|| format!("{} bytes, SHA-256 {}", self.body.len(), self.sha256()), str::to_owned);
        let headers = &self.headers;
        f.debug_struct("TestResponse")
            .field("status", &self.status)
            .field("headers", headers)
            .field("body", &body)
            .finish()
    }
}

impl TestResponse {
    /// The value of a header field; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// The `Cache-Status` field, which must be a structured List of one member (RFC 9211); empty if it is absent.
    pub fn cache_status(&self) -> &str {
        let field = self.header("cache-status");
        if !field.is_empty() {
            let list: sfv::List = sfv::Parser::new(field).parse().expect("a structured List");
            assert!(matches!(&list[..], [sfv::ListEntry::Item(_)]), "{field}");
        }
        field
    }

    /// The SHA-256 in the `Repr-Digest` field, a structured Dictionary (RFC 9530).
    pub fn repr_digest(&self) -> Vec<u8> {
        let field = self.header("repr-digest");
        let digests: sfv::Dictionary = sfv::Parser::new(field).parse().expect("a structured Dictionary");
        let Some(sfv::ListEntry::Item(item)) = digests.get("sha-256") else { panic!("no sha-256 in {field:?}") };
        item.bare_item.as_byte_sequence().expect("a Byte Sequence").to_vec()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    pub fn sha256(&self) -> String {
        srm_mirror::entry::Digest::of(&self.body).to_string()
    }
}

/// The default configuration with the forge as its upstreams, a short drain, and a free port.
pub fn setup(forge: &Forge) -> Setup {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.server.drain = Period::secs(5);
    config.upstreams = upstream::defaults();
    let scripted = forge.sections();
    for (name, section) in &mut config.upstreams {
        let scripted = scripted.iter().find(|scripted| scripted.name == name).expect("no upstream is a real one");
        section.api = scripted.api.parse().expect("address");
        let web = scripted.web.as_ref().unwrap_or(&scripted.api);
        section.web = section.web.is_some().then(|| web.parse().expect("address"));
        section.redirect_hosts = vec![scripted.redirect_host.clone()];
        section.token_env = None;
    }
    Setup { config, credentials: BTreeMap::new() }
}

impl Setup {
    /// Changes the configuration.
    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a token to the credentials of an upstream. The forge must accept it ([`Forge::accept_token`]).
    pub fn token(self, upstream: &str, token: &str) -> Self {
        let number = self.credentials.get(upstream).map_or(0, Vec::len) + 1;
        let label = format!("{}_TOKEN_{number}", upstream.to_ascii_uppercase());
        let source = CredentialSource::of_token(&label, &Secret::new(token));
        self.credential(upstream, source.expect("a token"))
    }

    /// Adds a credential of an upstream.
    pub fn credential(mut self, upstream: &str, source: CredentialSource) -> Self {
        self.credentials.entry(upstream.to_owned()).or_default().push(source);
        self
    }

    /// Starts the mirror with a new temporary cache directory.
    pub async fn start(self) -> Mirror {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mirror = self.start_in(dir.path()).await;
        mirror.dir = Some(dir);
        mirror
    }

    /// Why the mirror does not start, with a new cache directory.
    pub async fn start_error(mut self) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        self.config.disk.dir = Some(dir.path().to_owned());
        let started = App::bind_with_clock(self.config, self.credentials, Clock::default()).await;
        format!("{:#}", started.err().expect("does not start"))
    }

    /// Starts the mirror with a given cache directory, which outlives it.
    pub async fn start_in(mut self, dir: &Path) -> Mirror {
        self.config.disk.dir = Some(dir.to_owned());
        let clock = Clock::default();
        let app = App::bind_with_clock(self.config, self.credentials, clock.clone()).await.expect("starts");
        let address = app.addresses[0];
        let cache = app.cache.clone();
        let tls_address = app.tls_addresses.first().copied();
        let metrics_address = app.metrics_addresses.first().copied();
        let node_address = app.node_addresses.first().copied();
        let reload = app.reload.clone();
        let shutdown = CancellationToken::new();
        let abort = CancellationToken::new();
        let run = app.serve_until(shutdown.clone(), abort.clone());
        let run = tokio::spawn(async move { run.await.expect("ends well") });
        let client = plain_client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(Duration::from_secs(60)).build().expect("a client");
        Mirror {
            address,
            tls_address,
            metrics_address,
            node_address,
            reload,
            clock,
            cache,
            client,
            dir: None,
            shutdown,
            abort,
            run: Some(run),
        }
    }
}

impl Mirror {
    /// Starts a mirror with the default configuration.
    pub async fn over(forge: &Forge) -> Self {
        setup(forge).start().await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The cache directory.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("started with a temporary directory").path()
    }

    pub async fn get(&self, path: &str) -> TestResponse {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> TestResponse {
        self.request(reqwest::Method::GET, path, headers).await.expect("a complete response")
    }

    pub async fn head(&self, path: &str) -> TestResponse {
        self.request(reqwest::Method::HEAD, path, &[]).await.expect("a complete response")
    }

    /// Sends a request. An error means that the response was cut off.
    pub async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<TestResponse, reqwest::Error> {
        let mut request = self.client.request(method, self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(TestResponse { status, headers, body: response.bytes().await? })
    }

    /// Receives the head of a response and leaves the body to the caller.
    pub async fn open(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.expect("a head")
    }

    /// Shuts the mirror down as SIGTERM does, and waits. Returns the temporary directory, if it has one.
    pub async fn stop(mut self) -> Option<TempDir> {
        self.shutdown.cancel();
        if let Some(run) = self.run.take() {
            run.await.expect("no panic");
        }
        self.dir.take()
    }

    /// Sends a request through the control socket in `dir`.
    pub async fn control(
        &self,
        dir: &Path,
        method: reqwest::Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> TestResponse {
        let client = plain_client::builder().unix_socket(dir.join("control.sock")).build();
        let request = client.expect("a client").request(method, format!("http://mirror{path}")).body(body);
        let response = request.send().await.expect("a head");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        TestResponse { status, headers, body: response.bytes().await.expect("a complete response") }
    }

    /// Sends an administration request, `POST /-/{what}`, through the control socket. Expects 200 and returns the JSON lines.
    pub async fn admin(&self, dir: &Path, what: &str, ask: serde_json::Value) -> Vec<serde_json::Value> {
        let got = self.control(dir, reqwest::Method::POST, &format!("/-/{what}"), ask.to_string()).await;
        assert_eq!(got.status, 200, "{what}: {:?}", got.body);
        let lines = got.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }

    /// Starts the drain without waiting.
    pub fn drain(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.abort.cancel();
        self.shutdown.cancel();
    }
}
