//! A scripted forge on loopback: the parts of GitHub (API and archive host), Gitee and the official registries (v3, simple
//! and their object storage) that a mirror of releases uses.
//!
//! It listens on free ports, holds its repositories and packages in memory and builds their zips on demand. Tests change its content
//! while it runs, plan faults and gates, and read the requests. Only [`Fault::Slow`] sleeps.
#![allow(dead_code, unreachable_pub, unused_imports, missing_docs, clippy::unwrap_used)]

#[path = "forge/apps.rs"]
mod apps;
#[path = "forge/asked.rs"]
mod asked;
#[path = "forge/body.rs"]
mod body;
#[path = "forge/codeload.rs"]
mod codeload;
#[path = "forge/fault.rs"]
mod fault;
#[path = "forge/gitee.rs"]
mod gitee;
#[path = "forge/github.rs"]
mod github;
#[path = "forge/github_json.rs"]
mod github_json;
#[path = "forge/handle.rs"]
mod handle;
#[path = "forge/log.rs"]
mod log;
#[path = "forge/model.rs"]
mod model;
#[path = "forge/pack.rs"]
mod pack;
#[path = "forge/paths.rs"]
mod paths;
#[path = "forge/rate.rs"]
mod rate;
#[path = "forge/ready.rs"]
mod ready;
#[path = "forge/registry.rs"]
mod registry;
#[path = "forge/route.rs"]
mod route;
#[path = "forge/settings.rs"]
mod settings;
#[path = "forge/spec.rs"]
mod spec;
#[path = "forge/wire.rs"]
mod wire;

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use self::{
    apps::Apps,
    body::{Answer, Body},
    fault::Plan,
    log::{Log, Progress},
    model::Store,
    rate::Rate,
    registry::{Protocol, simple, storage, v3},
    wire::{Flushes, Listener, Refused},
};
pub use self::{
    codeload::Lengths,
    fault::{At, Fault, FaultRef, Gate, Match},
    gitee::GiteeZips,
    handle::RepoRef,
    log::{Host, Seen},
    pack::{Archive, Data, File, Packing, hex, pack},
    ready::project_yaml,
    registry::{
        AfterLast, BadSignature, Description, Fields, Links, MISSING, Missing, PackageHandle, PackageKind, PrivateZips,
        Registry, RegistryOptions, RegistryZips, Signature, Times, TypeNames, Validators,
    },
    route::Route,
    settings::Section,
    spec::Spec,
};

type Observer = Box<dyn Fn(&Seen) + Send + Sync>;

/// The state that all listeners share.
struct State {
    github: Arc<Mutex<Store>>,
    gitee: Arc<Mutex<Store>>,
    log: Log,
    plan: Plan,
    rate: Rate,
    tokens: Mutex<HashSet<String>>,
    apps: Apps,
    archive_tokens: Mutex<HashSet<String>>,
    lengths: Mutex<Lengths>,
    sent_archives: Mutex<HashSet<String>>,
    gitee_options: Mutex<gitee::Options>,
    gzip: AtomicBool,
    official: Registry,
    simple: Registry,
    observer: OnceLock<Observer>,
    ports: [SocketAddr; 6],
}

impl State {
    fn github_api(&self) -> String {
        format!("http://{}", self.ports[0])
    }

    fn archive_url(&self) -> String {
        format!("http://{}", self.ports[1])
    }

    fn gitee_web(&self) -> String {
        format!("http://{}", self.ports[2])
    }

    fn knows_token(&self, token: &str) -> bool {
        self.tokens.lock().unwrap().contains(token)
    }

    /// A new token for the query of the archive host, as GitHub adds one to `Location`.
    fn issue_archive_token(&self) -> String {
        let mut tokens = self.archive_tokens.lock().unwrap();
        let token = format!("ARCHIVETOKEN{:08}", tokens.len());
        tokens.insert(token.clone());
        token
    }

    fn knows_archive_token(&self, token: &str) -> bool {
        self.archive_tokens.lock().unwrap().contains(token)
    }

    fn names_length(&self, archive: &str) -> bool {
        match *self.lengths.lock().unwrap() {
            Lengths::Always => true,
            Lengths::Never => false,
            Lengths::AfterFirst => !self.sent_archives.lock().unwrap().insert(archive.to_owned()),
        }
    }

    /// The answer of a host without faults.
    fn answer(&self, host: Host, request: &Request<()>) -> Answer {
        match host {
            Host::GithubApi => github::answer(self, request),
            Host::Archive => codeload::answer(self, request),
            Host::Gitee => gitee::answer(self, request),
            Host::V3 => v3::answer(&self.official, request),
            Host::Simple => simple::answer(&self.simple, request),
            Host::Storage => storage::answer(self, request),
        }
    }

    async fn handle(
        self: Arc<Self>,
        host: Host,
        request: Request<Incoming>,
        flushes: Flushes,
    ) -> Result<Response<Body>, Refused> {
        let request = request.map(drop);
        let seen = Seen {
            host,
            method: request.method().to_string(),
            path_and_query: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: request.headers().clone(),
            status: None,
            sent: 0,
            complete: false,
        };
        let progress = Arc::new(Progress::default());
        let number = self.log.arrive(seen.clone(), progress.clone());
        let gates = self.plan.gates_for(&seen);
        for gate in gates.iter().filter(|gate| gate.at() == At::Head) {
            gate.pass().await;
        }
        let fault = self.plan.fault_for(&seen);
        let replaced = match &fault {
            Some(fault) => fault.replace_answer().await?,
            None => None,
        };
        let answer = replaced.unwrap_or_else(|| self.answer(host, &request));
        let answer = if self.gzip.load(Ordering::Acquire) { answer.compressed_for(&seen.headers) } else { answer };
        self.log.answered(number, answer.status);
        if let Some(observer) = self.observer.get() {
            observer(&Seen { status: Some(answer.status), ..seen });
        }
        Ok(body::send(answer, gates, fault, progress, flushes))
    }
}

/// Where the forge listens unless another address is given.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The running forge. Dropping it closes all listeners and connections.
pub struct Forge {
    state: Arc<State>,
    listeners: [Listener; 6],
}

impl Forge {
    /// Starts on six free ports of 127.0.0.1.
    pub async fn start() -> Self {
        Self::start_at(LOOPBACK, 0).await.expect("loopback has free ports")
    }

    /// A forge with `count` packages `load/pN`, each with one zip of about `len` bytes, and no rate limit in reach.
    pub async fn with_numbered_packages(count: u64, len: u64) -> Self {
        let forge = Self::start().await;
        forge.rate_limits(1_000_000, 1_000_000);
        for n in 0..count {
            forge.repo(&format!("load/p{n}")).release("v1.0.0", |release| release.noise("data.bin", n, len));
        }
        forge
    }

    /// Starts on `port` (API) of an address and the five ports after it (archives, Gitee, v3, simple, storage); 0 selects
    /// free ports.
    pub async fn start_at(address: IpAddr, port: u16) -> std::io::Result<Self> {
        Self::start_announcing(address, port, None).await
    }

    /// Starts on six free ports behind a proxy: its addresses are in every URL that the forge sends, and in
    /// [`Forge::sections`]. [`Forge::listening`] has the forge's own ones, in the same order.
    pub async fn start_behind(proxy: [SocketAddr; 6]) -> std::io::Result<Self> {
        Self::start_announcing(LOOPBACK, 0, Some(proxy)).await
    }

    async fn start_announcing(address: IpAddr, port: u16, announced: Option<[SocketAddr; 6]>) -> std::io::Result<Self> {
        let mut bound = Vec::new();
        for n in 0..6 {
            let port = if port == 0 { 0 } else { port + n };
            bound.push(wire::bind((address, port).into())?);
        }
        let mut ports = [SocketAddr::from((address, 0)); 6];
        for (port, (_, listener)) in ports.iter_mut().zip(&bound) {
            *port = listener.local_addr()?;
        }
        let ports = announced.unwrap_or(ports);
        let state = Arc::new(State {
            github: Arc::default(),
            gitee: Arc::default(),
            log: Log::default(),
            plan: Plan::default(),
            rate: Rate::default(),
            tokens: Mutex::default(),
            apps: Apps::default(),
            archive_tokens: Mutex::default(),
            lengths: Mutex::default(),
            sent_archives: Mutex::default(),
            gitee_options: Mutex::default(),
            gzip: AtomicBool::default(),
            official: Registry::new(Protocol::V3, ports[3], ports[5]),
            simple: Registry::new(Protocol::Simple, ports[4], ports[5]),
            observer: OnceLock::new(),
            ports,
        });
        let serve = |listener, host| {
            let state = state.clone();
            Listener::serve(listener, move |request, flushes| state.clone().handle(host, request, flushes))
        };
        let hosts = [Host::GithubApi, Host::Archive, Host::Gitee, Host::V3, Host::Simple, Host::Storage];
        let listeners: Vec<Listener> = bound.into_iter().zip(hosts).map(|(bound, host)| serve(bound, host)).collect();
        let listeners = listeners.try_into().unwrap_or_else(|_| unreachable!());
        Ok(Self { state, listeners })
    }

    /// The addresses that the forge listens on: API, archives, Gitee, v3, simple, storage.
    pub fn listening(&self) -> [SocketAddr; 6] {
        std::array::from_fn(|host| self.listeners[host].address)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn github_api(&self) -> String {
        self.state.github_api()
    }

    /// `127.0.0.1:PORT`, as written in `redirect_hosts`.
    pub fn archive_host(&self) -> String {
        self.state.ports[1].to_string()
    }

    /// `http://127.0.0.1:PORT`: Gitee's pages and archives.
    pub fn gitee_web(&self) -> String {
        self.state.gitee_web()
    }

    /// `http://127.0.0.1:PORT/api/v5`.
    pub fn gitee_api(&self) -> String {
        format!("{}/api/v5", self.state.gitee_web())
    }

    /// A repository on GitHub; created if missing: public, with a branch `main`.
    pub fn repo(&self, full_name: &str) -> RepoRef {
        RepoRef::open(&self.state.github, full_name, false)
    }

    /// A repository on Gitee.
    pub fn gitee_repo(&self, full_name: &str) -> RepoRef {
        RepoRef::open(&self.state.gitee, full_name, true)
    }

    /// The zip of a ref of a GitHub repository.
    pub fn zip_bytes(&self, full_name: &str, reference: &str) -> Bytes {
        self.repo(full_name).zip_bytes(reference)
    }

    /// Its SHA-256, lower-case hexadecimal.
    pub fn sha256(&self, full_name: &str, reference: &str) -> String {
        self.repo(full_name).sha256(reference)
    }

    /// Makes both forges accept a token, which gives access to private repositories and drafts.
    pub fn accept_token(&self, token: &str) {
        self.state.tokens.lock().unwrap().insert(token.to_owned());
    }

    /// Revokes a token: requests with it get 401.
    pub fn revoke_token(&self, token: &str) {
        self.state.tokens.lock().unwrap().remove(token);
    }

    /// Compresses JSON for clients that accept gzip, as the real hosts do; initially not. Offsets of gates and faults then
    /// count compressed bytes.
    pub fn gzip(&self, compress: bool) {
        self.state.gzip.store(compress, Ordering::Release);
    }

    /// Sets GitHub's requests per hour without and with a token; initially 60 and 5000.
    pub fn rate_limits(&self, anonymous: u64, token: u64) {
        self.state.rate.set_limits(anonymous, token);
    }

    /// Sets the seconds until `x-ratelimit-reset`.
    pub fn rate_reset_in(&self, seconds: u64) {
        self.state.rate.set_window(seconds);
    }

    pub fn rate_renew(&self) {
        self.state.rate.renew();
    }

    /// Number of requests counted against a caller.
    pub fn rate_used(&self, token: Option<&str>) -> u64 {
        self.state.rate.used(token)
    }

    /// Sets when the archive host sends `Content-Length`.
    pub fn lengths(&self, lengths: Lengths) {
        *self.state.lengths.lock().unwrap() = lengths;
    }

    /// Changes how Gitee responds to requests for zips, and its request limit.
    pub fn gitee_options(&self, change: impl FnOnce(&mut gitee::Options)) {
        change(&mut self.state.gitee_options.lock().unwrap());
    }

    /// Plans a fault for the next matching request; [`FaultRef`] extends it to several.
    pub fn fault(&self, matches: Match, fault: Fault) -> FaultRef {
        self.state.plan.add_fault(matches, fault)
    }

    pub fn clear_faults(&self) {
        self.state.plan.clear_faults();
    }

    /// Stops every matching body after `after` bytes until the gate opens.
    pub fn gate(&self, matches: Match, after: u64) -> Gate {
        self.state.plan.add_gate(matches, At::Body(after))
    }

    /// Stops every matching response before its head until the gate opens.
    pub fn gate_head(&self, matches: Match) -> Gate {
        self.state.plan.add_gate(matches, At::Head)
    }

    /// Closes every connection and refuses new ones. Returns when that is done.
    pub async fn down(&self) {
        for listener in &self.listeners {
            listener.down().await;
        }
    }

    /// Listens again, on the same ports.
    pub async fn up(&self) {
        for listener in &self.listeners {
            listener.up().await;
        }
    }

    pub async fn down_host(&self, host: Host) {
        self.listeners[host as usize].down().await;
    }

    pub async fn up_host(&self, host: Host) {
        self.listeners[host as usize].up().await;
    }
}
