//! Usage counters of stored archives: when an archive was last used, how many responses it served, how many bytes.
//!
//! Counting takes no lock and no disk write; the disk tier writes the counts to its index from time to time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Responses that one tier served, and the bytes it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierStats {
    /// Number of responses.
    pub hits: u64,
    /// Bytes sent.
    pub bytes: u64,
}

/// Responses served from one stored archive, by tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HitStats {
    /// From memory.
    pub memory: TierStats,
    /// From disk.
    pub disk: TierStats,
}

impl TierStats {
    /// Adds `other` to these counts.
    pub fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.bytes += other.bytes;
    }
}

impl HitStats {
    /// The sum of both tiers.
    pub fn total(&self) -> TierStats {
        TierStats { hits: self.memory.hits + self.disk.hits, bytes: self.memory.bytes + self.disk.bytes }
    }

    /// Adds `other` to these counts.
    pub fn add(&mut self, other: Self) {
        self.memory.add(other.memory);
        self.disk.add(other.disk);
    }
}

/// The usage of one archive since the last flush. All handles on an archive share one; a record is one or two relaxed
/// atomic operations.
#[derive(Debug)]
pub struct UsageCounters {
    /// Time of the last use, microseconds since 1970; 0 if unused since the last flush.
    last_use: AtomicU64,
    memory: AtomicTierStats,
    disk: AtomicTierStats,
    /// Microseconds by which the order of use is ahead of the wall clock, which may have been set back.
    clock_lead: u64,
}

#[derive(Debug, Default)]
struct AtomicTierStats {
    hits: AtomicU64,
    bytes: AtomicU64,
}

impl AtomicTierStats {
    fn load(&self) -> TierStats {
        TierStats { hits: self.hits.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    fn subtract(&self, stats: TierStats) {
        self.hits.fetch_sub(stats.hits, Relaxed);
        self.bytes.fetch_sub(stats.bytes, Relaxed);
    }
}

/// Usage that is not yet in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingUsage {
    /// Time of the last use, microseconds since 1970; 0 for none.
    pub(super) last_use: u64,
    /// Hits since the last flush.
    pub(super) hit_stats: HitStats,
}

impl UsageCounters {
    pub(super) fn new(clock_lead: u64) -> Self {
        Self {
            last_use: AtomicU64::new(0),
            memory: AtomicTierStats::default(),
            disk: AtomicTierStats::default(),
            clock_lead,
        }
    }

    pub(super) fn record_use(&self) {
        self.last_use.store(wall_clock_micros() + self.clock_lead, Relaxed);
    }

    pub(super) fn record_hit(&self, in_memory: bool) {
        self.tier(in_memory).hits.fetch_add(1, Relaxed);
    }

    pub(super) fn record_sent(&self, in_memory: bool, bytes: u64) {
        self.tier(in_memory).bytes.fetch_add(bytes, Relaxed);
    }

    fn tier(&self, in_memory: bool) -> &AtomicTierStats {
        if in_memory { &self.memory } else { &self.disk }
    }

    /// The usage that is not yet flushed, or `None` if there is none.
    pub(super) fn pending(&self) -> Option<PendingUsage> {
        let hit_stats = HitStats { memory: self.memory.load(), disk: self.disk.load() };
        let pending = PendingUsage { last_use: self.last_use.load(Relaxed), hit_stats };
        (pending != PendingUsage::default()).then_some(pending)
    }

    /// Subtracts flushed usage; later usage stays pending.
    pub(super) fn mark_flushed(&self, flushed: &PendingUsage) {
        let _ = self.last_use.compare_exchange(flushed.last_use, 0, Relaxed, Relaxed);
        self.memory.subtract(flushed.hit_stats.memory);
        self.disk.subtract(flushed.hit_stats.disk);
    }
}

/// The wall clock, microseconds since 1970.
pub(super) fn wall_clock_micros() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_recorded_during_a_flush_stays_pending() {
        let usage = UsageCounters::new(0);
        assert_eq!(usage.pending(), None);
        usage.record_use();
        usage.record_hit(true);
        usage.record_sent(true, 10);
        let pending = usage.pending().expect("a use");
        usage.record_hit(false);
        usage.mark_flushed(&pending);
        let rest = HitStats { disk: TierStats { hits: 1, bytes: 0 }, ..HitStats::default() };
        assert_eq!(usage.pending(), Some(PendingUsage { last_use: 0, hit_stats: rest }));
        usage.mark_flushed(&PendingUsage { last_use: 0, hit_stats: rest });
        assert_eq!(usage.pending(), None);
    }

    #[test]
    fn concurrent_recording_and_flushing_count_each_hit_once() {
        let usage = UsageCounters::new(0);
        let mut sum = HitStats::default();
        std::thread::scope(|scope| {
            for in_memory in [true, false] {
                let usage = &usage;
                scope.spawn(move || (0..10_000).for_each(|_| usage.record_hit(in_memory)));
            }
            while sum.total().hits < 20_000 {
                if let Some(pending) = usage.pending() {
                    usage.mark_flushed(&pending);
                    sum.add(pending.hit_stats);
                }
            }
        });
        assert_eq!((sum.memory.hits, sum.disk.hits, usage.pending()), (10_000, 10_000, None));
    }
}
