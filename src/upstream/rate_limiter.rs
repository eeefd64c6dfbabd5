//! What an upstream allows us: how long it wants to be left alone, and what it last said of our quota.
//!
//! One [`RateLimiter`] stands for one quota: an API under one token, or an archive host.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{RateLimitStatus, throttle};
use crate::origin::FetchError;

/// First wait when an upstream limits us without saying for how long; doubled each time it does so again.
const UNSTATED: Duration = Duration::from_secs(60);
/// Longest wait: GitHub's quotas are filled up every hour, and no upstream can silence the mirror for longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// The state of one quota. Shared by every request that spends it.
#[derive(Debug, Default)]
pub(super) struct RateLimiter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Nothing is asked before this.
    until: Option<Instant>,
    /// How many limits in a row came without a stated wait.
    unstated: u32,
    quota: Quota,
}

/// What the upstream last said of our quota (`x-ratelimit-*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quota {
    /// Requests left until `reset`.
    pub(super) remaining: Option<i64>,
    /// When it is filled up again.
    pub(super) reset: Option<Timestamp>,
}

impl RateLimiter {
    /// Says whether anything may be asked now.
    ///
    /// # Errors
    /// [`FetchError::Throttled`] until the end of the last throttle.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        let left = self.state().until.and_then(|until| until.checked_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(FetchError::Throttled { retry_after: whole_seconds(left) }),
            None => Ok(()),
        }
    }

    /// Remembers what an answer says of the quota.
    pub(super) fn note(&self, headers: &HeaderMap) {
        let remaining = throttle::number(headers, "x-ratelimit-remaining");
        if remaining.is_some() {
            self.state().quota = Quota { remaining, reset: throttle::reset(headers) };
        }
    }

    /// An answer that was no throttle: the next unstated one starts at the shortest wait again.
    pub(super) fn allowed(&self) {
        let mut state = self.state();
        // Answers that were already on their way when the throttle came say nothing about it.
        if state.until.is_none_or(|until| until <= Instant::now()) {
            state.unstated = 0;
        }
    }

    /// Stops everything for `wait`, or for a growing time where the upstream does not say how long.
    pub(super) fn throttled(&self, wait: Option<Duration>) -> FetchError {
        let mut state = self.state();
        let now = Instant::now();
        let running = state.until.filter(|until| *until > now);
        let wait = wait.unwrap_or_else(|| {
            // Requests that ran side by side are refused together: that is one refusal, not a row of them.
            if running.is_none() || state.unstated == 0 {
                state.unstated = state.unstated.saturating_add(1);
            }
            UNSTATED.saturating_mul(1 << state.unstated.saturating_sub(1).min(6))
        });
        let until = now + whole_seconds(wait.min(LONGEST));
        let until = running.map_or(until, |running| running.max(until));
        state.until = Some(until);
        FetchError::Throttled { retry_after: whole_seconds(until - now) }
    }

    /// What the upstream last said of our quota.
    pub(super) fn quota(&self) -> Quota {
        self.state().quota
    }

    /// What is left of the quota, and how long nothing may be asked.
    pub(super) fn allowance(&self) -> RateLimitStatus {
        let state = self.state();
        let wait = state.until.and_then(|until| until.checked_duration_since(Instant::now()));
        RateLimitStatus {
            remaining: state.quota.remaining.map(|left| u64::try_from(left).unwrap_or(0)),
            reset: state.quota.reset,
            wait: wait.filter(|wait| !wait.is_zero()).map(whole_seconds),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounded up, at least one second: `Retry-After` has no fractions, and 0 would invite a storm.
fn whole_seconds(wait: Duration) -> Duration {
    let up = u64::from(wait.subsec_nanos() != 0);
    Duration::from_secs(wait.as_secs().saturating_add(up).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(error: FetchError) -> u64 {
        match error {
            FetchError::Throttled { retry_after } => retry_after.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_until_a_throttle_is_over() {
        let budget = RateLimiter::default();
        assert_eq!(budget.check(), Ok(()));
        assert_eq!(wait(budget.throttled(Some(Duration::from_secs(8)))), 8);
        tokio::time::advance(Duration::from_millis(7500)).await;
        assert_eq!(wait(budget.check().expect_err("still throttled")), 1);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(budget.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unstated_wait_grows_until_an_answer_comes() {
        let budget = RateLimiter::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(wait(budget.throttled(None)));
            assert_eq!(wait(budget.throttled(None)), *waits.last().expect("one"), "refused side by side");
            tokio::time::advance(LONGEST).await;
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        budget.allowed();
        assert_eq!(wait(budget.throttled(None)), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_at_least_a_second_at_most_an_hour_and_never_shortened() {
        let budget = RateLimiter::default();
        assert_eq!(wait(budget.throttled(Some(Duration::ZERO))), 1);
        assert_eq!(wait(budget.throttled(Some(Duration::MAX))), 3600);
        assert_eq!(wait(budget.throttled(Some(Duration::from_secs(1)))), 3600);
    }
}
