//! Which parts of a file the page cache was seen to hold a moment ago.
//!
//! Looking costs a system call for every sample, a tenth of what sending 1 MiB costs. What was seen within the last
//! 0.2 s is not looked for again: the kernel throws out last what was used last. To be wrong holds a thread of
//! connections up for one slow read, and so it is not believed for longer.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Places for parts; as many parts of one file are known at once. A part's place follows from where it begins.
const PLACES: usize = 64;
/// Milliseconds. A look is believed in its tick and the next one.
const TICK: u128 = 100;
/// Where parts usually begin.
const STEP: u64 = 2 << 20;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The parts of one file that were in the page cache lately.
pub(super) struct PageCacheHints([AtomicU64; PLACES]);

impl Default for PageCacheHints {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; PLACES])
    }
}

impl PageCacheHints {
    /// True when exactly this part was seen in this tick or the last.
    pub(super) fn was(&self, offset: u64, len: usize) -> bool {
        self.was_at(tick(), offset, len)
    }

    fn was_at(&self, now: u64, offset: u64, len: usize) -> bool {
        let known = self.place(offset).load(Ordering::Relaxed);
        let since = now.wrapping_sub(known & 0xffff_ffff);
        known >> 32 == tag(offset, len) && since <= 1
    }

    /// Notes that this part is there.
    pub(super) fn note(&self, offset: u64, len: usize) {
        self.note_at(tick(), offset, len);
    }

    fn note_at(&self, now: u64, offset: u64, len: usize) {
        self.place(offset).store(tag(offset, len) << 32 | now, Ordering::Relaxed);
    }

    fn place(&self, offset: u64) -> &AtomicU64 {
        &self.0[usize::try_from(offset / STEP % PLACES as u64).unwrap_or(0)]
    }
}

/// A part in 32 bits. Two parts of one place that have the same are so rare that their confusion may cost a slow read.
fn tag(offset: u64, len: usize) -> u64 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (len as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)) >> 32
}

/// Ticks of [`TICK`] ms since the first look, from 2 on: 0 is a place that nobody has used, and not the tick before this
/// one.
fn tick() -> u64 {
    let ticks = START.elapsed().as_millis() / TICK;
    (u64::try_from(ticks).unwrap_or(0) + 2) & 0xffff_ffff
}

impl fmt::Debug for PageCacheHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resident").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_believed_in_its_tick_and_the_next_one() {
        let resident = PageCacheHints::default();
        let now = tick();
        resident.note_at(now, 0, 100);
        assert_eq!([0, 1, 2, 3].map(|later| resident.was_at(now + later, 0, 100)), [true, true, false, false]);
    }

    #[test]
    fn only_the_part_that_was_seen_is_known() {
        let resident = PageCacheHints::default();
        let now = tick();
        let was = |offset, len| resident.was_at(now, offset, len);
        assert!(!was(0, 100) && !was(0, 0));
        resident.note_at(now, 0, 100);
        assert!(was(0, 100));
        assert!(!was(0, 101) && !was(1, 100) && !was(STEP, 100));
        // Another part takes the place.
        resident.note_at(now, STEP * PLACES as u64, 100);
        assert!(!was(0, 100) && was(STEP * PLACES as u64, 100));
    }
}
