//! The clocks of the mirror. They are passed in, so that tests can advance them.
//!
//! What outlives the process (when a document was confirmed) is dated with the wall clock, which may jump. Periods within
//! the process (cool-downs, remembered failures) are measured with a clock that never runs backwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// The system's time plus an offset in milliseconds, which clones share.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: Arc<AtomicI64>,
    started: Instant,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    now: Timestamp,
    uptime: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self { offset: Arc::default(), started: Instant::now() }
    }
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.offset.load(Ordering::Relaxed));
        Timestamp::now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }

    /// The time since `then`; zero when `then` lies in the future, because the system's clock was set back.
    pub fn since(&self, then: Timestamp) -> Duration {
        self.elapsed(then).unwrap_or_default()
    }

    /// The time since `then`; `None` when `then` lies in the future, so that nothing can be said of its age.
    pub fn elapsed(&self, then: Timestamp) -> Option<Duration> {
        Duration::try_from(self.now().duration_since(then)).ok()
    }

    /// The time since this clock was made. Does not depend on the system's wall clock, and never runs backwards.
    pub fn uptime(&self) -> Duration {
        let offset = u64::try_from(self.offset.load(Ordering::Relaxed)).unwrap_or_default();
        self.started.elapsed() + Duration::from_millis(offset)
    }

    /// This moment.
    pub fn reading(&self) -> ClockReading {
        ClockReading { now: self.now(), uptime: self.uptime() }
    }

    /// The time since a reading, by the clock that says more: one stands still while a machine is suspended, the other one
    /// may be set back.
    pub fn age(&self, reading: &ClockReading) -> Duration {
        self.uptime().saturating_sub(reading.uptime).max(self.since(reading.now))
    }

    /// Advances this clock and its clones.
    pub fn advance(&self, by: Duration) {
        self.offset.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_the_future_has_no_age() {
        let clock = Clock::default();
        let later = clock.now() + SignedDuration::from_secs(60);
        assert_eq!((clock.elapsed(later), clock.since(later)), (None, Duration::ZERO));
        clock.advance(Duration::from_secs(61));
        assert!(clock.elapsed(later).is_some() && clock.uptime() >= Duration::from_secs(61));
    }
}
