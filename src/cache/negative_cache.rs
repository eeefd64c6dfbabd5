//! What failed a moment ago and is therefore not asked again yet: remembered 404s and short cool-downs.
//!
//! In memory only and bounded: nothing but a 404 is ever remembered as a truth, and not for long.

use std::time::Duration;

use jiff::Timestamp;

use crate::{clock::Clock, entry::Key, origin::FetchError};

/// Failures by key, each with its end.
#[derive(Clone, Debug)]
pub(crate) struct NegativeCache {
    recent: moka::sync::Cache<Key, (FetchError, Timestamp)>,
    clock: Clock,
}

impl NegativeCache {
    /// Room for this many; the least used are forgotten first.
    pub(crate) fn with_room_for(count: u64, clock: Clock) -> Self {
        Self { recent: moka::sync::Cache::new(count), clock }
    }

    /// The failure of `key` that is still remembered, with the time that is left where waiting may help.
    pub(crate) fn recent(&self, key: &Key) -> Option<FetchError> {
        let (error, until) = self.recent.get(key)?;
        let left = Duration::try_from(until.duration_since(self.clock.now())).ok().filter(|left| !left.is_zero())?;
        Some(match error {
            FetchError::Throttled { retry_after } => FetchError::Throttled { retry_after: retry_after.max(left) },
            FetchError::Unreachable(_) | FetchError::Timeout(_) | FetchError::Status(500..) => {
                FetchError::CoolingDown { cause: Box::new(error), retry_after: left }
            }
            // What is wrong with the thing itself does not get better by waiting.
            other => other,
        })
    }

    /// Remembers a failure for `period`; zero remembers nothing.
    pub(crate) fn remember(&self, key: &Key, error: &FetchError, period: Duration) {
        if !period.is_zero() {
            let until = self.clock.now().saturating_add(period).unwrap_or(Timestamp::MAX);
            self.recent.insert(key.clone(), (error.clone(), until));
        }
    }

    /// Forgets the failure of `key`: it has worked since.
    pub(crate) fn forget(&self, key: &Key) {
        self.recent.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Missing;

    #[test]
    fn a_failure_is_remembered_for_its_period_and_no_longer() {
        let clock = Clock::default();
        let failures = NegativeCache::with_room_for(10, clock.clone());
        let key = Key::new("k");
        let error = FetchError::NotFound(Missing::Package);
        failures.remember(&key, &error, Duration::from_secs(30));
        clock.advance(Duration::from_secs(25));
        assert_eq!(failures.recent(&key), Some(error.clone()));
        clock.advance(Duration::from_secs(5));
        assert_eq!(failures.recent(&key), None);
        failures.remember(&key, &error, Duration::ZERO);
        assert_eq!(failures.recent(&key), None);
    }
}
