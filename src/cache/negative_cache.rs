//! The negative cache: recent failures, for which upstreams are not asked again yet.
//!
//! In memory only, and bounded. A 404 is an answer for a while; a body that is not what it must be is not downloaded again
//! for minutes, longer each time; every other failure is a cool-down. Periods are measured with a clock that does not jump.

use std::time::Duration;

use jiff::Timestamp;

use crate::{clock::Clock, entry::Key, origin::FetchError, value::bounded_cache::BoundedCache};

/// A body that is refused is not downloaded again for this long, doubled with every further refusal of the key.
const FIRST_REFUSAL_PERIOD: Duration = Duration::from_secs(60);
/// Longest time for which a refused body is not downloaded again.
const MAX_REFUSAL_PERIOD: Duration = Duration::from_secs(3600);

/// Failures by key, each with its expiry. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct NegativeCache {
    failures: BoundedCache<Key, RememberedFailure>,
    cooldown: Duration,
    clock: Clock,
}

#[derive(Clone, Debug)]
struct RememberedFailure {
    error: FetchError,
    noted_at: Timestamp,
    /// When it is no longer an answer, by [`Clock::uptime`].
    until: Duration,
    /// How often in a row a body of this key was refused.
    refusals: u32,
}

impl NegativeCache {
    /// Holds up to `max_entries` failures; the least used are dropped first.
    pub(super) fn new(max_entries: u64, cooldown: Duration, clock: Clock) -> Self {
        Self { failures: BoundedCache::new(max_entries), cooldown, clock }
    }

    /// The unexpired failure of `key`, with the remaining time where waiting may help.
    pub(super) fn recent(&self, key: &Key) -> Option<FetchError> {
        let RememberedFailure { error, until, .. } = self.failures.get(key)?;
        let left = until.checked_sub(self.clock.uptime()).filter(|left| !left.is_zero())?;
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

    /// Remembers why a document could not be fetched: an absence for `negative`, any other failure for the period of its
    /// kind.
    pub(super) fn remember(&self, key: &Key, error: &FetchError, negative: Duration) {
        match error {
            FetchError::DocumentTooLarge { .. } => self.remember_refusal(key, error),
            _ => self.remember_plain(key, error, negative),
        }
    }

    /// As [`NegativeCache::remember`], for an archive: one that was downloaded and refused is large, and seldom better a
    /// moment later.
    pub(super) fn remember_download(&self, key: &Key, error: &FetchError, negative: Duration) {
        match error {
            FetchError::TooLarge { .. } | FetchError::PinMismatch | FetchError::Invalid(_) => {
                self.remember_refusal(key, error);
            }
            _ => self.remember_plain(key, error, negative),
        }
    }

    fn remember_plain(&self, key: &Key, error: &FetchError, negative: Duration) {
        let period = match error {
            // No upstream was asked, and what is imported next must be found at once.
            FetchError::Offline { .. } => return,
            // The gate answers at once while a pause lasts; neither says anything of this key.
            FetchError::CoolingDown { .. }
            | FetchError::Busy { .. }
            | FetchError::NoRoom { .. }
            | FetchError::PinsUnavailable { .. }
            | FetchError::NoMemory { .. }
            | FetchError::Abandoned => {
                return;
            }
            FetchError::NotFound(_) => negative,
            FetchError::Throttled { retry_after } => self.cooldown.min(*retry_after),
            _ => self.cooldown,
        };
        self.remember_for(key, error, period);
    }

    fn remember_refusal(&self, key: &Key, error: &FetchError) {
        let now = self.clock.uptime();
        // A refusal of long ago does not count any more.
        let recent = self.failures.get(key).filter(|failure| now < failure.until.saturating_add(MAX_REFUSAL_PERIOD));
        let refusals = recent.map_or(0, |failure| failure.refusals);
        let period = FIRST_REFUSAL_PERIOD.saturating_mul(2_u32.saturating_pow(refusals)).min(MAX_REFUSAL_PERIOD);
        self.insert(key, error, period, refusals.saturating_add(1));
    }

    /// Remembers a failure for `period`; zero remembers nothing.
    pub(super) fn remember_for(&self, key: &Key, error: &FetchError, period: Duration) {
        if !period.is_zero() {
            let refusals = self.failures.get(key).map_or(0, |failure| failure.refusals);
            self.insert(key, error, period, refusals);
        }
    }

    fn insert(&self, key: &Key, error: &FetchError, period: Duration, refusals: u32) {
        let until = self.clock.uptime().saturating_add(period);
        let noted_at = self.clock.now();
        self.failures.insert(key.clone(), RememberedFailure { error: error.clone(), noted_at, until, refusals });
    }

    /// Drops the failure of `key`: it was fetched, imported or removed since.
    pub(super) fn forget(&self, key: &Key) {
        self.failures.invalidate(key);
    }

    /// Drops the absence of `key` if it was noted before `since`: a newer answer says that it exists.
    pub(super) fn forget_absence(&self, key: &Key, since: Timestamp) {
        let is_older =
            |failure: RememberedFailure| matches!(failure.error, FetchError::NotFound(_)) && failure.noted_at < since;
        if self.failures.get(key).is_some_and(is_older) {
            self.forget(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Missing;

    const ABSENT: FetchError = FetchError::NotFound(Missing::Package);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_failure_is_remembered_for_its_period_and_no_longer() {
        let clock = Clock::default();
        let failures = NegativeCache::new(10, secs(5), clock.clone());
        let key = Key::new("k");
        failures.remember(&key, &ABSENT, secs(30));
        clock.advance(secs(25));
        assert_eq!(failures.recent(&key), Some(ABSENT));
        clock.advance(secs(5));
        assert_eq!(failures.recent(&key), None);
        failures.remember_for(&key, &ABSENT, Duration::ZERO);
        assert_eq!(failures.recent(&key), None);
    }

    #[test]
    fn a_refused_body_is_left_alone_for_minutes_longer_each_time() {
        let clock = Clock::default();
        let failures = NegativeCache::new(10, secs(5), clock.clone());
        let key = Key::new("k");
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            failures.remember_download(&key, &FetchError::PinMismatch, secs(30));
            clock.advance(secs(60 * minutes - 1));
            assert_eq!(failures.recent(&key), Some(FetchError::PinMismatch), "{minutes}");
            clock.advance(secs(2));
            assert_eq!(failures.recent(&key), None, "{minutes}");
        }
        failures.remember_download(&key, &FetchError::Unreachable("down"), secs(30));
        clock.advance(secs(6));
        assert_eq!(failures.recent(&key), None, "other failures keep their cool-down");
        clock.advance(secs(3601));
        failures.remember_download(&key, &FetchError::TooLarge { limit: 1 }, secs(30));
        clock.advance(secs(61));
        assert_eq!(failures.recent(&key), None, "the count begins again");
    }

    #[test]
    fn a_newer_answer_ends_an_absence() {
        let clock = Clock::default();
        let failures = NegativeCache::new(10, secs(5), clock.clone());
        let key = Key::new("k");
        let before = clock.now();
        clock.advance(secs(1));
        failures.remember(&key, &ABSENT, secs(30));
        failures.forget_absence(&key, before);
        assert_eq!(failures.recent(&key), Some(ABSENT));
        clock.advance(secs(1));
        failures.forget_absence(&key, clock.now());
        assert_eq!(failures.recent(&key), None);
    }
}
