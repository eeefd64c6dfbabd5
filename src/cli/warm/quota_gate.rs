//! When to ask an upstream and when to wait, by the quota that it reports.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::admin_api::UpstreamQuota;

/// Requests of a quota that are left to the mirror's clients.
pub(super) const RESERVED_REQUESTS: u64 = 5;
/// Longest wait that is counted: what an answer says may lie beyond every clock.
const MAX_QUOTA_WAIT: Duration = Duration::from_secs(365 * 86_400);
/// Time until the next look at a quota whose size is unknown.
const UNKNOWN_QUOTA_INTERVAL: Duration = Duration::from_millis(200);

/// The quotas of all upstreams. Warming runs on one task, so nothing here is locked.
#[derive(Debug, Default)]
pub(super) struct QuotaGate {
    upstreams: RefCell<HashMap<String, QuotaState>>,
}

#[derive(Debug, Default)]
struct QuotaState {
    /// Requests left, by the last answer.
    remaining: Option<u64>,
    /// Requests without an answer yet.
    in_flight: u64,
    /// True after a reset, until an answer reports the new quota.
    unknown_after_reset: bool,
    /// The next reset.
    reset: Option<Instant>,
    /// The end of the last wait that was announced.
    announced: Option<Instant>,
}

/// A wait before the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuotaWait {
    /// Its end.
    pub(super) until: Instant,
    /// Requests left until then; `None` when the upstream has refused one already.
    pub(super) remaining: Option<u64>,
    /// True for the first of several equal waits: only this one is announced.
    pub(super) first: bool,
}

impl QuotaGate {
    /// Records the quota that an answer reported.
    pub(super) fn record(&self, quota: &UpstreamQuota) {
        let now = Instant::now();
        let mut upstreams = self.upstreams.borrow_mut();
        let state = upstreams.entry(quota.upstream.clone()).or_default();
        let wait = |seconds: u64| Duration::from_secs(seconds.saturating_add(1)).min(MAX_QUOTA_WAIT);
        state.reset = quota.reset_in.map(|seconds| now + wait(seconds));
        state.remaining = quota.remaining;
        state.unknown_after_reset = false;
    }

    /// The wait before the next request to the upstream. Without one the request counts as in flight until
    /// [`QuotaGate::leave`], so that concurrent requests do not overspend the quota. A reset that is further away than
    /// `max_wait` is not waited for.
    pub(super) fn enter(&self, upstream: &str, max_wait: Duration) -> Option<QuotaWait> {
        let now = Instant::now();
        let mut upstreams = self.upstreams.borrow_mut();
        let state = upstreams.entry(upstream.to_owned()).or_default();
        if state.reset.is_some_and(|reset| reset <= now) {
            state.remaining = None;
            state.reset = None;
            state.unknown_after_reset = true;
        }
        if let (Some(remaining), Some(reset)) = (state.remaining, state.reset) {
            let left = remaining.saturating_sub(state.in_flight);
            if left <= RESERVED_REQUESTS && reset - now <= max_wait {
                let first = state.announced.is_none_or(|announced| announced < now);
                state.announced = Some(reset);
                return Some(QuotaWait { until: reset, remaining: Some(left), first });
            }
        } else if state.unknown_after_reset && state.in_flight >= RESERVED_REQUESTS {
            return Some(QuotaWait { until: now + UNKNOWN_QUOTA_INTERVAL, remaining: None, first: false });
        }
        state.in_flight += 1;
        None
    }

    /// A request that [`QuotaGate::enter`] counted has its answer.
    pub(super) fn leave(&self, upstream: &str) {
        if let Some(state) = self.upstreams.borrow_mut().get_mut(upstream) {
            state.in_flight = state.in_flight.saturating_sub(1);
            state.remaining = state.remaining.map(|remaining| remaining.saturating_sub(1));
        }
    }

    /// The wait after an answer with a time to retry after.
    pub(super) fn retry_after(&self, upstream: &str, wait: Duration) -> QuotaWait {
        let until = Instant::now() + wait.min(MAX_QUOTA_WAIT);
        let mut upstreams = self.upstreams.borrow_mut();
        let state = upstreams.entry(upstream.to_owned()).or_default();
        let first = state.announced.is_none_or(|announced| announced + Duration::from_secs(1) < until);
        state.announced = Some(until);
        QuotaWait { until, remaining: None, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn quota(remaining: u64, reset_in: u64) -> UpstreamQuota {
        UpstreamQuota { upstream: "u".into(), remaining: Some(remaining), reset_in: Some(reset_in) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_is_spent_down_to_the_reserve_before_its_reset_is_waited_for() {
        let gate = QuotaGate::default();
        assert_eq!(gate.enter("u", HOUR), None, "nothing is recorded");
        gate.leave("u");
        gate.record(&quota(RESERVED_REQUESTS + 2, 100));
        assert_eq!((gate.enter("u", HOUR), gate.enter("u", HOUR)), (None, None));
        let wait = gate.enter("u", HOUR).expect("a wait");
        assert_eq!(
            (wait.until - Instant::now(), wait.remaining, wait.first),
            (Duration::from_secs(101), Some(RESERVED_REQUESTS), true)
        );
        assert!(!gate.enter("u", HOUR).expect("a wait").first, "it is announced once");
        assert_eq!(gate.enter("other", HOUR), None, "another upstream has a quota of its own");
        tokio::time::advance(Duration::from_secs(101)).await;
        assert_eq!(gate.enter("u", HOUR), None, "the quota was reset");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_count_against_the_quota() {
        let gate = QuotaGate::default();
        gate.record(&quota(RESERVED_REQUESTS + 3, 100));
        (0..3).for_each(|_| assert_eq!(gate.enter("u", HOUR), None));
        assert!(gate.enter("u", HOUR).is_some());
        // The upstream counted the first request before the others arrived.
        gate.leave("u");
        gate.record(&quota(RESERVED_REQUESTS + 2, 100));
        assert!(gate.enter("u", HOUR).is_some());
        gate.leave("u");
        gate.leave("u");
        assert!(gate.enter("u", HOUR).is_some(), "both were spent, though their answers reported no quota");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_unknown_size_admits_few_requests() {
        let gate = QuotaGate::default();
        gate.record(&quota(RESERVED_REQUESTS, 100));
        tokio::time::advance(Duration::from_secs(101)).await;
        (0..RESERVED_REQUESTS).for_each(|_| assert_eq!(gate.enter("u", HOUR), None));
        let wait = gate.enter("u", HOUR).expect("a wait");
        assert!(wait.until - Instant::now() < Duration::from_secs(1) && !wait.first);
        gate.leave("u");
        gate.record(&quota(5000, 3600));
        assert_eq!(gate.enter("u", HOUR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_beyond_the_longest_wait_is_not_waited_for() {
        let gate = QuotaGate::default();
        gate.record(&quota(0, 7200));
        assert_eq!(gate.enter("u", HOUR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_beyond_every_clock_is_a_long_wait() {
        let gate = QuotaGate::default();
        gate.record(&quota(0, u64::MAX));
        assert_eq!(gate.enter("u", Duration::MAX).expect("a wait").until - Instant::now(), MAX_QUOTA_WAIT);
        let wait = gate.retry_after("u", Duration::from_secs(u64::MAX));
        assert_eq!(wait.until - Instant::now(), MAX_QUOTA_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_is_announced_once_for_all_requests_that_get_it() {
        let gate = QuotaGate::default();
        assert!(gate.retry_after("u", Duration::from_secs(60)).first);
        assert!(!gate.retry_after("u", Duration::from_secs(60)).first);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(gate.retry_after("u", Duration::from_secs(60)).first);
    }
}
