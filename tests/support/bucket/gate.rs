//! Gates of a scripted bucket: they hold requests, so that a test can do something in between.

use std::sync::Arc;

use http::Method;
use tokio::sync::watch;

use super::BucketRequest;

/// Holds the requests that it fits until it is opened. Dropping it opens nothing.
#[derive(Clone)]
pub struct BucketGate(Arc<GateParts>);

struct GateParts {
    method: Method,
    /// What the names of the objects begin with.
    beginning: String,
    arrivals: watch::Sender<usize>,
    is_open: watch::Sender<bool>,
}

impl BucketGate {
    pub(super) fn new(method: Method, beginning: String) -> Self {
        let arrivals = watch::Sender::new(0);
        Self(Arc::new(GateParts { method, beginning, arrivals, is_open: watch::Sender::new(false) }))
    }

    pub(super) fn fits(&self, seen: &BucketRequest) -> bool {
        let parts = &self.0;
        !*parts.is_open.borrow() && seen.method == parts.method && seen.name.starts_with(&parts.beginning)
    }

    pub(super) async fn pass(&self) {
        self.0.arrivals.send_modify(|arrivals| *arrivals += 1);
        self.0.is_open.subscribe().wait_for(|is_open| *is_open).await.expect("the gate is held here");
    }

    /// Waits until a request is held.
    pub async fn reached(&self) {
        self.0.arrivals.subscribe().wait_for(|arrivals| *arrivals > 0).await.expect("the gate is held here");
    }

    /// Lets all requests pass, later ones too.
    pub fn open(&self) {
        self.0.is_open.send_replace(true);
    }
}
