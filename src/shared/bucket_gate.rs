//! The gate in front of the bucket: places for requests, and a breaker that spares requests while the bucket fails.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::BucketError;

/// Concurrent requests to the bucket.
const MAX_BUCKET_REQUESTS: usize = 64;
/// Failures in a row after which requests pause.
const MAX_BUCKET_FAILURES: u32 = 3;
/// The first pause; it doubles with each further failure.
const FIRST_BUCKET_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const MAX_BUCKET_PAUSE: Duration = Duration::from_secs(30);

/// Limits the requests to the bucket, and pauses them while it fails.
#[derive(Debug)]
pub(super) struct BucketGate {
    places: Arc<Semaphore>,
    breaker: Mutex<BucketBreaker>,
}

/// A place among the concurrent requests; dropping it frees the place.
pub(super) type BucketPlace = OwnedSemaphorePermit;

#[derive(Debug, Default)]
struct BucketBreaker {
    failures: u32,
    pause: Duration,
    paused_until: Option<Instant>,
    /// True while the request that was let pass after a pause has no answer.
    is_trying: bool,
}

impl BucketBreaker {
    /// The rest of the pause; `None` when a request may pass.
    fn left(&self) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl BucketGate {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_BUCKET_REQUESTS)), breaker: Mutex::default() }
    }

    /// Waits for a place, at most as long as a request may take.
    ///
    /// # Errors
    /// `Paused` during a pause; `TimedOut` without a place.
    pub(super) async fn place(&self, patience: Duration) -> Result<BucketPlace, BucketError> {
        // Requests that cannot pass need not wait for a place.
        if let Some(left) = self.breaker.lock().left() {
            return Err(BucketError::Paused { retry_after: left });
        }
        let place = timeout(patience, self.places.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let place = place.ok().and_then(Result::ok).ok_or(BucketError::TimedOut)?;
        self.admit()?;
        Ok(place)
    }

    /// Lets one request pass after each pause, which shows whether the bucket works again.
    fn admit(&self) -> Result<(), BucketError> {
        let mut breaker = self.breaker.lock();
        if let Some(left) = breaker.left() {
            return Err(BucketError::Paused { retry_after: left });
        }
        if breaker.paused_until.is_some() {
            breaker.paused_until = Some(Instant::now() + breaker.pause);
            breaker.is_trying = true;
        }
        Ok(())
    }

    /// Records a response that shows that the bucket works.
    pub(super) fn succeeded(&self) {
        *self.breaker.lock() = BucketBreaker::default();
    }

    /// Records a failure. One of a request that began before the pause does not lengthen it: many fail together.
    pub(super) fn failed(&self) {
        let mut breaker = self.breaker.lock();
        if breaker.paused_until.is_some() && !std::mem::take(&mut breaker.is_trying) {
            return;
        }
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures >= MAX_BUCKET_FAILURES {
            breaker.pause = (breaker.pause * 2).clamp(FIRST_BUCKET_PAUSE, MAX_BUCKET_PAUSE);
            breaker.paused_until = Some(Instant::now() + breaker.pause);
        }
    }

    /// The rest of the pause; `None` while requests pass.
    pub(super) fn pause(&self) -> Option<Duration> {
        let until = self.breaker.lock().paused_until?;
        Some(until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_fails_is_left_alone_and_tried_again_by_one_request() {
        let gate = BucketGate::new();
        for _ in 0..MAX_BUCKET_FAILURES {
            assert!(gate.place(FIRST_BUCKET_PAUSE).await.is_ok());
            gate.failed();
        }
        assert!(matches!(gate.place(FIRST_BUCKET_PAUSE).await, Err(BucketError::Paused { .. })));
        tokio::time::advance(FIRST_BUCKET_PAUSE).await;
        assert!(gate.place(FIRST_BUCKET_PAUSE).await.is_ok(), "one tries");
        assert!(matches!(gate.place(FIRST_BUCKET_PAUSE).await, Err(BucketError::Paused { .. })), "others do not");
        gate.failed();
        tokio::time::advance(FIRST_BUCKET_PAUSE).await;
        assert!(gate.place(FIRST_BUCKET_PAUSE).await.is_err(), "the pause has doubled");
        tokio::time::advance(FIRST_BUCKET_PAUSE).await;
        assert!(gate.place(FIRST_BUCKET_PAUSE).await.is_ok());
        gate.succeeded();
        assert!(gate.place(FIRST_BUCKET_PAUSE).await.is_ok());
        assert_eq!(gate.pause(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_together_are_one_failure_more() {
        let gate = BucketGate::new();
        (0..MAX_BUCKET_REQUESTS).for_each(|_| gate.failed());
        assert_eq!(gate.pause(), Some(FIRST_BUCKET_PAUSE));
        tokio::time::advance(FIRST_BUCKET_PAUSE).await;
        gate.failed();
        assert!(gate.place(FIRST_BUCKET_PAUSE).await.is_ok(), "one that began before the pause does not lengthen it");
        (0..MAX_BUCKET_REQUESTS).for_each(|_| gate.failed());
        assert_eq!(gate.pause(), Some(FIRST_BUCKET_PAUSE * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_is_bounded() {
        let gate = BucketGate::new();
        for _ in 0..40 {
            let _ = gate.place(FIRST_BUCKET_PAUSE).await;
            gate.failed();
            tokio::time::advance(MAX_BUCKET_PAUSE - FIRST_BUCKET_PAUSE).await;
        }
        assert!(gate.pause().expect("a pause") <= MAX_BUCKET_PAUSE);
    }
}
