//! One [`super::Upstream`] call: its client, its identity, and its log event.

use std::{
    sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed},
    time::SystemTime,
};

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::time::Instant;

use super::credentials::identity::Identity;
use crate::{
    origin::FetchError,
    package::PackageName,
    peer::{ClientId, RequestTrace},
};

/// One call: the client that it is made for, the identity of its requests, and what its log event reports if it fails.
pub(super) struct CallLog<'a> {
    /// `None` for a call that is about no single package.
    pub(super) package: Option<&'a PackageName>,
    /// The client whose share of the places it uses.
    pub(super) client: ClientId,
    /// The document's name, `archive` or `catalog`.
    ask: &'static str,
    started: Instant,
    requests: AtomicU32,
    /// The status of the last response; 0 without one.
    status: AtomicU16,
    /// The identity of the present attempt.
    identity: RwLock<Identity>,
    /// The client's request for which it is made.
    trace: RequestTrace,
}

impl<'a> CallLog<'a> {
    pub(super) fn new(
        package: Option<&'a PackageName>,
        ask: &'static str,
        client: ClientId,
        identity: Identity,
    ) -> Self {
        let started = Instant::now();
        let requests = AtomicU32::new(0);
        let status = AtomicU16::new(0);
        let identity = RwLock::new(identity);
        Self { package, client, ask, started, requests, status, identity, trace: RequestTrace::current() }
    }

    /// The identity of the present attempt.
    pub(super) fn identity(&self) -> Identity {
        self.identity.read().clone()
    }

    /// Sets the identity of the next attempt.
    pub(super) fn use_identity(&self, identity: Identity) {
        *self.identity.write() = identity;
    }

    /// Counts a request that is about to be sent.
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.status.store(0, Relaxed);
    }

    /// Records the status of the response.
    pub(super) fn note_status(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    /// Logs why the call failed; without any text of the upstream.
    pub(super) fn log_failure(&self, upstream: &str, error: &FetchError) {
        let quota = self.identity().limiter().quota();
        let package = self.package.map(tracing::field::display);
        let ask = self.ask;
        let request_id = self.trace.id().and_then(|id| id.to_str().ok());
        let status = Some(self.status.load(Relaxed)).filter(|status| *status != 0);
        let requests = self.requests.load(Relaxed);
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match error {
            FetchError::NotFound(_) => {
                tracing::debug!(
                    upstream, package, ask, request_id, status, requests, duration_ms, %error, "not found upstream"
                );
            }
            // Every call during a pause fails so, and the one that led to it has been logged; so has the shortage of places.
            FetchError::Throttled { .. } | FetchError::CoolingDown { .. } | FetchError::Busy { .. }
                if requests == 0 =>
            {
                tracing::debug!(upstream, package, ask, request_id, %error, "no request sent");
            }
            FetchError::Throttled { retry_after } => {
                let until = Timestamp::try_from(SystemTime::now() + *retry_after).map(|end| end.to_string()).ok();
                tracing::warn!(
                    upstream,
                    package,
                    ask,
                    request_id,
                    status,
                    requests,
                    duration_ms,
                    retry_after_s = retry_after.as_secs(),
                    until,
                    remaining = quota.remaining,
                    quota_reset = quota.reset.map(|reset| reset.to_string()),
                    "upstream rate limit reached"
                );
            }
            _ => {
                tracing::warn!(
                    upstream, package, ask, request_id, status, requests, duration_ms, %error,
                    "upstream request failed"
                );
            }
        }
    }
}
