//! The composition root: builds the parts from a configuration, binds the listeners, serves, and drains.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::KeySource,
    archive::ZipVerifier,
    cache::{
        Cache, CacheConfig,
        policy::{DocumentConfig, MAX_DOWNLOADS, UpstreamMode},
    },
    clock::Clock,
    config::{Config, UpstreamCredentials},
    entry::Digest,
    http::body::Body,
    observe::AuditLog,
    peer::{ClientTable, OwnCertificates, Peer, Refusal},
    registry::{Blocks, is_pinned_key},
    server::{self, Bound, ConnectionThreads, Handler, InheritedSockets, ReloadHandle, control},
    service::{self, MetricsExposure, Readiness},
    storage::disk::{self, Disk},
    upstream,
};

mod accounts;
mod credentials;
mod fleet;
mod hosting;
mod issuer_documents;
mod loopback;
mod memory;
mod reload;
mod removals;
mod shared;
mod shared_accounts;
mod source_sharing;

use fleet::NodeHandler;
use issuer_documents::IssuerDocuments;
use memory::MemoryPlan;
use reload::{RunningService, SharedParts};

pub(crate) use crate::fleet::FleetNode;
pub use credentials::{UpstreamReport, check as check_credentials};
pub(crate) use fleet::{fleet_nodes, node_client};
pub use reload::{ConfigSource, Reloader};
pub(crate) use shared::collect_bucket_garbage;

pub(crate) use crate::hosted::{
    BackupFile, BackupFileError, BackupProblem, BackupSummary, OpenHostedError, RestoreError, RestoreProblem,
    RestoreReport, restore as restore_hosted,
};
pub(crate) use crate::shared::{
    BucketBuildError, BucketError, GarbageMode, GarbageProgress, GarbageReport, GarbageRules, MIN_GRACE, ObjectSum,
    ZipGarbage,
};
pub use crate::{
    dialect::{DialectName, NamedUpstream, Names, PackageId, PackageRef, zipball_url},
    storage::disk::{Holder, OpenError},
};

/// Shutdown waits at least this long for complete downloads to be stored, even when the drain period is over.
const MIN_ADMISSION_WAIT: Duration = Duration::from_secs(2);

/// Longest wait for the last lines of the audit log.
const AUDIT_FLUSH_WAIT: Duration = Duration::from_secs(5);

/// Blocking threads beside those of the downloads: reads of the disk and the index, and verification of views.
const OTHER_BLOCKING_THREADS: usize = 256;

/// The runtime that a mirror runs on. Its blocking threads are started when they are needed.
///
/// # Errors
/// When the system starts no thread.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let threads = 2 * MAX_DOWNLOADS + OTHER_BLOCKING_THREADS;
    tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(threads).build()
}

/// A mirror that is bound to its addresses and not serving yet. Dropping it releases the addresses and the directory.
pub struct App {
    /// Where it listens, the plain addresses first, with the real ports.
    pub addresses: Vec<SocketAddr>,
    /// The addresses among them that speak TLS.
    pub tls_addresses: Vec<SocketAddr>,
    /// Where it answers `/metrics` and health checks alone, with the real ports.
    pub metrics_addresses: Vec<SocketAddr>,
    /// Where it answers other nodes of the fleet, with the real ports.
    pub node_addresses: Vec<SocketAddr>,
    /// Requests that the files of certificates and credentials are read again.
    pub reload: ReloadHandle,
    /// Applies a changed configuration.
    pub reloader: Arc<Reloader>,
    /// The clock that freshness is measured with.
    pub clock: Clock,
    /// The cache, for tests that observe it.
    pub cache: Arc<Cache>,
    bound: Bound,
    /// The listener for other nodes of the fleet.
    nodes: Option<Bound>,
    audit: Option<AuditLog>,
    readiness: Readiness,
    tasks: TaskTracker,
    background: CancellationToken,
    drain_delay: Duration,
    drain_period: Duration,
    /// The upstreams whose names are checked for leading back to this mirror; none offline.
    checked_upstreams: BTreeMap<String, upstream::Config>,
}

/// Answers each request with the service that is present when it arrives.
#[derive(Clone)]
struct ServiceHandler(Arc<ArcSwap<RunningService>>);

impl Handler for ServiceHandler {
    type Body = Body;

    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Body>> + Send + use<> {
        self.0.load().service.handle(request, peer)
    }

    fn is_health_check(&self, request: &Request<Incoming>) -> bool {
        service::is_health_check(request.uri().path())
    }

    fn refuse(&self, request: Request<Incoming>, peer: Peer, refusal: Refusal) -> Response<Body> {
        self.0.load().service.refuse(request, peer, refusal)
    }
}

impl App {
    /// Builds every part, opens the cache directory and binds the listeners. Sends no upstream request.
    ///
    /// # Errors
    /// When a listener cannot be bound, the cache directory cannot be used, or a setting is not valid. An [`OpenError`] of
    /// the directory can be downcast.
    pub async fn bind(config: Config, credentials: UpstreamCredentials) -> anyhow::Result<Self> {
        Self::bind_with_clock(config, credentials, Clock::default()).await
    }

    /// As [`App::bind`], on the sockets that the service manager has passed on, where there are any.
    ///
    /// # Errors
    /// As [`App::bind`].
    pub async fn bind_with_sockets(
        config: Config,
        credentials: UpstreamCredentials,
        sockets: &InheritedSockets,
    ) -> anyhow::Result<Self> {
        let bound = server::bind(&config.server, sockets)?;
        Self::with_listeners(config, credentials, Clock::default(), bound).await
    }

    /// As [`App::bind`], with the control socket as the only listener: for a command that holds the directory itself.
    ///
    /// # Errors
    /// As [`App::bind`].
    pub async fn bind_control_only(mut config: Config, credentials: UpstreamCredentials) -> anyhow::Result<Self> {
        config.server.listen.clear();
        config.server.metrics_listen.clear();
        config.server.tls = server::tls::Config::default();
        config.fleet.iter_mut().for_each(|fleet| fleet.listen.clear());
        Self::bind(config, credentials).await
    }

    /// As [`App::bind`], with a clock of the caller's.
    ///
    /// # Errors
    /// As [`App::bind`].
    pub async fn bind_with_clock(
        config: Config,
        credentials: UpstreamCredentials,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let bound = server::bind(&config.server, &InheritedSockets::default())?;
        Self::with_listeners(config, credentials, clock, bound).await
    }

    async fn with_listeners(
        config: Config,
        credentials: UpstreamCredentials,
        clock: Clock,
        bound: Bound,
    ) -> anyhow::Result<Self> {
        let dir: PathBuf =
            config.disk.dir.clone().context("disk.dir is not set and the user has no cache directory")?;
        let disk = open_disk(&config, dir.clone(), bound.addresses()).await?;
        let tasks = TaskTracker::new();
        let background = CancellationToken::new();
        let key_source: Arc<dyn KeySource> = Arc::new(IssuerDocuments::new(tasks.clone(), background.clone())?);
        let shared_tiers = shared::open(&config, &dir, &disk, &clock).await?;
        let shared = accounts::open_shared(&config, &shared_tiers, &background);
        let access = accounts::open(&config, dir.clone(), &clock, key_source.clone(), bound.revoked(), shared).await?;
        // Declared after `disk`, so dropped before it: the socket's file is removed before the directory is released.
        let control = control::listen(&dir).inspect_err(|error| {
            tracing::warn!(%error, "cannot open the control socket: administration must wait until this mirror has stopped");
        });
        disk.spawn_background(&tasks, &background);

        let archives = config.archives.clone();
        let audit = open_audit_log(&config)?;
        let plan = MemoryPlan::new(&config.memory);
        let budget = plan.budget();
        let verify = Arc::new(ZipVerifier {
            max_entries: archives.max_entries,
            max_inflated: archives.max_inflated.0,
            memory: budget.clone(),
        });
        let documents = DocumentConfig { mode: config.mode, ..config.documents.clone() };
        let nodes = fleet::bind_nodes(&config)?;
        let cache = Cache::build(
            &plan.section,
            budget.clone(),
            disk.clone(),
            shared_tiers,
            CacheConfig { documents, archives },
            clock.clone(),
            tasks.clone(),
        );
        cache.spawn_uploads(&tasks, background.clone(), is_pinned_key);
        let process = upstream::ProcessContext { instance: instance_id(), memory: budget };
        let readiness = Readiness::default();
        let clients = ClientTable::new(config.clients.clone());
        let hosted = hosting::open(&config, verify.clone(), &cache, &tasks, &background).await?;
        let blocks = open_blocks(dir).await?;
        shared::spawn_block_sharing(&blocks, &cache, &tasks, &background);
        fleet::spawn_fleet(&config, &cache, &tasks, &background);
        let shared = SharedParts {
            cache: cache.clone(),
            verify,
            hosted,
            blocks,
            clients: clients.clone(),
            audit: audit.clone(),
            readiness: readiness.clone(),
            certificates: OwnCertificates {
                to_clients: bound.certificates(),
                to_nodes: nodes.as_ref().map(Bound::certificates),
            },
            key_source,
            process,
            metrics: Arc::default(),
            metrics_exposure: MetricsExposure::of_listeners(bound.metrics_addresses()),
            started_at: Timestamp::now(),
            max_rendition_bytes: plan.renditions,
            send_memory: plan.send_budget(),
        };
        let reload = bound.reload();
        // Offline, nothing is sent, not even a question to the name service.
        let offline = config.mode == UpstreamMode::Offline;
        let checked_upstreams = if offline { BTreeMap::new() } else { config.upstreams.clone() };
        let drain_delay = config.server.drain_delay.0;
        let drain_period = config.server.drain.0;
        let reloader = Reloader::start(shared, config, credentials, access, reload.clone())?;
        removals::spawn_removal_sharing(reloader.running(), &cache, &tasks, &background);
        source_sharing::spawn_source_sharing(reloader.running(), &cache, &tasks, &background).await;
        shared_accounts::spawn_account_sharing(reloader.running().clone(), &cache, &tasks, &background);
        Ok(Self {
            addresses: bound.addresses().to_vec(),
            tls_addresses: bound.tls_addresses(),
            metrics_addresses: bound.metrics_addresses().to_vec(),
            reload,
            reloader,
            clock,
            cache,
            node_addresses: nodes.as_ref().map(|nodes| nodes.addresses().to_vec()).unwrap_or_default(),
            nodes,
            bound: bound.with_control(control.ok()).with_clients(clients),
            audit,
            readiness,
            tasks,
            background,
            drain_delay,
            drain_period,
            checked_upstreams,
        })
    }

    /// Serves connections on these threads instead of the caller's runtime.
    pub fn with_connection_threads(mut self, threads: ConnectionThreads) -> Self {
        self.bound = self.bound.with_connection_threads(threads);
        self
    }

    /// Reads the configuration from `source` when a reload is requested. Without a source, only files are read again.
    pub fn with_config_source(self, source: ConfigSource) -> Self {
        self.reloader.set_source(source);
        self
    }

    /// Asks the upstreams what their credentials may do. The future has a deadline and is independent of this value.
    pub fn credential_reports(&self) -> impl Future<Output = Vec<UpstreamReport>> + Send + use<> {
        credentials::report(self.reloader.running().load().online_upstreams())
    }

    /// Serves until `graceful` is cancelled and the drain delay is over, then waits for running transfers up to the drain
    /// period; cancelling `abort` ends everything at once. Downloads that no client waits for are aborted; complete ones
    /// are still stored.
    ///
    /// # Errors
    /// When the disk tier cannot be closed.
    pub async fn serve_until(self, graceful: CancellationToken, abort: CancellationToken) -> anyhow::Result<()> {
        self.readiness.set_serving();
        let running = self.reloader.running().clone();
        let loopback_check = self.tasks.spawn(loopback::report_loops(self.checked_upstreams, self.addresses));
        let file_check = self.tasks.spawn(credentials::read_files_on_change(running.clone(), self.reload.clone()));
        let audit_reopening = self.tasks.spawn(reopen_on_request(self.audit.clone(), self.reload));
        let use_writer = self.tasks.spawn(accounts::write_uses(running.clone()));
        let readiness = self.readiness;
        let no_more_connections = CancellationToken::new();
        let serve = self.bound.serve(ServiceHandler(running.clone()), no_more_connections.clone(), abort.clone());
        let serve_nodes = async {
            let Some(nodes) = self.nodes else { return };
            nodes.serve(NodeHandler(running.clone()), no_more_connections.clone(), abort.clone()).await;
        };
        let delay = self.drain_delay;
        let drain_start = async {
            graceful.cancelled().await;
            readiness.set_draining();
            tracing::info!("draining; a second signal stops at once");
            if !delay.is_zero() {
                let _ = timeout(delay, abort.cancelled()).await;
            }
            no_more_connections.cancel();
            Instant::now()
        };
        // Biased: `/readyz` reports draining before the listeners close.
        let (drain_started, report, ()) = tokio::join!(biased; drain_start, serve, serve_nodes);
        if report.aborted > 0 {
            tracing::warn!(
                connections = report.aborted,
                "aborted transfers that did not finish within the drain period"
            );
        }
        use_writer.abort();
        audit_reopening.abort();
        loopback_check.abort();
        file_check.abort();
        // No client is left: an incomplete download has no reader, a complete one is still stored.
        self.cache.archives().abort_downloads();
        self.background.cancel();
        self.tasks.close();
        let remaining = self.drain_period.saturating_sub(drain_started.elapsed()).max(MIN_ADMISSION_WAIT);
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(remaining) => tracing::warn!("stopped before every complete download was stored"),
            () = abort.cancelled() => {}
        }
        let access = running.load().access.clone();
        let audit = self.audit;
        let finish = move || {
            access.account_changes().save_uses();
            audit.iter().for_each(|audit| audit.flush(AUDIT_FLUSH_WAIT));
        };
        // An error is a panic, which has been reported.
        let _ = crate::blocking::spawn_blocking(finish).await;
        self.cache.disk().close().await?;
        Ok(())
    }
}

/// Opens the audit log, if there is one.
fn open_audit_log(config: &Config) -> anyhow::Result<Option<AuditLog>> {
    AuditLog::open(&config.audit).with_context(|| {
        let file = config.audit.file.as_deref().unwrap_or(Path::new(""));
        format!("the audit log {} (audit.file) cannot be opened", file.display())
    })
}

/// Opens the audit log again when files are to be read again, as after SIGHUP. Never returns.
async fn reopen_on_request(audit: Option<AuditLog>, reload: ReloadHandle) {
    let mut requests = reload.requests();
    loop {
        requests.next().await;
        audit.iter().for_each(AuditLog::reopen);
    }
}

/// Reads what the operator has blocked.
async fn open_blocks(dir: PathBuf) -> anyhow::Result<Arc<Blocks>> {
    Ok(Arc::new(crate::blocking::spawn_blocking(move || Blocks::open(&dir)).await??))
}

async fn open_disk(config: &Config, dir: PathBuf, addresses: &[SocketAddr]) -> anyhow::Result<Arc<Disk>> {
    let section = disk::Config { uploads: config.shared.is_some(), ..config.disk.clone() };
    let name = dir.display().to_string();
    let disk = match crate::blocking::spawn_blocking(move || Disk::open(&section, &dir)).await? {
        // Other errors are not about the directory's path but about another process, the format or the limit.
        Err(error @ OpenError::Io { .. }) => {
            let hint = format!("the cache directory {name} cannot be used; name another with --cache-dir or disk.dir");
            return Err(error).context(hint);
        }
        opened => opened?,
    };
    disk.set_holder_addresses(addresses).with_context(|| format!("cache directory {name}"))?;
    Ok(disk)
}

/// An identifier of this process for `Via` (RFC 9110 §7.6.3), different in every mirror.
fn instance_id() -> String {
    Digest::unique().to_string()[..12].to_owned()
}

/// Runs a task until `background` is cancelled. Boxed: Tokio's code for a task is compiled once for all of these.
fn spawn_background(
    tasks: &TaskTracker,
    background: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let task: BoxFuture<'static, ()> = Box::pin(task);
    tasks.spawn(background.clone().run_until_cancelled_owned(task));
}
