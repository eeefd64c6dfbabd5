//! When to ask an upstream and when to wait: by what it said it still allows.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::client::Allowance;

/// Requests that are left to the mirror's clients.
pub(super) const RESERVE: u64 = 5;
/// How often one who may not ask without knowing the quota looks whether it is known.
const LOOK: Duration = Duration::from_millis(200);

/// What is known of each upstream's quota. Warming runs on one task, so nothing here is locked.
#[derive(Debug, Default)]
pub(super) struct QuotaGate {
    known: RefCell<HashMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Requests that may still be made, by the last answer.
    remaining: Option<u64>,
    /// Requests whose answers are not there yet.
    flying: u64,
    /// The quota was filled up again, and no answer has told since how large it is.
    blind: bool,
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

impl QuotaGate {
    /// Takes note of what an answer said.
    pub(super) fn note(&self, allowance: &Allowance) {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        let known = known.entry(allowance.upstream.clone()).or_default();
        known.reset = allowance.reset_in.map(|seconds| now + Duration::from_secs(seconds + 1));
        (known.remaining, known.blind) = (allowance.remaining, false);
    }

    /// What has to be waited for before the upstream is asked once more. Whoever need not wait is counted until
    /// [`QuotaGate::done`], so that those who ask side by side do not overspend.
    pub(super) fn ask(&self, upstream: &str, longest: Duration) -> Option<Wait> {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        let known = known.entry(upstream.to_owned()).or_default();
        if known.reset.is_some_and(|reset| reset <= now) {
            // What was said holds no longer.
            (known.remaining, known.reset, known.blind) = (None, None, true);
        }
        if let (Some(remaining), Some(reset)) = (known.remaining, known.reset) {
            let left = remaining.saturating_sub(known.flying);
            if left <= RESERVE && reset - now <= longest {
                let first = known.announced.is_none_or(|announced| announced < now);
                known.announced = Some(reset);
                return Some(Wait { until: reset, remaining: Some(left), first });
            }
        } else if known.blind && known.flying >= RESERVE {
            return Some(Wait { until: now + LOOK, remaining: None, first: false });
        }
        known.flying += 1;
        None
    }

    /// The answer to one that [`QuotaGate::ask`] let through is there.
    pub(super) fn done(&self, upstream: &str) {
        if let Some(known) = self.known.borrow_mut().get_mut(upstream) {
            known.flying = known.flying.saturating_sub(1);
            known.remaining = known.remaining.map(|remaining| remaining.saturating_sub(1));
        }
    }

    /// The upstream, or the mirror for it, said to come again later.
    pub(super) fn told(&self, upstream: &str, wait: Duration) -> Wait {
        let until = Instant::now() + wait;
        let mut known = self.known.borrow_mut();
        let known = known.entry(upstream.to_owned()).or_default();
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
        let pace = QuotaGate::default();
        assert_eq!(pace.ask("u", HOUR), None, "nothing is known");
        pace.done("u");
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
    async fn what_flies_is_counted_whatever_an_earlier_answer_says() {
        let pace = QuotaGate::default();
        pace.note(&allowance(RESERVE + 3, 100));
        (0..3).for_each(|_| assert_eq!(pace.ask("u", HOUR), None));
        assert!(pace.ask("u", HOUR).is_some());
        // The first answer was counted before the others had arrived.
        pace.done("u");
        pace.note(&allowance(RESERVE + 2, 100));
        assert!(pace.ask("u", HOUR).is_some());
        pace.done("u");
        pace.done("u");
        assert!(pace.ask("u", HOUR).is_some(), "both were spent, though they told nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_unknown_size_is_tried_by_a_few() {
        let pace = QuotaGate::default();
        pace.note(&allowance(RESERVE, 100));
        tokio::time::advance(Duration::from_secs(101)).await;
        (0..RESERVE).for_each(|_| assert_eq!(pace.ask("u", HOUR), None));
        let wait = pace.ask("u", HOUR).expect("a wait");
        assert!(wait.until - Instant::now() < Duration::from_secs(1) && !wait.first);
        pace.done("u");
        pace.note(&allowance(5000, 3600));
        assert_eq!(pace.ask("u", HOUR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_too_long_is_not_waited() {
        let pace = QuotaGate::default();
        pace.note(&allowance(0, 7200));
        assert_eq!(pace.ask("u", HOUR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn being_told_to_wait_is_said_once_for_all_who_are_told() {
        let pace = QuotaGate::default();
        assert!(pace.told("u", Duration::from_secs(60)).first);
        assert!(!pace.told("u", Duration::from_secs(60)).first);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(pace.told("u", Duration::from_secs(60)).first);
    }
}
