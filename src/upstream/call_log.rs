//! One call of the trait, as far as its log event is concerned.

use std::{
    sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed},
    time::SystemTime,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::rate_limiter::Quota;
use crate::{origin::FetchError, package::PackageName};

/// The target of every event of this module.
pub(super) const LOG: &str = "srm_mirror::upstream";

/// What a failure's one log event needs. Lives as long as one call of [`super::Upstream`].
pub(super) struct CallLog<'a> {
    pub(super) package: &'a PackageName,
    what: &'static str,
    started: Instant,
    requests: AtomicU32,
    /// The last status, 0 for none.
    status: AtomicU16,
}

impl<'a> CallLog<'a> {
    pub(super) fn new(package: &'a PackageName, what: &'static str) -> Self {
        Self { package, what, started: Instant::now(), requests: AtomicU32::new(0), status: AtomicU16::new(0) }
    }

    /// Notes that a request leaves.
    pub(super) fn asking(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.status.store(0, Relaxed);
    }

    /// Notes the status of its answer.
    pub(super) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    /// Logs a failure, once and in our own words; passes the result on.
    pub(super) fn finish<T>(
        &self,
        upstream: &str,
        quota: Quota,
        result: Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let Err(error) = &result else { return result };
        let package = self.package;
        let ask = self.what;
        let status = Some(self.status.load(Relaxed)).filter(|status| *status != 0);
        let requests = self.requests.load(Relaxed);
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match error {
            FetchError::NotFound(_) => {
                tracing::debug!(target: LOG, upstream, %package, ask, status, requests, duration_ms, %error, "upstream has it not");
            }
            // Everybody who asks during a throttle gets this; the request that met it has been logged.
            FetchError::Throttled { .. } if requests == 0 => {
                tracing::debug!(target: LOG, upstream, %package, ask, %error, "not asked: upstream limits our requests");
            }
            FetchError::Throttled { retry_after } => {
                let until = Timestamp::try_from(SystemTime::now() + *retry_after).map(|end| end.to_string()).ok();
                tracing::warn!(
                    target: LOG, upstream, %package, ask, status, requests, duration_ms,
                    retry_after_s = retry_after.as_secs(), until, remaining = quota.remaining,
                    quota_reset = quota.reset.map(|reset| reset.to_string()),
                    "upstream limits our requests"
                );
            }
            _ => {
                tracing::warn!(target: LOG, upstream, %package, ask, status, requests, duration_ms, %error, "upstream failed")
            }
        }
        result
    }
}
