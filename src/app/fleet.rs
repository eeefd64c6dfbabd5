//! The other nodes of the fleet: finds them, keeps the connections to them, and serves them.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use reqwest::Certificate;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{RunningService, spawn_background};
use crate::{
    blocking::spawn_blocking,
    cache::{Cache, FleetTier},
    config::Config,
    fleet::{CertificateReload, FleetNode, NodeClient, NodeClientError, NodeConnections, NodeDiscovery, Nodes},
    http::body::Body,
    peer::{Peer, Refusal},
    server::{self, Bound, Handler, InheritedSockets},
    upstream::ca_certificates,
};

/// The other nodes, if there is a fleet.
///
/// # Errors
/// When a file of the section cannot be used.
pub(super) async fn open(config: &Config) -> anyhow::Result<Option<Arc<FleetTier>>> {
    let Some(section) = &config.fleet else { return Ok(None) };
    let nodes = match NodeDiscovery::of(section) {
        None => Nodes::new(&section.nodes, &section.node),
        Some(discovery) => {
            let found = discovery.find().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the other nodes are not known at present: fleet.discover cannot be resolved");
                discovery.own_node()
            });
            Nodes::found(&found, &discovery.own_name())
        }
    };
    let nodes = nodes.context("fleet.node is none of fleet.nodes")?;
    let client = NodeClient::new(section, NodeConnections::new(section, read_node_authorities)?);
    Ok(Some(Arc::new(FleetTier::new(nodes, client))))
}

/// The HTTP client for requests to another node of the fleet.
///
/// # Errors
/// When there is no section `[fleet]`, or a file of it cannot be used.
pub(crate) fn node_client(config: &Config, node: &FleetNode) -> anyhow::Result<reqwest::Client> {
    let section = config.fleet.as_ref().context("there is no section [fleet]")?;
    Ok(NodeConnections::new(section, read_node_authorities)?.client_for(node)?)
}

/// All nodes of the fleet. Blocks.
///
/// # Errors
/// When there is no section `[fleet]`, or its name cannot be resolved.
pub(crate) fn fleet_nodes(config: &Config) -> anyhow::Result<Vec<FleetNode>> {
    let section = config.fleet.as_ref().context("there is no section [fleet]")?;
    match NodeDiscovery::of(section) {
        None => Ok(section.nodes.clone()),
        Some(discovery) => super::runtime()?.block_on(discovery.find()).context("fleet.discover cannot be resolved"),
    }
}

/// Keeps the fleet up to date until `background` is cancelled: notifies the other nodes when this one has written a change to
/// the bucket, resolves their name, and reads the certificate again. Without other nodes, does nothing.
pub(super) fn spawn_fleet(config: &Config, cache: &Cache, tasks: &TaskTracker, background: &CancellationToken) {
    let Some(section) = &config.fleet else { return };
    let Some((bucket, fleet)) = cache.bucket().cloned().zip(cache.fleet().cloned()) else { return };
    let notified = fleet.clone();
    let notify = async move {
        loop {
            bucket.bucket().notices.written().await;
            notified.notify_changed().await;
        }
    };
    spawn_background(tasks, background, notify);
    spawn_background(tasks, background, follow_files(section.refresh.0, fleet.clone()));
    if let Some(discovery) = NodeDiscovery::of(section) {
        spawn_background(tasks, background, follow_name(discovery, section.refresh.0, fleet));
    }
}

/// Resolves the name of the nodes at an interval. While it cannot be resolved, the nodes that were found last stay. Never
/// returns.
async fn follow_name(discovery: NodeDiscovery, period: Duration, fleet: Arc<FleetTier>) {
    let mut is_failing = false;
    loop {
        sleep(period).await;
        match discovery.find().await {
            Ok(found) => {
                is_failing = false;
                if found == fleet.nodes().all() {
                    continue;
                }
                tracing::info!(nodes = found.len(), "the nodes of the fleet have changed");
                if let Some(nodes) = Nodes::found(&found, &discovery.own_name()) {
                    fleet.set_nodes(nodes);
                }
            }
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::warn!(%error, "fleet.discover cannot be resolved at present; the nodes found last stay");
            }
            Err(_) => {}
        }
    }
}

/// Reads the files of the section at an interval. Files that cannot be used change nothing, and are logged once. Never returns.
async fn follow_files(period: Duration, fleet: Arc<FleetTier>) {
    let mut last_failure = None;
    loop {
        sleep(period).await;
        let connections = fleet.connections().clone();
        match spawn_blocking(move || connections.reload()).await {
            Ok(Ok(read)) => {
                last_failure = None;
                if read == CertificateReload::Changed {
                    tracing::info!("this node's certificate towards other nodes is read again");
                }
            }
            Ok(Err(error)) => {
                let failure = error.to_string();
                if last_failure.as_ref() != Some(&failure) {
                    tracing::error!(%error, "this node's certificate cannot be read again; the previous one stays in use");
                }
                last_failure = Some(failure);
            }
            // A panic, which has been reported, or the end of the runtime.
            Err(_) => {}
        }
    }
}

/// Reads the certificates of `fleet.ca_file`.
fn read_node_authorities(path: &Path) -> Result<Vec<Certificate>, NodeClientError> {
    let wrong = |error| NodeClientError { key: "ca_file", reason: format!("{}: {error}", path.display()) };
    ca_certificates(path).map_err(wrong)
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
