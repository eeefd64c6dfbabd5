//! The circuit breaker of one host: after several failures in a row no request is sent for a while, then one at a time.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{observe::UpstreamMetrics, origin::FetchError};

/// Failures in a row that open the breaker.
const MAX_FAILURES: u32 = 5;
/// The first pause; doubled after each probe that fails.
const FIRST_OPEN_PERIOD: Duration = Duration::from_secs(5);
/// The longest pause, unless the host states one.
const MAX_OPEN_PERIOD: Duration = Duration::from_secs(60);
/// The longest pause that a host can ask for with `Retry-After`.
const MAX_STATED_PERIOD: Duration = Duration::from_secs(600);

/// The breaker of one host. The default is closed.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    /// Failures in a row.
    failures: u32,
    /// `None` while the breaker is closed.
    pause: Option<Pause>,
    /// Pauses in a row.
    pauses: u32,
    /// A probe is under way.
    is_probing: bool,
}

#[derive(Clone, Debug)]
struct Pause {
    until: Instant,
    cause: FetchError,
}

impl Pause {
    /// The error of a request that is not sent.
    fn error(&self) -> FetchError {
        let left = self.until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        FetchError::CoolingDown { cause: Box::new(self.cause.clone()), retry_after: left }
    }
}

/// One request that is about to be sent. Dropped without an outcome, it changes nothing.
#[must_use]
pub(in crate::upstream) struct Attempt {
    breaker: Arc<Breaker>,
    is_probe: bool,
    metrics: Arc<UpstreamMetrics>,
    started: Instant,
}

impl Breaker {
    /// Checks, without taking the place of a probe, that a request may be sent.
    ///
    /// # Errors
    /// [`FetchError::CoolingDown`] while the breaker is open, and while a probe is under way.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        let state = self.0.lock();
        match &state.pause {
            Some(pause) if pause.until > Instant::now() || state.is_probing => Err(pause.error()),
            _ => Ok(()),
        }
    }

    /// Permission to send one request: when a pause is over, to one at a time.
    ///
    /// # Errors
    /// As [`Breaker::check`].
    pub(super) fn attempt(this: &Arc<Self>, metrics: &Arc<UpstreamMetrics>) -> Result<Attempt, FetchError> {
        let mut state = this.0.lock();
        let is_probe = match &state.pause {
            None => false,
            Some(pause) if pause.until > Instant::now() || state.is_probing => return Err(pause.error()),
            Some(_) => true,
        };
        state.is_probing |= is_probe;
        drop(state);
        Ok(Attempt { breaker: this.clone(), is_probe, metrics: metrics.clone(), started: Instant::now() })
    }

    /// Why the breaker is open, and for how long.
    pub(super) fn open(&self) -> Option<(FetchError, Duration)> {
        let state = self.0.lock();
        let pause = state.pause.as_ref()?;
        Some((pause.cause.clone(), pause.until.saturating_duration_since(Instant::now())))
    }

    /// True while it is closed and has counted no failure.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.failures == 0 && state.pause.is_none()
    }
}

impl Attempt {
    /// The host has answered, whatever it said: the breaker closes.
    pub(in crate::upstream) fn succeeded(self) {
        self.metrics.note_answer(self.started.elapsed());
        let mut state = self.breaker.0.lock();
        // A request that was sent before the pause says nothing about the host now.
        if self.is_probe || state.pause.is_none() {
            *state = BreakerState::default();
        }
    }

    /// The host has not answered, or with a server error. `stated` is its `Retry-After`: then the breaker opens at once.
    pub(in crate::upstream) fn failed(self, cause: &FetchError, stated: Option<Duration>) {
        self.metrics.note_failure();
        let mut state = self.breaker.0.lock();
        state.failures = state.failures.saturating_add(1);
        let is_open = state.pause.as_ref().is_some_and(|pause| pause.until > Instant::now());
        let opens = self.is_probe || stated.is_some() || (!is_open && state.failures >= MAX_FAILURES);
        if !opens || (state.pause.is_some() && !self.is_probe) {
            return;
        }
        let wait = match stated {
            Some(stated) => stated.clamp(Duration::from_secs(1), MAX_STATED_PERIOD),
            None => jittered(FIRST_OPEN_PERIOD.saturating_mul(1 << state.pauses.min(6)).min(MAX_OPEN_PERIOD)),
        };
        state.pauses = state.pauses.saturating_add(1);
        state.pause = Some(Pause { until: Instant::now() + wait, cause: cause.clone() });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.0.lock().is_probing = false;
        }
    }
}

/// `period`, up to a quarter shorter: probes of many mirrors must not come together.
fn jittered(period: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 250;
    period - period * u32::try_from(random).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: FetchError = FetchError::Timeout("no response in time");

    fn attempt(breaker: &Arc<Breaker>) -> Result<Attempt, FetchError> {
        Breaker::attempt(breaker, &Arc::default())
    }

    fn fail(breaker: &Arc<Breaker>, times: usize) {
        for _ in 0..times {
            attempt(breaker).expect("closed, or a probe").failed(&CAUSE, None);
        }
    }

    async fn wait_until_over(breaker: &Breaker) -> Duration {
        let (_, wait) = breaker.open().expect("an open breaker");
        tokio::time::advance(wait).await;
        wait
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_the_breaker_and_an_answer_between_them_does_not() {
        let breaker = Arc::<Breaker>::default();
        fail(&breaker, 4);
        attempt(&breaker).expect("closed").succeeded();
        fail(&breaker, 4);
        assert_eq!(breaker.check(), Ok(()));
        fail(&breaker, 1);
        let error = breaker.check().expect_err("open");
        assert!(matches!(&error, FetchError::CoolingDown { cause, .. } if **cause == CAUSE), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_probe_at_a_time_is_sent_and_an_answer_closes_the_breaker() {
        let breaker = Arc::<Breaker>::default();
        fail(&breaker, 5);
        wait_until_over(&breaker).await;
        let probe = attempt(&breaker).expect("a probe");
        assert!(attempt(&breaker).is_err() && breaker.check().is_err(), "a second probe");
        drop(probe);
        let probe = attempt(&breaker).expect("a probe in place of the one that was given up");
        probe.succeeded();
        assert_eq!(breaker.check(), Ok(()));
        fail(&breaker, 4);
        assert_eq!(breaker.check(), Ok(()), "the count begins again");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_minute_with_jitter() {
        let breaker = Arc::<Breaker>::default();
        fail(&breaker, 5);
        for longest in [5_u64, 10, 20, 40, 60, 60] {
            let pause = wait_until_over(&breaker).await;
            let longest = Duration::from_secs(longest);
            assert!(pause <= longest && pause >= longest * 3 / 4, "{pause:?} of at most {longest:?}");
            fail(&breaker, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stated_pause_opens_the_breaker_at_once_and_is_bounded() {
        let breaker = Arc::<Breaker>::default();
        let stated = |seconds| Some(Duration::from_secs(seconds));
        attempt(&breaker).expect("closed").failed(&FetchError::Status(503), stated(7));
        assert_eq!(wait_until_over(&breaker).await, Duration::from_secs(7));
        attempt(&breaker).expect("a probe").failed(&FetchError::Status(503), stated(100_000));
        assert_eq!(wait_until_over(&breaker).await, MAX_STATED_PERIOD);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_sent_before_the_pause_change_nothing() {
        let breaker = Arc::<Breaker>::default();
        let early: Vec<_> = (0..10).map(|_| attempt(&breaker).expect("closed")).collect();
        let mut early = early.into_iter();
        for attempt in early.by_ref().take(5) {
            attempt.failed(&CAUSE, None);
        }
        let (_, wait) = breaker.open().expect("open");
        tokio::time::advance(Duration::from_secs(1)).await;
        early.next().expect("one").failed(&CAUSE, None);
        early.next().expect("one").succeeded();
        assert_eq!(breaker.open().expect("still open").1, wait - Duration::from_secs(1));
    }
}
