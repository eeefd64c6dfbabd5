//! The budget of retries: while an upstream fails, retries must not multiply the load on it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The window is counted in slots of this length.
const SLOT: Duration = Duration::from_secs(5);
/// Slots of the window: one minute.
const SLOTS: usize = 12;
/// Retries that are always allowed in a window.
const MIN_RETRIES: u64 = 5;

/// Allows retries of a tenth of the requests of the last minute, plus [`MIN_RETRIES`].
#[derive(Debug)]
pub(super) struct RetryBudget {
    began: Instant,
    window: Mutex<[SlotCount; SLOTS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SlotCount {
    /// The number of the slot since the beginning.
    number: u64,
    requests: u64,
    retries: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { began: Instant::now(), window: Mutex::default() }
    }
}

impl RetryBudget {
    /// Counts a request that is sent.
    pub(super) fn note_request(&self) {
        let now = self.now();
        Self::slot(&mut self.window.lock(), now).requests += 1;
    }

    /// Takes a retry; false when none is left.
    pub(super) fn take(&self) -> bool {
        let now = self.now();
        let mut window = self.window.lock();
        let recent = window.iter().filter(|slot| slot.number + SLOTS as u64 > now);
        let (requests, retries) =
            recent.fold((0, 0), |(requests, retries), slot| (requests + slot.requests, retries + slot.retries));
        if retries >= MIN_RETRIES + requests / 10 {
            return false;
        }
        Self::slot(&mut window, now).retries += 1;
        true
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_secs() / SLOT.as_secs()
    }

    fn slot(window: &mut [SlotCount; SLOTS], now: u64) -> &mut SlotCount {
        let slot = &mut window[usize::try_from(now % SLOTS as u64).unwrap_or(0)];
        if slot.number != now {
            *slot = SlotCount { number: now, ..SlotCount::default() };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &RetryBudget) -> usize {
        (0..1000).take_while(|_| budget.take()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_tenth_of_the_requests_of_the_last_minute_plus_five() {
        let budget = RetryBudget::default();
        assert_eq!(taken(&budget), 5);
        (0..100).for_each(|_| budget.note_request());
        assert_eq!(taken(&budget), 10);
        tokio::time::advance(Duration::from_secs(30)).await;
        (0..50).for_each(|_| budget.note_request());
        assert_eq!(taken(&budget), 5);
        tokio::time::advance(Duration::from_secs(35)).await;
        assert_eq!(taken(&budget), 5, "the last 30 s allow 5 + 50/10, of which 5 are spent");
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(taken(&budget), 5);
    }
}
