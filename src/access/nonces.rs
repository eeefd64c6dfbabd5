//! The nonces of signed requests: each holds once.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::cli_signature::WINDOW;
use crate::entry::Digest;

/// Most nonces that are remembered, about 20 MB. Beyond, the oldest is forgotten: reading twice changes nothing.
const MAX_NONCES: usize = 200_000;

/// The nonces of the window in which a signature holds.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    seen: Mutex<SeenNonces>,
}

#[derive(Debug, Default)]
struct SeenNonces {
    /// In the order in which they came, with the time until which each must be remembered.
    order: VecDeque<(Timestamp, Digest)>,
    known: HashSet<Digest>,
}

impl Nonces {
    /// True when the nonce of an account is new, and remembers it. `now` is the present time.
    pub(super) fn is_new(&self, digest: Digest, now: Timestamp) -> bool {
        let mut seen = self.seen.lock();
        while seen.order.front().is_some_and(|(until, _)| *until < now) || seen.order.len() >= MAX_NONCES {
            let Some((_, oldest)) = seen.order.pop_front() else { break };
            seen.known.remove(&oldest);
        }
        if !seen.known.insert(digest) {
            return false;
        }
        // A signature holds from a window before its time until one after it.
        let until = now.saturating_add(WINDOW * 2).unwrap_or(Timestamp::MAX);
        seen.order.push_back((until, digest));
        true
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_nonce_holds_once_until_its_window_has_passed() {
        let start = Timestamp::UNIX_EPOCH;
        let nonces = Nonces::default();
        let digest = |text: &str| Digest::of(text.as_bytes());
        assert!(nonces.is_new(digest("a"), start) && nonces.is_new(digest("b"), start));
        assert!(!nonces.is_new(digest("a"), start + SignedDuration::from_secs(600)));
        assert!(nonces.is_new(digest("a"), start + SignedDuration::from_secs(601)));
    }
}
