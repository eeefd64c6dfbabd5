//! The nonces of signed requests: each may be used once.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::entry::Digest;

/// How far the time of a signature may differ from this mirror's clock.
pub(super) const SIGNATURE_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Most nonces that are remembered, about 20 MB. Beyond, the oldest is forgotten.
const MAX_NONCES: usize = 200_000;

/// The nonces that were used while their signatures may still be valid.
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
    /// Remembers the nonce of an account; returns whether it was used before. `now` is the present time.
    pub(super) fn note(&self, digest: Digest, now: Timestamp) -> NonceUse {
        let mut seen = self.seen.lock();
        while seen.order.front().is_some_and(|(until, _)| *until < now) || seen.order.len() >= MAX_NONCES {
            let Some((_, oldest)) = seen.order.pop_front() else { break };
            seen.known.remove(&oldest);
        }
        if !seen.known.insert(digest) {
            return NonceUse::Repeated;
        }
        // A signature is valid from one window before its time until one window after it.
        let until = now.saturating_add(SIGNATURE_WINDOW * 2).unwrap_or(Timestamp::MAX);
        seen.order.push_back((until, digest));
        NonceUse::First
    }
}

/// Whether a nonce was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonceUse {
    /// No mirror has seen it.
    First,
    /// A mirror has seen it.
    Repeated,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_holds_once_until_its_window_has_passed() {
        let start = Timestamp::UNIX_EPOCH;
        let nonces = Nonces::default();
        let digest = |text: &str| Digest::of(text.as_bytes());
        let note = |text: &str, seconds| nonces.note(digest(text), start + SignedDuration::from_secs(seconds));
        assert_eq!((note("a", 0), note("b", 0)), (NonceUse::First, NonceUse::First));
        assert_eq!(note("a", 600), NonceUse::Repeated);
        assert_eq!(note("a", 601), NonceUse::First);
    }
}
