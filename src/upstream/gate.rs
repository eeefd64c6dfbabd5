//! The gate of one upstream: whether a request may be sent now, and if not, until when.
//!
//! It is the only place where a request waits for an upstream. It holds the places for concurrent requests, the circuit
//! breaker of each host and the budget of retries. Every wait has a deadline, and nothing of one upstream waits for
//! another. Quotas and pauses belong to a credential or a host: see [`rate_limiter`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use url::Url;

use super::Config;
use crate::{observe::UpstreamMetrics, origin::FetchError, peer::ClientId};

mod breaker;
mod last_calls;
mod places;
mod rate_limiter;
mod retry_budget;
mod shortage;

pub(super) use breaker::Attempt;
pub use last_calls::{CallTimes, FailedCall};
pub(super) use places::Place;
pub(super) use rate_limiter::{RateLimiter, RateQuota};

use breaker::Breaker;
use last_calls::LastCalls;
use places::{LastPlace, Places};
use retry_budget::RetryBudget;
use shortage::Shortage;

/// Most hosts with a breaker of their own, besides the API's: hosts that archives are redirected to.
const MAX_HOSTS: usize = 64;

/// What a place is for. Downloads hold theirs for minutes, so they have places of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// A document, or the head of an archive.
    Document,
    /// The body of an archive.
    Download,
}

impl PlaceKind {
    /// The name in logs and in `/readyz`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Document => "documents",
            Self::Download => "downloads",
        }
    }
}

/// The state of a gate, for `/readyz` and administration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateStatus {
    /// The kinds of places that requests of the last minute were refused, because none was free.
    pub short_of: Vec<PlaceKind>,
    /// Why the API is not asked at present, and for how long.
    pub open: Option<(FetchError, Duration)>,
    /// The queues in which requests wait for a place now; no empty one.
    pub queues: Vec<PlaceQueue>,
    /// When calls last succeeded and failed.
    pub calls: CallTimes,
}

/// The requests that wait for a place of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceQueue {
    /// What the places are for.
    pub kind: PlaceKind,
    /// The number of requests; never zero.
    pub waiting: usize,
}

/// The gate of one upstream. Shared by all its requests.
pub(super) struct Gate {
    upstream: String,
    documents: Arc<Places>,
    downloads: Arc<Places>,
    queue_timeout: Duration,
    api: Arc<Breaker>,
    hosts: Mutex<HashMap<String, Arc<Breaker>>>,
    retries: RetryBudget,
    metrics: Arc<UpstreamMetrics>,
    calls: LastCalls,
    document_shortage: Shortage,
    download_shortage: Shortage,
}

impl Gate {
    /// The gate of the upstream `name`. `config` has been checked: no number is zero.
    pub(super) fn new(name: &str, config: &Config) -> Self {
        Self {
            upstream: name.to_owned(),
            documents: Places::new(config.concurrency, LastPlace::ForAnyone),
            downloads: Places::new(config.downloads, LastPlace::ForOthers),
            queue_timeout: config.queue_timeout.0,
            api: Arc::default(),
            hosts: Mutex::default(),
            retries: RetryBudget::default(),
            metrics: Arc::default(),
            calls: LastCalls::default(),
            document_shortage: Shortage::default(),
            download_shortage: Shortage::default(),
        }
    }

    /// Waits for a place. Places are given to the client that holds the fewest, then in the order of arrival; the last one of
    /// several for downloads is kept from a client with half of them.
    ///
    /// # Errors
    /// [`FetchError::CoolingDown`] at once while the API's breaker is open; [`FetchError::Busy`] at the queue's deadline,
    /// and at once when the queue is full.
    pub(super) async fn take_place(&self, kind: PlaceKind, client: ClientId) -> Result<Place, FetchError> {
        self.api.check()?;
        let (places, shortage) = match kind {
            PlaceKind::Document => (&self.documents, &self.document_shortage),
            PlaceKind::Download => (&self.downloads, &self.download_shortage),
        };
        match tokio::time::timeout(self.queue_timeout, places.take(client)).await {
            Ok(Some(place)) => Ok(place),
            Ok(None) | Err(_) => {
                if shortage.note() {
                    tracing::warn!(
                        upstream = self.upstream,
                        places = kind.name(),
                        timeout_ms = u64::try_from(self.queue_timeout.as_millis()).unwrap_or(u64::MAX),
                        "the upstream is short of places"
                    );
                }
                Err(FetchError::Busy { retry_after: self.queue_timeout })
            }
        }
    }

    /// Permission to send one request to the host of `url`. The API's host is the one that `is_api` marks.
    ///
    /// # Errors
    /// [`FetchError::CoolingDown`] while the host's breaker is open.
    pub(super) fn attempt(&self, url: &Url, is_api: IsApi) -> Result<Attempt, FetchError> {
        self.retries.note_request();
        match is_api {
            IsApi::Yes => Breaker::attempt(&self.api, &self.metrics),
            IsApi::No => Breaker::attempt(&self.breaker(url), &self.metrics),
        }
    }

    /// Takes one retry from the budget: a tenth of the requests of the last minute, plus five. False when it is spent.
    pub(super) fn may_retry(&self) -> bool {
        self.retries.take()
    }

    /// Records the outcome of a call.
    pub(super) fn note_call(&self, error: Option<&FetchError>) {
        self.calls.note(error);
    }

    /// The figures of the requests that were let through.
    pub(super) fn metrics(&self) -> &Arc<UpstreamMetrics> {
        &self.metrics
    }

    /// The present state.
    pub(super) fn status(&self) -> GateStatus {
        let shortages =
            [(&self.document_shortage, PlaceKind::Document), (&self.download_shortage, PlaceKind::Download)];
        let short_of = shortages.into_iter().filter(|(shortage, _)| shortage.is_recent()).map(|(_, kind)| kind);
        let queues = [(&self.documents, PlaceKind::Document), (&self.downloads, PlaceKind::Download)];
        let queues = queues.map(|(places, kind)| PlaceQueue { kind, waiting: places.waiting() });
        GateStatus {
            short_of: short_of.collect(),
            open: self.api.open(),
            queues: queues.into_iter().filter(|queue| queue.waiting > 0).collect(),
            calls: self.calls.times(),
        }
    }

    /// The breaker of a host that archives are redirected to.
    fn breaker(&self, url: &Url) -> Arc<Breaker> {
        let port = url.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", url.host_str().unwrap_or_default());
        let mut hosts = self.hosts.lock();
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&host) {
            // A breaker without failures is as a new one, so it need not be kept.
            hosts.retain(|_, breaker| !breaker.is_idle());
            if hosts.len() >= MAX_HOSTS {
                hosts.clear();
            }
        }
        hosts.entry(host).or_default().clone()
    }
}

/// Whether a request goes to the API's own origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IsApi {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
