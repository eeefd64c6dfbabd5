//! Archives that did not fit on disk a moment ago: their next downloads pass through without trying again.

use std::time::Duration;

use jiff::Timestamp;

use crate::{clock::Clock, entry::Key};

/// How long an archive that did not fit is not tried again.
const PERIOD: Duration = Duration::from_secs(300);
/// Most archives that are remembered; the least used are dropped first.
const MAX_ENTRIES: u64 = 10_000;

/// Keys without room, each with its expiry.
#[derive(Debug)]
pub(super) struct KeysWithoutRoom {
    until: moka::sync::Cache<Key, Timestamp>,
    clock: Clock,
}

impl KeysWithoutRoom {
    pub(super) fn new(clock: Clock) -> Self {
        Self { until: moka::sync::Cache::new(MAX_ENTRIES), clock }
    }

    /// True while an archive is remembered. One whose time lies further ahead than the period is not: the clock was set
    /// back.
    pub(super) fn contains(&self, key: &Key) -> bool {
        let now = self.clock.now();
        let latest = now.saturating_add(PERIOD).unwrap_or(Timestamp::MAX);
        self.until.get(key).is_some_and(|until| now < until && until <= latest)
    }

    /// Remembers an archive.
    pub(super) fn insert(&self, key: &Key) {
        self.until.insert(key.clone(), self.clock.now().saturating_add(PERIOD).unwrap_or(Timestamp::MAX));
    }

    /// Forgets an archive: it was removed, or room was made for it.
    pub(super) fn forget(&self, key: &Key) {
        self.until.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_did_not_fit_is_tried_again_after_minutes() {
        let clock = Clock::default();
        let keys = KeysWithoutRoom::new(clock.clone());
        let key = Key::new("k");
        assert!(!keys.contains(&key));
        keys.insert(&key);
        clock.advance(PERIOD - Duration::from_secs(1));
        assert!(keys.contains(&key));
        clock.advance(Duration::from_secs(1));
        assert!(!keys.contains(&key));
        keys.insert(&key);
        keys.forget(&key);
        assert!(!keys.contains(&key));
    }
}
