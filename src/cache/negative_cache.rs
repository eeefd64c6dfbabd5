//! The negative cache: failures of the last moments, so that upstreams are not asked for them again yet.
//!
//! In memory only, and bounded. A 404 is an answer for a short while; every other failure is a cool-down.

use std::time::Duration;

use jiff::Timestamp;

use super::policy::DocumentConfig;
use crate::{clock::Clock, entry::Key, origin::FetchError};

/// Failures by key, each with its expiry. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct NegativeCache {
    failures: moka::sync::Cache<Key, (FetchError, Timestamp)>,
    not_found_period: Duration,
    cooldown: Duration,
    clock: Clock,
}

impl NegativeCache {
    /// Holds up to `max_entries` failures; the least used are dropped first.
    pub(super) fn new(max_entries: u64, config: &DocumentConfig, clock: Clock) -> Self {
        let failures = moka::sync::Cache::new(max_entries);
        Self { failures, not_found_period: config.negative.0, cooldown: config.cooldown.0, clock }
    }

    /// The unexpired failure of `key`, with the remaining time where waiting may help.
    pub(super) fn recent(&self, key: &Key) -> Option<FetchError> {
        let (error, until) = self.failures.get(key)?;
        let left = Duration::try_from(until.duration_since(self.clock.now())).ok().filter(|left| !left.is_zero())?;
        Some(match error {
            FetchError::Throttled { retry_after } => FetchError::Throttled { retry_after: retry_after.max(left) },
            FetchError::Unreachable(_)
            | FetchError::Timeout(_)
            | FetchError::TooSlow { .. }
            | FetchError::Status(500..) => FetchError::CoolingDown { cause: Box::new(error), retry_after: left },
            // Waiting does not change an answer about the object itself.
            other => other,
        })
    }

    /// Remembers a failure for the configured period of its kind.
    pub(super) fn remember(&self, key: &Key, error: &FetchError) {
        let period = match error {
            // No upstream was asked, and what is imported next must be found at once.
            FetchError::Offline { .. } => return,
            // The gate answers at once while a pause lasts; neither says anything of this key.
            FetchError::CoolingDown { .. }
            | FetchError::Busy { .. }
            | FetchError::NoWindow { .. }
            | FetchError::Abandoned => {
                return;
            }
            FetchError::NotFound(_) => self.not_found_period,
            FetchError::Throttled { retry_after } => self.cooldown.min(*retry_after),
            _ => self.cooldown,
        };
        self.remember_for(key, error, period);
    }

    /// Remembers a failure for `period`; zero remembers nothing.
    pub(super) fn remember_for(&self, key: &Key, error: &FetchError, period: Duration) {
        if !period.is_zero() {
            let until = self.clock.now().saturating_add(period).unwrap_or(Timestamp::MAX);
            self.failures.insert(key.clone(), (error.clone(), until));
        }
    }

    /// Drops the failure of `key`: it was fetched, imported or removed since.
    pub(super) fn forget(&self, key: &Key) {
        self.failures.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Missing;

    #[test]
    fn a_failure_is_remembered_for_its_period_and_no_longer() {
        let clock = Clock::default();
        let failures = NegativeCache::new(10, &DocumentConfig::default(), clock.clone());
        let key = Key::new("k");
        let error = FetchError::NotFound(Missing::Package);
        failures.remember_for(&key, &error, Duration::from_secs(30));
        clock.advance(Duration::from_secs(25));
        assert_eq!(failures.recent(&key), Some(error.clone()));
        clock.advance(Duration::from_secs(5));
        assert_eq!(failures.recent(&key), None);
        failures.remember_for(&key, &error, Duration::ZERO);
        assert_eq!(failures.recent(&key), None);
    }
}
