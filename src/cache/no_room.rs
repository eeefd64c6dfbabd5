//! Archives that did not fit on disk a moment ago: for some minutes, they are not stored there.

use std::time::Duration;

use crate::{clock::Clock, entry::Key, value::bounded_cache::BoundedCache};

/// How long an archive that did not fit is not tried again.
const NO_ROOM_PERIOD: Duration = Duration::from_secs(300);
/// Most archives that are remembered; the least used are dropped first.
const MAX_KEYS_WITHOUT_ROOM: u64 = 10_000;

/// Keys of archives without room on disk, each with its expiry by [`Clock::uptime`].
#[derive(Debug)]
pub(super) struct KeysWithoutRoom {
    remedies: BoundedCache<Key, RememberedRemedy>,
    clock: Clock,
}

/// What is done with an archive that has no room on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It is received in memory.
    Memory,
    /// It is too large for that, and is not fetched.
    None,
}

/// A remedy, and how long it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemedyUntil {
    pub(super) remedy: Remedy,
    pub(super) left: Duration,
}

#[derive(Clone, Copy, Debug)]
struct RememberedRemedy {
    remedy: Remedy,
    until: Duration,
}

impl KeysWithoutRoom {
    pub(super) fn new(clock: Clock) -> Self {
        Self { remedies: BoundedCache::new(MAX_KEYS_WITHOUT_ROOM), clock }
    }

    /// What is done with an archive that is remembered.
    pub(super) fn remedy(&self, key: &Key) -> Option<RemedyUntil> {
        let RememberedRemedy { remedy, until } = self.remedies.get(key)?;
        let left = until.checked_sub(self.clock.uptime()).filter(|left| !left.is_zero())?;
        Some(RemedyUntil { remedy, left })
    }

    /// Remembers an archive; returns for how long.
    pub(super) fn insert(&self, key: &Key, remedy: Remedy) -> Duration {
        let until = self.clock.uptime().saturating_add(NO_ROOM_PERIOD);
        self.remedies.insert(key.clone(), RememberedRemedy { remedy, until });
        NO_ROOM_PERIOD
    }

    /// Forgets an archive: it was removed, or room was made for it.
    pub(super) fn forget(&self, key: &Key) {
        self.remedies.invalidate(key);
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
        assert_eq!(keys.remedy(&key), None);
        assert_eq!(keys.insert(&key, Remedy::None), NO_ROOM_PERIOD);
        clock.advance(NO_ROOM_PERIOD - Duration::from_secs(1));
        let remembered = keys.remedy(&key).expect("remembered");
        assert!(remembered.remedy == Remedy::None && remembered.left <= Duration::from_secs(1), "{remembered:?}");
        clock.advance(Duration::from_secs(1));
        assert_eq!(keys.remedy(&key), None);
        keys.insert(&key, Remedy::Memory);
        keys.forget(&key);
        assert_eq!(keys.remedy(&key), None);
    }
}
