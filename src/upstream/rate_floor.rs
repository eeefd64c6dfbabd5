//! The least rate of a download: one that drips must not hold its place for ever.

use std::time::Duration;

use crate::origin::FetchError;

/// The rate is averaged over this time of waiting.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// Measures one body. Only the time that its reader waits for bytes counts: a slow disk or a slow client is not the
/// upstream's fault.
#[derive(Debug)]
pub(super) struct RateFloor {
    /// Bytes per second.
    min_rate: u64,
    waited: Duration,
    received: u64,
}

impl RateFloor {
    /// Demands `min_rate` bytes per second; zero demands nothing.
    pub(super) fn new(min_rate: u64) -> Self {
        Self { min_rate, waited: Duration::ZERO, received: 0 }
    }

    /// Counts bytes that arrived after waiting for them.
    ///
    /// # Errors
    /// [`FetchError::TooSlow`] when a whole window was slower than the least rate.
    pub(super) fn note(&mut self, bytes: usize, waited: Duration) -> Result<(), FetchError> {
        self.received = self.received.saturating_add(bytes as u64);
        self.waited += waited;
        if self.waited < RATE_WINDOW {
            return Ok(());
        }
        let needed = u128::from(self.min_rate) * self.waited.as_millis() / 1000;
        if u128::from(self.received) < needed {
            return Err(FetchError::TooSlow { min_rate: self.min_rate });
        }
        self.waited = Duration::ZERO;
        self.received = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_download_below_the_least_rate_ends_after_half_a_minute_of_waiting() {
        let mut floor = RateFloor::new(1000);
        let outcomes: Vec<_> = (0..30).map(|_| floor.note(999, SECOND)).collect();
        assert!(outcomes[..29].iter().all(Result::is_ok));
        assert_eq!(outcomes[29], Err(FetchError::TooSlow { min_rate: 1000 }));
    }

    #[test]
    fn a_download_at_the_least_rate_goes_on_and_time_without_waiting_does_not_count() {
        let mut floor = RateFloor::new(1000);
        for _ in 0..300 {
            assert_eq!(floor.note(1000, SECOND), Ok(()));
            assert_eq!(floor.note(0, Duration::ZERO), Ok(()));
        }
        let mut unlimited = RateFloor::new(0);
        assert!((0..100).all(|_| unlimited.note(0, SECOND).is_ok()));
    }
}
