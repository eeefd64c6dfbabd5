//! The least rate of a body that is received, so that a slow sender does not hold its place for ever.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::time::Instant;

/// Measures one body. Only the time that its reader waits for bytes counts: a slow disk or a slow client is not the
/// sender's fault.
#[derive(Debug)]
pub(crate) struct RateFloor {
    /// Bytes per second.
    min_rate: u64,
    /// The rate is averaged over this time of waiting.
    window: Duration,
    waited: Duration,
    received: u64,
}

/// A body arrived more slowly than it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slower than {min_rate} bytes per second")]
pub(crate) struct TooSlow {
    /// The least rate, bytes per second.
    pub(crate) min_rate: u64,
}

impl RateFloor {
    /// Demands `min_rate` bytes per second in each `window` of waiting; zero demands nothing.
    pub(crate) fn new(min_rate: u64, window: Duration) -> Self {
        Self { min_rate, window, waited: Duration::ZERO, received: 0 }
    }

    /// Counts bytes that arrived after waiting for them.
    ///
    /// # Errors
    /// [`TooSlow`] when a whole window was slower than the least rate.
    pub(crate) fn note(&mut self, bytes: usize, waited: Duration) -> Result<(), TooSlow> {
        self.received = self.received.saturating_add(bytes as u64);
        self.waited += waited;
        if self.waited < self.window {
            return Ok(());
        }
        let needed = u128::from(self.min_rate) * self.waited.as_millis() / 1000;
        if u128::from(self.received) < needed {
            return Err(TooSlow { min_rate: self.min_rate });
        }
        self.waited = Duration::ZERO;
        self.received = 0;
        Ok(())
    }
}

/// The same body, which ends with the error `too_slow` when it arrives below the least rate.
pub(crate) fn with_rate_floor<E: Send + 'static>(
    bytes: BoxStream<'static, Result<Bytes, E>>,
    floor: RateFloor,
    too_slow: impl Fn() -> E + Send + 'static,
) -> BoxStream<'static, Result<Bytes, E>> {
    stream::unfold(Some((bytes, floor, too_slow)), |body| async move {
        let (mut bytes, mut floor, too_slow) = body?;
        let began = Instant::now();
        let chunk = bytes.next().await?;
        let received = chunk.as_ref().map_or(0, Bytes::len);
        match floor.note(received, began.elapsed()) {
            Ok(()) => Some((chunk, Some((bytes, floor, too_slow)))),
            Err(TooSlow { .. }) => Some((Err(too_slow()), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_below_the_least_rate_ends_after_half_a_minute_of_waiting() {
        let mut floor = RateFloor::new(1000, 30 * SECOND);
        let outcomes: Vec<_> = (0..30).map(|_| floor.note(999, SECOND)).collect();
        assert!(outcomes[..29].iter().all(Result::is_ok));
        assert_eq!(outcomes[29], Err(TooSlow { min_rate: 1000 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_ends_with_an_error_and_one_at_the_least_rate_arrives_whole() {
        let body = |bytes: usize| {
            let chunks = stream::iter(0..100).then(move |_| async move {
                tokio::time::sleep(SECOND).await;
                Ok(Bytes::from(vec![0; bytes]))
            });
            with_rate_floor(chunks.boxed(), RateFloor::new(1000, 30 * SECOND), || "too slow")
        };
        let whole: Vec<_> = body(1000).collect().await;
        assert!(whole.len() == 100 && whole.iter().all(Result::is_ok));
        let dripping: Vec<_> = body(999).collect().await;
        assert_eq!((dripping.len(), dripping.last()), (30, Some(&Err("too slow"))));
    }

    #[test]
    fn a_body_at_the_least_rate_goes_on_and_time_without_waiting_does_not_count() {
        let mut floor = RateFloor::new(1000, 30 * SECOND);
        for _ in 0..300 {
            assert_eq!(floor.note(1000, SECOND), Ok(()));
            assert_eq!(floor.note(0, Duration::ZERO), Ok(()));
        }
        let mut unlimited = RateFloor::new(0, 30 * SECOND);
        assert!((0..100).all(|_| unlimited.note(0, SECOND).is_ok()));
    }
}
