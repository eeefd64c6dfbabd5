//! How often and when a stored archive was used: counted beside it, without a lock, and written by whoever keeps it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Answers from one tier, and the bytes they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierStats {
    /// Answers.
    pub hits: u64,
    /// Bytes that were sent of it.
    pub bytes: u64,
}

/// What a stored archive has answered so far, by the tier that it was answered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitStats {
    /// From memory.
    pub memory: TierStats,
    /// From disk.
    pub disk: TierStats,
}

impl TierStats {
    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.bytes += other.bytes;
    }
}

impl HitStats {
    /// Both tiers together.
    pub fn all(&self) -> TierStats {
        TierStats { hits: self.memory.hits + self.disk.hits, bytes: self.memory.bytes + self.disk.bytes }
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.memory.add(other.memory);
        self.disk.add(other.disk);
    }
}

/// The uses of one archive that are not yet written down. Everybody who has it shares one; noting a use is a few relaxed
/// atomic operations on it.
#[derive(Debug)]
pub struct UsageCounters {
    /// The last use, microseconds since 1970; 0 for none since it was written down.
    last: AtomicU64,
    memory: Counter,
    disk: Counter,
    /// How far the order of use is ahead of the wall clock, which may have been set back.
    ahead: u64,
}

#[derive(Debug, Default)]
struct Counter {
    hits: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn sum(&self) -> TierStats {
        TierStats { hits: self.hits.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    fn take(&self, sum: TierStats) {
        self.hits.fetch_sub(sum.hits, Relaxed);
        self.bytes.fetch_sub(sum.bytes, Relaxed);
    }
}

/// What waits to be written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingUsage {
    /// The last use; 0 for none.
    pub(super) last: u64,
    /// Answers since it was written down last.
    pub(super) tally: HitStats,
}

impl UsageCounters {
    pub(super) fn new(ahead: u64) -> Self {
        Self { last: AtomicU64::new(0), memory: Counter::default(), disk: Counter::default(), ahead }
    }

    /// It was looked up.
    pub(super) fn touch(&self) {
        self.last.store(wall() + self.ahead, Relaxed);
    }

    pub(super) fn hit(&self, in_memory: bool) {
        self.counter(in_memory).hits.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self, in_memory: bool, bytes: u64) {
        self.counter(in_memory).bytes.fetch_add(bytes, Relaxed);
    }

    fn counter(&self, in_memory: bool) -> &Counter {
        if in_memory { &self.memory } else { &self.disk }
    }

    /// What waits, or `None` when nothing does.
    pub(super) fn noted(&self) -> Option<PendingUsage> {
        let tally = HitStats { memory: self.memory.sum(), disk: self.disk.sum() };
        let noted = PendingUsage { last: self.last.load(Relaxed), tally };
        (noted != PendingUsage::default()).then_some(noted)
    }

    /// Takes away what was written down; what has come since goes on waiting.
    pub(super) fn written(&self, done: &PendingUsage) {
        let _ = self.last.compare_exchange(done.last, 0, Relaxed, Relaxed);
        self.memory.take(done.tally.memory);
        self.disk.take(done.tally.disk);
    }
}

/// The wall clock, microseconds since 1970.
pub(super) fn wall() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_a_use_is_written_down_goes_on_waiting() {
        let uses = UsageCounters::new(0);
        assert_eq!(uses.noted(), None);
        uses.touch();
        uses.hit(true);
        uses.sent(true, 10);
        let noted = uses.noted().expect("a use");
        uses.hit(false);
        uses.written(&noted);
        let rest = HitStats { disk: TierStats { hits: 1, bytes: 0 }, ..HitStats::default() };
        assert_eq!(uses.noted(), Some(PendingUsage { last: 0, tally: rest }));
        uses.written(&PendingUsage { last: 0, tally: rest });
        assert_eq!(uses.noted(), None);
    }

    #[test]
    fn no_use_is_lost_or_counted_twice_between_threads_and_the_one_who_writes() {
        let uses = UsageCounters::new(0);
        let mut sum = HitStats::default();
        std::thread::scope(|scope| {
            for in_memory in [true, false] {
                let uses = &uses;
                scope.spawn(move || (0..10_000).for_each(|_| uses.hit(in_memory)));
            }
            while sum.all().hits < 20_000 {
                if let Some(noted) = uses.noted() {
                    uses.written(&noted);
                    sum.add(noted.tally);
                }
            }
        });
        assert_eq!((sum.memory.hits, sum.disk.hits, uses.noted()), (10_000, 10_000, None));
    }
}
