//! Reload: builds the service again from a changed configuration, over the same cache, and replaces it as a whole.
//!
//! A request that is under way ends with the service that it began with. A configuration that cannot be used changes
//! nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, Weak},
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::{
    access::{Access, KeySource, OpenAccessError},
    admin_api::{ReloadReport, SettingChange},
    archive::ZipVerifier,
    cache::{Cache, policy::UpstreamMode},
    config::{ChangedSetting, Config, ConfigError, Loaded, UpstreamCredentials},
    dialect::{DialectName, Names, NamesError},
    observe::{self, AuditLog, FilterError, RequestMetrics},
    peer::{ClientTable, OwnCertificates},
    registry::{Blocks, Registry, hosting::HostedPackages, policy::PolicyError},
    server::ReloadHandle,
    service::{
        MetricsExposure, Readiness, Reload, ReloadError, Service, ServiceParts, client_address::ClientAddresses,
        hosts::Hosts,
    },
    storage::disk::Disk,
    upstream::{self, Upstream},
    value::memory_budget::MemoryBudget,
};

/// Longest value of a setting in a log event, bytes.
const MAX_LOGGED_VALUE_BYTES: usize = 200;

/// Reads the configuration again: the same file, variables and flags as at the start. Blocks.
pub type ConfigSource = Box<dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync>;

/// What serves requests at present. A reload replaces it.
pub(super) struct RunningService {
    pub(super) service: Arc<Service>,
    pub(super) access: Arc<Access>,
    pub(super) registry: Arc<Registry>,
    upstreams: BTreeMap<String, Arc<dyn Upstream>>,
    config: Config,
}

impl RunningService {
    /// The upstreams whose credentials are in use; none offline.
    pub(super) fn online_upstreams(&self) -> BTreeMap<String, Arc<dyn Upstream>> {
        if self.config.mode == UpstreamMode::Offline { BTreeMap::new() } else { self.upstreams.clone() }
    }
}

/// What every configuration of the process shares.
pub(super) struct SharedParts {
    pub(super) cache: Arc<Cache>,
    pub(super) verify: Arc<ZipVerifier>,
    /// The packages that are published on this mirror, if it takes any.
    pub(super) hosted: Option<Arc<HostedPackages>>,
    pub(super) blocks: Arc<Blocks>,
    pub(super) clients: Arc<ClientTable>,
    pub(super) audit: Option<AuditLog>,
    pub(super) readiness: Readiness,
    pub(super) certificates: OwnCertificates,
    pub(super) key_source: Arc<dyn KeySource>,
    pub(super) process: upstream::ProcessContext,
    pub(super) metrics: Arc<RequestMetrics>,
    pub(super) metrics_exposure: MetricsExposure,
    pub(super) started_at: Timestamp,
    /// Most bytes of rendered documents.
    pub(super) max_rendition_bytes: u64,
    /// The memory for bytes that wait for HTTP/2 clients.
    pub(super) send_memory: MemoryBudget,
}

/// Why no service can be built from a configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildServiceError {
    #[error(transparent)]
    Upstream(#[from] upstream::BuildError),
    #[error(transparent)]
    Names(#[from] NamesError),
    #[error(transparent)]
    Packages(#[from] PolicyError),
    #[error(transparent)]
    Access(#[from] OpenAccessError),
    #[error("log.level: {0}")]
    Level(#[from] FilterError),
}

/// Replaces the running configuration. One per mirror.
pub struct Reloader {
    running: Arc<ArcSwap<RunningService>>,
    shared: SharedParts,
    /// Requests that certificates, tokens and keys are read again.
    files: ReloadHandle,
    source: OnceLock<ConfigSource>,
    /// Held during a reload: they run one after the other.
    turn: tokio::sync::Mutex<()>,
    /// This value, for the services that it builds.
    own: Weak<Self>,
}

impl Reloader {
    /// Builds the first service. Must be called within the runtime of the app.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(super) fn start(
        shared: SharedParts,
        config: Config,
        credentials: UpstreamCredentials,
        access: Arc<Access>,
        files: ReloadHandle,
    ) -> Result<Arc<Self>, BuildServiceError> {
        let upstreams = build_upstreams(&config, credentials, &shared.process)?;
        let names = config.names()?;
        let registry = shared.build_registry(&config, &names, upstreams.clone())?;
        warn_of_taken_names(&names, shared.cache.disk());
        Ok(Arc::new_cyclic(|own: &Weak<Self>| {
            let service =
                Arc::new(shared.build_service(&config, registry.clone(), names, access.clone(), own.clone(), None));
            let running = RunningService { service, access, registry, upstreams, config };
            Self {
                running: Arc::new(ArcSwap::from_pointee(running)),
                shared,
                files,
                source: OnceLock::new(),
                turn: tokio::sync::Mutex::default(),
                own: own.clone(),
            }
        }))
    }

    /// Sets where the configuration is read from; later calls have no effect.
    pub(super) fn set_source(&self, source: ConfigSource) {
        let _ = self.source.set(source);
    }

    /// The service at present, which every reload replaces.
    pub(super) fn running(&self) -> &Arc<ArcSwap<RunningService>> {
        &self.running
    }

    /// Reads the configuration again and applies it to new requests: all or nothing. Certificates, tokens and keys are
    /// read again in any case. The result is logged.
    ///
    /// # Errors
    /// Why the configuration cannot be used; the running one stays.
    pub(crate) async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let _turn = self.turn.lock().await;
        self.files.request();
        let reloaded = self.load_and_apply().await;
        match &reloaded {
            Ok(report) => log_report(report),
            Err(error) => tracing::error!(%error, "the configuration is not reloaded; the running one stays"),
        }
        reloaded
    }

    async fn load_and_apply(&self) -> Result<ReloadReport, ReloadError> {
        let own = self.own.upgrade().ok_or(ReloadError::NoSource)?;
        // Reads files, and builds clients whose certificates are read from files.
        let applied = crate::blocking::spawn_blocking(move || {
            let source = own.source.get().ok_or(ReloadError::NoSource)?;
            let loaded = source().map_err(|error| ReloadError::Invalid(error.to_string()))?;
            own.apply(loaded).map_err(|error| ReloadError::Invalid(error.to_string()))
        });
        // A panic has been reported; nothing was replaced.
        applied.await.unwrap_or(Err(ReloadError::Aborted))
    }

    /// Builds everything from the configuration, then replaces what is running.
    fn apply(&self, loaded: Loaded) -> Result<ReloadReport, BuildServiceError> {
        let Loaded { config: next, credentials, .. } = loaded;
        let before = self.running.load_full();
        let config = before.config.with_reloadable(&next);
        let changed = setting_changes(before.config.changes_to(&config));
        let needs_restart = setting_changes(config.changes_to(&next));
        if changed.is_empty() {
            return Ok(ReloadReport { changed, needs_restart });
        }
        let filter = observe::parse_filter(&config.log.level)?;
        let names = config.names()?;
        let upstreams = self.rebuild_upstreams(&before, &config, credentials)?;
        let registry = self.shared.build_registry(&config, &names, upstreams.clone())?;
        let access = Arc::new(before.access.reconfigured(&config.access, &self.shared.key_source)?);
        warn_of_taken_names(&names, self.shared.cache.disk());
        let service = self.shared.build_service(
            &config,
            registry.clone(),
            names,
            access.clone(),
            self.own.clone(),
            Some(Timestamp::now()),
        );
        // From here on nothing fails.
        self.shared.clients.set_limits(config.clients.clone());
        observe::set_filter(filter);
        self.running.store(Arc::new(RunningService {
            service: Arc::new(service),
            access,
            registry,
            upstreams,
            config,
        }));
        Ok(ReloadReport { changed, needs_restart })
    }

    /// The upstreams of a configuration. One whose section is unchanged is kept, with its quota, pauses and connections: it
    /// reads changed files of credentials by itself.
    fn rebuild_upstreams(
        &self,
        before: &RunningService,
        config: &Config,
        credentials: UpstreamCredentials,
    ) -> Result<BTreeMap<String, Arc<dyn Upstream>>, upstream::BuildError> {
        let is_unchanged = |name: &str, section: &upstream::Config| before.config.upstreams.get(name) == Some(section);
        let mut changed = config.clone();
        changed.upstreams.retain(|name, section| !is_unchanged(name, section));
        let mut upstreams = build_upstreams(&changed, credentials, &self.shared.process)?;
        for (name, upstream) in &before.upstreams {
            if config.upstreams.contains_key(name) {
                upstreams.entry(name.clone()).or_insert_with(|| upstream.clone());
            }
        }
        Ok(upstreams)
    }
}

impl Reload for Reloader {
    fn reload(&self) -> BoxFuture<'_, Result<ReloadReport, ReloadError>> {
        Box::pin(self.reload())
    }
}

impl SharedParts {
    fn build_registry(
        &self,
        config: &Config,
        names: &Names,
        upstreams: BTreeMap<String, Arc<dyn Upstream>>,
    ) -> Result<Arc<Registry>, PolicyError> {
        let registry = Registry::build(
            self.cache.clone(),
            upstreams,
            &config.packages,
            self.blocks.clone(),
            self.verify.clone(),
            names.folders().cloned().collect(),
            self.hosted.clone(),
        )?;
        Ok(Arc::new(registry))
    }

    fn build_service(
        &self,
        config: &Config,
        registry: Arc<Registry>,
        names: Names,
        access: Arc<Access>,
        reloader: Weak<Reloader>,
        reloaded_at: Option<Timestamp>,
    ) -> Service {
        let section = config.server.clone();
        let client_header = section.client_header.as_deref().and_then(|name| name.parse().ok());
        Service::build(ServiceParts {
            registry,
            names,
            client_addresses: ClientAddresses::new(section.trusted_proxies.clone(), client_header),
            hosts: Hosts::build(section.public_url, &section.known_hosts, section.trusted_proxies),
            clients: self.clients.clone(),
            access,
            audit: self.audit.clone(),
            pseudonym: upstream::pseudonym(&self.process.instance),
            readiness: self.readiness.clone(),
            certificates: self.certificates.clone(),
            reloader,
            metrics: self.metrics.clone(),
            metrics_exposure: self.metrics_exposure,
            started_at: self.started_at,
            reloaded_at,
            max_rendition_bytes: self.max_rendition_bytes,
            send_memory: self.send_memory.clone(),
        })
    }
}

/// Builds every configured upstream.
///
/// # Errors
/// The first section that cannot be used.
pub(super) fn build_upstreams(
    config: &Config,
    mut credentials: UpstreamCredentials,
    process: &upstream::ProcessContext,
) -> Result<BTreeMap<String, Arc<dyn Upstream>>, upstream::BuildError> {
    let mut upstreams = BTreeMap::new();
    for (name, section) in &config.upstreams {
        let credentials = credentials.remove(name).unwrap_or_default();
        let upstream = upstream::build(name, section, credentials, process)?;
        let upstream = if config.mode == UpstreamMode::Offline { upstream::offline(&upstream) } else { upstream };
        upstreams.insert(name.clone(), upstream);
    }
    Ok(upstreams)
}

/// Logs each name that has a recorded source and another one by an alias, which holds at once.
fn warn_of_taken_names(names: &Names, disk: &Disk) {
    for (alias, package) in names.aliases() {
        let Ok(name) = alias.parse() else { continue };
        for dialect in DialectName::ALL {
            if let Some(recorded) = disk.sources().get(&name, dialect).filter(|recorded| *recorded != package.upstream)
            {
                let dialect = dialect.as_str();
                tracing::warn!(alias, %package, dialect, %recorded, "an alias takes a name from its recorded source");
            }
        }
    }
}

fn setting_changes(settings: Vec<ChangedSetting>) -> Vec<SettingChange> {
    let change = |ChangedSetting { key, from, to }| SettingChange { key, from, to };
    settings.into_iter().map(change).collect()
}

fn log_report(report: &ReloadReport) {
    let short = |value: &Option<String>| {
        let value = value.as_deref().unwrap_or("not set");
        value.get(..value.floor_char_boundary(MAX_LOGGED_VALUE_BYTES)).unwrap_or_default().to_owned()
    };
    for SettingChange { key, from, to } in &report.changed {
        tracing::info!(key, from = short(from), to = short(to), "a setting has changed");
    }
    for SettingChange { key, from, to } in &report.needs_restart {
        tracing::warn!(key, from = short(from), to = short(to), "a changed setting takes effect at the next start");
    }
    tracing::info!(
        changed = report.changed.len(),
        needs_restart = report.needs_restart.len(),
        "configuration reloaded"
    );
}
