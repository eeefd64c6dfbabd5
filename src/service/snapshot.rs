//! Until when a response may be sent again.

use jiff::{SignedDuration, Timestamp};

use crate::registry::Generation;

/// How long a response is sent again: `Age` and `max-age` count whole seconds.
pub(super) const MAX_RESPONSE_AGE: SignedDuration = SignedDuration::from_secs(1);

/// Time and generation read before the lookup; the response may be cached only while they hold.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    generation: Generation,
}

impl Snapshot {
    /// `at` and `generation` must be read before the registry is asked.
    pub(super) fn new(at: Timestamp, generation: Generation) -> Self {
        Self { at, generation }
    }

    /// True while the response that was made then may be sent.
    pub(super) fn is_current(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        !age.is_negative() && age < MAX_RESPONSE_AGE && self.generation.is_current()
    }
}
