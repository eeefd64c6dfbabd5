//! The composition root: from a configuration to a running mirror, and to its end.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    archive::ZipVerifier,
    cache::{
        Cache,
        policy::{Documents, Mode},
    },
    clock::Clock,
    config::Config,
    entry::Digest,
    http::body::Body,
    peer::Peer,
    registry::{Registry, policy::AccessPolicy},
    server::{self, Bound, Handler, control, tls::Reload},
    service::{Health, Service, hosts::Hosts},
    storage::disk::Disk,
    upstream,
    value::Secret,
};

mod loopback;

pub use crate::{
    dialect::{Names, PackageId, zipball_url},
    storage::disk::{Holder, OpenError},
};

/// Complete downloads have at least this long to be stored at the end, also where the drain period is over.
const STORE: Duration = Duration::from_secs(2);

/// The mirror, bound to its addresses but not serving yet.
pub struct Running {
    /// Where it listens, the plain addresses first; the ports are real ones.
    pub addresses: Vec<SocketAddr>,
    /// The part of them where TLS is spoken.
    pub tls_addresses: Vec<SocketAddr>,
    /// Has the certificates read again, where there are some.
    pub reload: Option<Reload>,
    /// The clock that freshness is counted by.
    pub clock: Clock,
    /// The cache, for whoever watches it.
    pub cache: Arc<Cache>,
    bound: Bound,
    service: Arc<Service>,
    health: Health,
    tasks: TaskTracker,
    background: CancellationToken,
    drain: Duration,
    upstreams: BTreeMap<String, upstream::Config>,
}

#[derive(Clone)]
struct Serve(Arc<Service>);

impl Handler for Serve {
    type Body = Body;

    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send + use<> {
        self.0.handle(request, peer)
    }
}

/// Builds everything and binds the listeners. `tokens` holds each upstream's token, read by the configuration.
///
/// # Errors
/// When a listener cannot be bound, the cache directory cannot be used, or an upstream's settings do not work.
pub async fn start(config: Config, tokens: BTreeMap<String, Option<Secret>>) -> anyhow::Result<Running> {
    start_at(config, tokens, Clock::default()).await
}

/// As [`start`], but reachable by the control socket alone: for a command that works on the directory itself.
///
/// # Errors
/// As [`start`].
pub async fn start_local(mut config: Config, tokens: BTreeMap<String, Option<Secret>>) -> anyhow::Result<Running> {
    config.server.listen.clear();
    config.server.tls = server::tls::Config::default();
    start(config, tokens).await
}

/// As [`start`], by a given clock.
///
/// # Errors
/// As [`start`].
pub async fn start_at(
    config: Config,
    mut tokens: BTreeMap<String, Option<Secret>>,
    clock: Clock,
) -> anyhow::Result<Running> {
    let bound = server::bind(&config.server)?;
    let dir: PathBuf = config.disk.dir.clone().context("disk.dir is not set and the user has no cache directory")?;
    let disk = open_disk(&config, dir.clone(), bound.addresses()).await?;
    let tasks = TaskTracker::new();
    let background = CancellationToken::new();
    // Declared after the tier, so that its file is gone before the directory is let go.
    let control = control::listen(&dir).inspect_err(|error| {
        tracing::warn!(%error, "there is no control socket: administration has to wait until the mirror has ended");
    });
    disk.spawn_background(&tasks, &background);

    let archives = config.archives.clone();
    let verify = Arc::new(ZipVerifier { max_entries: archives.max_entries, max_inflated: archives.max_inflated.0 });
    let documents = Documents { mode: config.mode, ..config.documents.clone() };
    let cache = Cache::build(&config.memory, disk.clone(), documents, archives, clock.clone(), tasks.clone());
    let instance = instance();
    let mut upstreams = BTreeMap::new();
    for (name, section) in &config.upstreams {
        let token = tokens.remove(name).flatten();
        let upstream = upstream::build(name, section, token, &instance)?;
        let upstream = if config.mode == Mode::Offline { upstream::offline(&upstream) } else { upstream };
        upstreams.insert(name.clone(), upstream);
    }
    let access = AccessPolicy::build(&config.packages)?;
    let known: Vec<&str> = config.upstreams.keys().map(String::as_str).collect();
    let names = Names::build(&config.names, &known).map_err(anyhow::Error::msg)?;
    let mirror = Arc::new(Registry::build(cache.clone(), upstreams, access, verify));
    let health = Health::default();
    let pseudonym = upstream::pseudonym(&instance);
    let section = config.server.clone();
    let hosts = Hosts::build(section.public_url, &section.known_hosts, section.trusted_proxies);
    let service = Service::build(mirror, names, hosts, pseudonym, health.clone());
    Ok(Running {
        addresses: bound.addresses().to_vec(),
        tls_addresses: bound.tls_addresses().to_vec(),
        reload: bound.reload(),
        clock,
        cache,
        bound: bound.with_control(control.ok()),
        service: Arc::new(service),
        health,
        tasks,
        background,
        drain: config.server.drain.0,
        // Nothing leads anywhere offline, not even a question to the name service.
        upstreams: if config.mode == Mode::Offline { BTreeMap::new() } else { config.upstreams },
    })
}

async fn open_disk(config: &Config, dir: PathBuf, addresses: &[SocketAddr]) -> anyhow::Result<Arc<Disk>> {
    let section = config.disk.clone();
    let name = dir.display().to_string();
    let disk = match tokio::task::spawn_blocking(move || Disk::open(&section, &dir)).await? {
        // Which directory, the other reasons need not say: they are about the process, the format or the limit.
        Err(error @ OpenError::Io { .. }) => return Err(error).context(format!("cache directory {name}")),
        opened => opened?,
    };
    disk.set_holder_addresses(addresses).with_context(|| format!("cache directory {name}"))?;
    Ok(disk)
}

/// A name of this process that no other mirror has, for `Via`.
fn instance() -> String {
    let seed = format!("{:?} {}", std::time::SystemTime::now(), std::process::id());
    Digest::of(seed.as_bytes()).to_string()[..12].to_owned()
}

impl Running {
    /// Serves connections on threads of their own, as a server that does nothing else should.
    pub fn with_lanes(mut self, lanes: server::ConnectionThreads) -> Self {
        self.bound = self.bound.with_lanes(lanes);
        self
    }

    /// Serves until `shutdown`, then lets running transfers finish for the drain period; `now` ends it at once. Downloads
    /// that no client waits for any more are given up.
    ///
    /// # Errors
    /// When what must be written at the end cannot be.
    pub async fn run_until(self, shutdown: CancellationToken, now: CancellationToken) -> anyhow::Result<()> {
        self.health.serving();
        let warned = self.tasks.spawn(loopback::warn(self.upstreams, self.addresses));
        let health = self.health;
        let mark = {
            let shutdown = shutdown.clone();
            async move {
                shutdown.cancelled().await;
                health.draining();
                tracing::info!("draining; a second signal ends at once");
                tokio::time::Instant::now()
            }
        };
        let serve = self.bound.serve(Serve(self.service), shutdown, now.clone());
        // In this order: nobody is turned away by a mirror that still says it is ready.
        let (began, drained) = tokio::join!(biased; mark, serve);
        if drained.cut > 0 {
            tracing::warn!(connections = drained.cut, "transfers that did not end in time were cut");
        }
        warned.abort();
        // Every client has gone: what is complete is still stored, what is not has nobody who waits for it.
        self.cache.give_up_downloads();
        self.background.cancel();
        self.tasks.close();
        let left = self.drain.saturating_sub(began.elapsed()).max(STORE);
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(left) => tracing::warn!("what was to be stored is not stored in time"),
            () = now.cancelled() => {}
        }
        self.cache.disk().close().await?;
        Ok(())
    }
}
