//! The rate limit of an upstream: the quota it reports, and the pause after a limit was hit.
//!
//! One [`RateLimiter`] per quota: an API with one token, or the archive hosts.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::{RateLimitStatus, error_class};
use crate::origin::FetchError;

/// The first pause when an upstream states none; doubled each time in a row.
const MIN_UNSTATED_PAUSE: Duration = Duration::from_secs(60);
/// The first pause that an upstream states is kept from this on; doubled each time in a row. Otherwise one that always
/// states a second would be asked every second.
const MIN_STATED_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, whatever the upstream states: GitHub restores its quotas every hour.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The state of one quota. Shared by all requests that use it.
#[derive(Debug, Default)]
pub(in crate::upstream) struct RateLimiter(Mutex<LimiterState>);

#[derive(Debug, Default)]
struct LimiterState {
    /// No request is sent before this.
    until: Option<Instant>,
    /// How many limits came in a row.
    in_a_row: u32,
    quota: RateQuota,
}

/// The quota as last reported (`x-ratelimit-*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::upstream) struct RateQuota {
    /// Requests left until `reset`.
    pub(in crate::upstream) remaining: Option<i64>,
    /// When it is restored.
    pub(in crate::upstream) reset: Option<Timestamp>,
}

impl RateLimiter {
    /// Checks that a request may be sent now.
    ///
    /// # Errors
    /// [`FetchError::CoolingDown`] after [`FetchError::Throttled`], until the pause is over.
    pub(in crate::upstream) fn check(&self) -> Result<(), FetchError> {
        let left = self.0.lock().until.and_then(|until| until.checked_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => {
                let retry_after = whole_seconds(left);
                let cause = Box::new(FetchError::Throttled { retry_after });
                Err(FetchError::CoolingDown { cause, retry_after })
            }
            None => Ok(()),
        }
    }

    /// Records the quota that a response reports.
    pub(in crate::upstream) fn note_quota(&self, headers: &HeaderMap) {
        let remaining = error_class::number(headers, "x-ratelimit-remaining");
        if remaining.is_some() {
            self.0.lock().quota = RateQuota { remaining, reset: error_class::reset(headers) };
        }
    }

    /// Records a response that was not limited: the next pause may be the shortest again.
    pub(in crate::upstream) fn note_allowed(&self) {
        let mut state = self.0.lock();
        // A response during the pause belongs to a request sent before it, and says nothing about the limit.
        if state.until.is_none_or(|until| until <= Instant::now()) {
            state.in_a_row = 0;
        }
    }

    /// Starts or extends the pause: for `wait`, or for a growing time when the upstream states none, or a time that is over.
    /// Returns the error of the request that hit the limit.
    pub(in crate::upstream) fn throttle(&self, wait: Option<Duration>) -> FetchError {
        let mut state = self.0.lock();
        let now = Instant::now();
        let running = state.until.filter(|until| *until > now);
        // Concurrent requests are limited together: that counts as one limit, not as several in a row.
        if running.is_none() || state.in_a_row == 0 {
            state.in_a_row = state.in_a_row.saturating_add(1);
        }
        let growth = 1 << state.in_a_row.saturating_sub(1).min(6);
        let wait = match wait.filter(|wait| !wait.is_zero()) {
            Some(stated) => stated.max(MIN_STATED_PAUSE.saturating_mul(growth)),
            None => MIN_UNSTATED_PAUSE.saturating_mul(growth),
        };
        let until = now + whole_seconds(wait.min(MAX_PAUSE));
        let until = running.map_or(until, |running| running.max(until));
        state.until = Some(until);
        FetchError::Throttled { retry_after: whole_seconds(until - now) }
    }

    /// The quota as last reported.
    pub(in crate::upstream) fn quota(&self) -> RateQuota {
        self.0.lock().quota
    }

    /// The quota and the rest of the pause.
    pub(in crate::upstream) fn status(&self) -> RateLimitStatus {
        let state = self.0.lock();
        let wait = state.until.and_then(|until| until.checked_duration_since(Instant::now()));
        RateLimitStatus {
            remaining: state.quota.remaining.map(|left| u64::try_from(left).unwrap_or(0)),
            reset: state.quota.reset,
            wait: wait.filter(|wait| !wait.is_zero()).map(whole_seconds),
        }
    }
}

/// Rounds up to whole seconds, at least one: `Retry-After` has no fractions, and 0 would cause immediate retries.
fn whole_seconds(wait: Duration) -> Duration {
    let up = u64::from(wait.subsec_nanos() != 0);
    Duration::from_secs(wait.as_secs().saturating_add(up).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(error: FetchError) -> u64 {
        match error {
            FetchError::Throttled { retry_after } | FetchError::CoolingDown { retry_after, .. } => {
                retry_after.as_secs()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_is_sent_until_the_pause_is_over() {
        let limiter = RateLimiter::default();
        assert_eq!(limiter.check(), Ok(()));
        assert_eq!(wait(limiter.throttle(Some(Duration::from_secs(8)))), 8);
        tokio::time::advance(Duration::from_millis(7500)).await;
        assert_eq!(wait(limiter.check().expect_err("still paused")), 1);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(limiter.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unstated_pause_grows_until_a_response_is_not_limited() {
        let limiter = RateLimiter::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(wait(limiter.throttle(None)));
            assert_eq!(wait(limiter.throttle(None)), *waits.last().expect("one"), "limited concurrently");
            tokio::time::advance(MAX_PAUSE).await;
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        limiter.note_allowed();
        assert_eq!(wait(limiter.throttle(None)), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_lasts_one_second_to_one_hour_and_is_never_shortened() {
        let limiter = RateLimiter::default();
        assert_eq!(wait(limiter.throttle(Some(Duration::from_millis(1)))), 1);
        assert_eq!(wait(limiter.throttle(Some(Duration::MAX))), 3600);
        assert_eq!(wait(limiter.throttle(Some(Duration::from_secs(1)))), 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_over_as_soon_as_it_is_stated_pauses_as_an_unstated_one() {
        let limiter = RateLimiter::default();
        assert_eq!(wait(limiter.throttle(Some(Duration::ZERO))), 60);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(wait(limiter.throttle(Some(Duration::ZERO))), 120);
    }

    #[tokio::test(start_paused = true)]
    async fn short_stated_pauses_in_a_row_grow() {
        let limiter = RateLimiter::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(wait(limiter.throttle(Some(Duration::from_secs(1)))));
            tokio::time::advance(Duration::from_secs(64)).await;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64]);
        limiter.note_allowed();
        assert_eq!(wait(limiter.throttle(Some(Duration::from_secs(1)))), 1);
    }
}
