//! When to ask an upstream and when to wait: by what it said it still allows.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::talk::Allowance;

/// Requests that are left to the mirror's clients.
pub(super) const RESERVE: u64 = 5;

/// What is known of each upstream's quota. Warming runs on one task, so nothing here is locked.
#[derive(Debug, Default)]
pub(super) struct Pace {
    known: RefCell<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    /// Requests that may still be made.
    remaining: Option<u64>,
    /// When there are more.
    reset: Option<Instant>,
    /// Somebody has said that everybody waits until then.
    announced: Option<Instant>,
}

/// Why nothing is asked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// When it is over.
    pub(super) until: Instant,
    /// What the upstream still allows until then; `None` when it has refused already.
    pub(super) remaining: Option<u64>,
    /// True for the first who waits so: it is said once.
    pub(super) first: bool,
}

impl Pace {
    /// Takes note of what an answer said.
    pub(super) fn note(&self, allowance: &Allowance) {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        let announced = known.get(&allowance.upstream).and_then(|known| known.announced);
        let reset = allowance.reset_in.map(|seconds| now + Duration::from_secs(seconds + 1));
        known.insert(allowance.upstream.clone(), Known { remaining: allowance.remaining, reset, announced });
    }

    /// What has to be waited for before the upstream is asked once more; asking is counted at once, so that those who
    /// ask side by side do not overspend.
    pub(super) fn ask(&self, upstream: &str, longest: Duration) -> Option<Wait> {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        let known = known.get_mut(upstream)?;
        let (remaining, reset) = (known.remaining?, known.reset?);
        if reset <= now {
            // What was said holds no longer.
            (known.remaining, known.reset) = (None, None);
            return None;
        }
        if remaining > RESERVE {
            known.remaining = Some(remaining - 1);
            return None;
        }
        if reset - now > longest {
            return None;
        }
        let first = known.announced.is_none_or(|announced| announced < now);
        known.announced = Some(reset);
        Some(Wait { until: reset, remaining: Some(remaining), first })
    }

    /// The upstream, or the mirror for it, said to come again later.
    pub(super) fn told(&self, upstream: &str, wait: Duration) -> Wait {
        let until = Instant::now() + wait;
        let mut known = self.known.borrow_mut();
        let known = known.entry(upstream.to_owned()).or_insert(Known { remaining: None, reset: None, announced: None });
        let first = known.announced.is_none_or(|announced| announced + Duration::from_secs(1) < until);
        known.announced = Some(until);
        Wait { until, remaining: None, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn allowance(remaining: u64, reset_in: u64) -> Allowance {
        Allowance { upstream: "u".into(), remaining: Some(remaining), reset_in: Some(reset_in), wait: None }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_spent_down_to_the_reserve_and_then_waited_for() {
        let pace = Pace::default();
        assert_eq!(pace.ask("u", HOUR), None, "nothing is known");
        pace.note(&allowance(RESERVE + 2, 100));
        assert_eq!((pace.ask("u", HOUR), pace.ask("u", HOUR)), (None, None));
        let wait = pace.ask("u", HOUR).expect("a wait");
        assert_eq!(
            (wait.until - Instant::now(), wait.remaining, wait.first),
            (Duration::from_secs(101), Some(RESERVE), true)
        );
        assert!(!pace.ask("u", HOUR).expect("a wait").first, "it is said once");
        assert_eq!(pace.ask("other", HOUR), None, "another upstream has its own");
        tokio::time::advance(Duration::from_secs(101)).await;
        assert_eq!(pace.ask("u", HOUR), None, "the quota is filled up again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_too_long_is_not_waited() {
        let pace = Pace::default();
        pace.note(&allowance(0, 7200));
        assert_eq!(pace.ask("u", HOUR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn being_told_to_wait_is_said_once_for_all_who_are_told() {
        let pace = Pace::default();
        assert!(pace.told("u", Duration::from_secs(60)).first);
        assert!(!pace.told("u", Duration::from_secs(60)).first);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(pace.told("u", Duration::from_secs(60)).first);
    }
}
