//! What several mirrors share: opens the bucket, and serves the other nodes of the fleet.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use reqwest::Certificate;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::RunningService;
use crate::{
    cache::{BucketTier, Cache, FleetTier, LonePins, Removals, SharedTiers},
    clock::Clock,
    config::Config,
    fleet::{NodeClient, Nodes},
    http::body::Body,
    peer::{Peer, Refusal},
    registry::{Blocks, StoredBlocks},
    server::{self, Bound, Handler, InheritedSockets},
    shared::{
        self, Arbiter, Arbitration, Bucket, Config as SharedConfig, GarbageProgress, GarbageReport, GarbageRules,
        StateWrite,
    },
    storage::disk::Disk,
    upstream::{ca_certificates, system_roots},
};

/// Longest wait for the probe. A bucket that cannot be reached at the start is probed when it is first needed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The kind of the state that holds the blocks.
const BLOCKS_STATE: &str = "blocks";
/// How often a state is read, merged and written.
pub(super) const STATE_ATTEMPTS: usize = 5;

/// The bucket and the other nodes, if there are any; the bucket after a probe of whether it arbitrates.
///
/// # Errors
/// When a section cannot be used, or the bucket does not arbitrate and the operator has not said that it need not.
pub(super) async fn open(config: &Config, dir: &Path, disk: &Disk, clock: &Clock) -> anyhow::Result<SharedTiers> {
    let Some(section) = &config.shared else { return Ok(SharedTiers::default()) };
    let bucket = Arc::new(open_bucket(section)?);
    match timeout(PROBE_TIMEOUT, bucket.probe()).await {
        Ok(Ok(Arbitration::Absent)) if section.arbiter == Arbiter::Bucket => anyhow::bail!(
            "the bucket creates an object twice, so it cannot decide which content a version has; use a service that \
             refuses If-None-Match: *, or write shared.arbiter = \"owner\" and read docs/fleet.md on what that means"
        ),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the shared bucket cannot be used at present; the mirror starts without it");
        }
        Err(_) => tracing::warn!("the shared bucket does not answer; the mirror starts without it"),
    }
    let nodes = open_nodes(config)?;
    let is_first = nodes.as_ref().is_none_or(|(nodes, _)| nodes.first_but_own().is_none());
    let lone_pins = if is_first { LonePins::Allowed } else { LonePins::Refused };
    let bucket = BucketTier::new(bucket, section, disk.uploads(), lone_pins, clock.clone());
    let fleet = nodes.map(|(nodes, client)| Arc::new(FleetTier::new(nodes, client)));
    let dir = dir.to_owned();
    let removals = tokio::task::spawn_blocking(move || Removals::open(&dir)).await?;
    Ok(SharedTiers { bucket: Some(Arc::new(bucket)), fleet, removals: Some(Arc::new(removals)) })
}

fn open_bucket(section: &SharedConfig) -> anyhow::Result<Bucket> {
    let mut roots = system_roots().to_vec();
    if let Some(path) = &section.ca_file {
        roots.extend(authorities("shared.ca_file", path)?);
    }
    Ok(Bucket::new(section, roots)?)
}

/// Collects the garbage of the bucket.
///
/// # Errors
/// When there is no bucket, or it cannot be used.
pub(crate) async fn collect_bucket_garbage(
    config: &Config,
    rules: &GarbageRules,
    progress: &dyn Fn(GarbageProgress),
) -> anyhow::Result<GarbageReport> {
    let section = config.shared.as_ref().context("there is no section [shared]")?;
    Ok(shared::collect_garbage(&open_bucket(section)?, rules, progress).await?)
}

/// What other nodes of the fleet are asked with.
///
/// # Errors
/// When there is no section `[fleet]`, or a file of it cannot be used.
pub(crate) fn node_connections(config: &Config) -> anyhow::Result<reqwest::Client> {
    let section = config.fleet.as_ref().context("there is no section [fleet]")?;
    let path = section.ca_file.as_deref().context("fleet.ca_file is missing")?;
    Ok(NodeClient::new(section, authorities("fleet.ca_file", path)?)?.into_connections())
}

fn open_nodes(config: &Config) -> anyhow::Result<Option<(Nodes, NodeClient)>> {
    let Some(section) = &config.fleet else { return Ok(None) };
    let nodes = Nodes::new(&section.nodes, &section.node).context("fleet.node is none of fleet.nodes")?;
    let path = section.ca_file.as_deref().context("fleet.ca_file is missing")?;
    Ok(Some((nodes, NodeClient::new(section, authorities("fleet.ca_file", path)?)?)))
}

fn authorities(key: &str, path: &Path) -> anyhow::Result<Vec<Certificate>> {
    ca_certificates(path).with_context(|| format!("{key}: {}", path.display()))
}

/// Says to the other nodes when this one has written a change to the bucket, until `background` is cancelled. Without other
/// nodes, does nothing.
pub(super) fn spawn_change_telling(cache: &Cache, tasks: &TaskTracker, background: &CancellationToken) {
    let Some((bucket, fleet)) = cache.bucket().cloned().zip(cache.fleet().cloned()) else { return };
    let tell = async move {
        loop {
            bucket.bucket().notices.written().await;
            fleet.tell_changed().await;
        }
    };
    tasks.spawn(background.clone().run_until_cancelled_owned(tell));
}

/// Keeps the operator's blocks the same on all mirrors of the bucket, until `background` is cancelled. Without a bucket, does
/// nothing.
pub(super) fn spawn_block_sharing(
    blocks: &Arc<Blocks>,
    cache: &Cache,
    tasks: &TaskTracker,
    background: &CancellationToken,
) {
    let Some(bucket) = cache.bucket().cloned() else { return };
    tasks.spawn(background.clone().run_until_cancelled_owned(share_blocks(blocks.clone(), bucket)));
}

/// Takes over the blocks of others before they are `shared.max_age` old, and passes this mirror's on at once. Never returns.
async fn share_blocks(blocks: Arc<Blocks>, bucket: Arc<BucketTier>) {
    let mut listener = bucket.bucket().notices.listen(100);
    loop {
        if let Err(error) = share_blocks_once(&blocks, bucket.bucket()).await {
            tracing::debug!(%error, "the blocks of other mirrors are not known at present");
        }
        listener.due(blocks.changed()).await;
    }
}

async fn share_blocks_once(blocks: &Arc<Blocks>, bucket: &Bucket) -> anyhow::Result<()> {
    for _ in 0..STATE_ATTEMPTS {
        let read = bucket.read_state::<StoredBlocks>(BLOCKS_STATE).await?;
        let others = read.value.clone().unwrap_or_default();
        let here = blocks.clone();
        let merging = tokio::task::spawn_blocking(move || here.merge(&others).map(|merged| (merged, others)));
        let (merged, others) = merging.await??;
        if merged == others || bucket.write_state(BLOCKS_STATE, &merged, read).await? == StateWrite::Written {
            return Ok(());
        }
    }
    anyhow::bail!("other mirrors change the blocks at the same time")
}

/// Binds the listener for other nodes, if there is one.
///
/// # Errors
/// When an address cannot be bound, or a certificate cannot be used.
pub(super) fn bind_nodes(config: &Config) -> anyhow::Result<Option<Bound>> {
    let listener = config.fleet_listener();
    listener.map(|listener| Ok(server::bind(&listener, &InheritedSockets::default())?)).transpose()
}

/// Answers other nodes with the service that is present when a request arrives.
#[derive(Clone)]
pub(super) struct NodeHandler(pub(super) Arc<ArcSwap<RunningService>>);

impl Handler for NodeHandler {
    type Body = Body;

    fn handle(&self, request: Request<Incoming>, _: Peer) -> impl Future<Output = Response<Body>> + Send + use<> {
        self.0.load().service.handle_node(request)
    }

    fn is_health_check(&self, _: &Request<Incoming>) -> bool {
        false
    }

    fn refuse(&self, _: Request<Incoming>, _: Peer, _: Refusal) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }
}
