//! Other nodes as one more origin: the owner of a package fetches, and the other nodes read along.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{StreamExt as _, future::join_all};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    entry::{Document, Key},
    fleet::{FleetNode, NodeBody, NodeClient, NodeConnections, NodeError, Nodes},
    origin::{BoxFuture, DownloadPlace, FetchError, FetchedBody, Origin},
};

/// Most nodes that are asked for one archive: the owner, and the next one where that fails.
const MAX_ASKED_NODES: usize = 2;
/// The pause before a node that itself reads the archive from another one is asked again: it may lose that one, and fetch.
const READING_PAUSE: Duration = Duration::from_millis(100);
/// How often such a node is asked.
const READING_ATTEMPTS: u32 = 20;
/// The status that such a node answers with.
const READING_STATUS: u16 = StatusCode::LOOP_DETECTED.as_u16();

/// The other nodes of the fleet.
pub struct FleetTier {
    nodes: ArcSwap<Nodes>,
    client: NodeClient,
    /// The keys that this node is reading from another one. A node that asks for one of these is refused: it might be the
    /// one that is read from, and both would wait for each other.
    reading: Mutex<HashSet<Key>>,
    counters: FleetCounters,
}

#[derive(Default)]
struct FleetCounters {
    read: AtomicU64,
    failed: AtomicU64,
    served: AtomicU64,
}

/// What nodes have read from each other since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetFigures {
    /// The nodes that are known at present, this one included.
    pub nodes: usize,
    /// Archives that this node has read from another one, or begun to.
    pub read: u64,
    /// Attempts to read from another node that failed.
    pub failed: u64,
    /// Archives that this node has sent to another one, or begun to.
    pub served: u64,
}

/// Where an archive comes from when no other node sends it.
pub(super) enum FleetFallback {
    /// From the upstream.
    Upstream(Arc<dyn Origin<Fetched = FetchedBody>>),
    /// From nowhere: while the bucket cannot be asked, only another node may decide on the content.
    Undecided(FetchError),
}

impl FleetTier {
    /// The tier of these nodes, which `client` asks.
    pub fn new(nodes: Nodes, client: NodeClient) -> Self {
        Self {
            nodes: ArcSwap::from_pointee(nodes),
            client,
            reading: Mutex::default(),
            counters: FleetCounters::default(),
        }
    }

    /// The nodes as they are known now.
    pub fn nodes(&self) -> Arc<Nodes> {
        self.nodes.load_full()
    }

    /// Replaces the nodes. What is being read from a node that is no longer among them is read to its end.
    pub fn set_nodes(&self, nodes: Nodes) {
        self.client.connections().retain(nodes.all());
        self.nodes.store(Arc::new(nodes));
    }

    /// The connections to other nodes.
    pub fn connections(&self) -> &NodeConnections {
        self.client.connections()
    }

    /// The nodes that are asked for a key before the upstream is, the owner first; none where this node is the owner.
    pub(super) fn sources(&self, key: &Key) -> Vec<FleetNode> {
        self.nodes.load().before_own(key).into_iter().take(MAX_ASKED_NODES).cloned().collect()
    }

    /// The node that decides on new content while the bucket cannot be asked; `None` where it is this one, or none does.
    pub(super) fn deciding_node(&self) -> Option<FleetNode> {
        self.nodes.load().deciding_node().cloned()
    }

    /// True while this node reads a key from another one.
    pub(super) fn is_reading(&self, key: &Key) -> bool {
        self.reading.lock().contains(key)
    }

    /// Notifies the other nodes that this one has written a change to the bucket. A node that cannot be reached reads the
    /// change at its next interval.
    pub async fn notify_changed(&self) {
        let nodes = self.nodes.load_full();
        let notified = nodes.others().map(async |node| {
            if let Err(error) = self.client.notify_changed(node).await {
                tracing::debug!(node = node.name, %error, "another node is not notified of a change");
            }
        });
        join_all(notified).await;
    }

    /// Counts an archive that is sent to another node.
    pub(super) fn note_served(&self) {
        self.counters.served.fetch_add(1, Ordering::Relaxed);
    }

    /// What nodes have read from each other.
    pub fn figures(&self) -> FleetFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let FleetCounters { read: begun, failed, served } = &self.counters;
        FleetFigures {
            nodes: self.nodes.load().all().len(),
            read: read(begun),
            failed: read(failed),
            served: read(served),
        }
    }
}

/// An archive that other nodes are asked for, one after the other, and then its fallback.
pub(super) struct FleetOrigin {
    tier: Arc<FleetTier>,
    key: Key,
    nodes: Vec<FleetNode>,
    /// The next node to ask: none is asked twice.
    next: AtomicUsize,
    fallback: FleetFallback,
}

impl FleetOrigin {
    /// Marks the key as being read from another node for as long as the origin lives.
    pub(super) fn new(tier: Arc<FleetTier>, key: Key, nodes: Vec<FleetNode>, fallback: FleetFallback) -> Self {
        tier.reading.lock().insert(key.clone());
        Self { tier, key, nodes, next: AtomicUsize::new(0), fallback }
    }

    /// Opens the archive on a node.
    async fn fetch_from_node(&self, node: &FleetNode) -> Result<FetchedBody, NodeError> {
        let mut attempt = 1;
        let NodeBody { len, bytes } = loop {
            match self.tier.client.open(node, &self.key).await {
                Err(NodeError::Status(READING_STATUS)) if attempt < READING_ATTEMPTS => {
                    attempt += 1;
                    sleep(READING_PAUSE).await;
                }
                opened => break opened?,
            }
        };
        let body = bytes.map(|chunk| chunk.map_err(|_| FetchError::Unreachable("another node of the fleet"))).boxed();
        // Only the node that fetched it knows whether that needed a token: here it counts as private.
        Ok(FetchedBody { len, anonymous: false, body, place: DownloadPlace::default() })
    }
}

impl Drop for FleetOrigin {
    fn drop(&mut self) {
        self.tier.reading.lock().remove(&self.key);
    }
}

impl Origin for FleetOrigin {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, stored: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(async move {
            while let Some(node) = self.nodes.get(self.next.fetch_add(1, Ordering::Relaxed)) {
                match self.fetch_from_node(node).await {
                    Ok(body) => {
                        self.tier.counters.read.fetch_add(1, Ordering::Relaxed);
                        return Ok(body);
                    }
                    Err(error) => {
                        self.tier.counters.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::info!(key = %self.key, node = node.name, %error, "another node does not send a zip");
                    }
                }
            }
            // From here on, a node that asks for it can read along.
            self.tier.reading.lock().remove(&self.key);
            match &self.fallback {
                FleetFallback::Upstream(upstream) => upstream.fetch(stored).await,
                FleetFallback::Undecided(error) => Err(error.clone()),
            }
        })
    }

    fn may_come_back(&self) -> bool {
        match &self.fallback {
            FleetFallback::Upstream(upstream) => upstream.may_come_back(),
            FleetFallback::Undecided(_) => false,
        }
    }

    fn may_retry(&self) -> bool {
        match &self.fallback {
            FleetFallback::Upstream(upstream) => upstream.may_retry(),
            FleetFallback::Undecided(_) => true,
        }
    }
}
