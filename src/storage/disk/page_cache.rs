//! Hints on which slices of a file are in the page cache.
//!
//! Checking costs one system call per sample, about a tenth of sending 1 MiB. A slice that was seen in the page cache
//! within the last 0.2 s is not checked again: the kernel drops recently used pages last. A wrong hint blocks a
//! connection thread for one slow read, so hints expire soon.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Slots for hints, and so the number of slices of one file with a hint. The offset of a slice determines its slot.
const HINT_SLOTS: usize = 64;
/// A hint is valid in its tick and in the next one.
const TICK_MS: u128 = 100;
/// The usual distance between slices.
const SLICE_STEP_BYTES: u64 = 2 << 20;

static TICK_EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The slices of one file that were recently seen in the page cache.
pub(super) struct PageCacheHints([AtomicU64; HINT_SLOTS]);

impl Default for PageCacheHints {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; HINT_SLOTS])
    }
}

impl PageCacheHints {
    /// True if exactly this slice was seen in this tick or the one before.
    pub(super) fn contains(&self, offset: u64, len: usize) -> bool {
        self.contains_at(current_tick(), offset, len)
    }

    fn contains_at(&self, tick: u64, offset: u64, len: usize) -> bool {
        let hint = self.slot(offset).load(Ordering::Relaxed);
        let age = tick.wrapping_sub(hint & 0xffff_ffff);
        hint >> 32 == tag(offset, len) && age <= 1
    }

    /// Records that this slice is in the page cache.
    pub(super) fn insert(&self, offset: u64, len: usize) {
        self.insert_at(current_tick(), offset, len);
    }

    fn insert_at(&self, tick: u64, offset: u64, len: usize) {
        self.slot(offset).store(tag(offset, len) << 32 | tick, Ordering::Relaxed);
    }

    fn slot(&self, offset: u64) -> &AtomicU64 {
        &self.0[usize::try_from(offset / SLICE_STEP_BYTES % HINT_SLOTS as u64).unwrap_or(0)]
    }
}

/// A 32-bit hash of a slice. Two slices of one slot rarely collide, and a collision costs one slow read.
fn tag(offset: u64, len: usize) -> u64 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (len as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)) >> 32
}

/// Ticks of [`TICK_MS`] since the first call, starting at 2: an unused slot contains 0, which must not be the tick before
/// the first one.
fn current_tick() -> u64 {
    let ticks = TICK_EPOCH.elapsed().as_millis() / TICK_MS;
    (u64::try_from(ticks).unwrap_or(0) + 2) & 0xffff_ffff
}

impl fmt::Debug for PageCacheHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCacheHints").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_valid_in_its_tick_and_the_next_one() {
        let hints = PageCacheHints::default();
        let tick = current_tick();
        hints.insert_at(tick, 0, 100);
        assert_eq!([0, 1, 2, 3].map(|later| hints.contains_at(tick + later, 0, 100)), [true, true, false, false]);
    }

    #[test]
    fn a_hint_is_valid_only_for_its_slice() {
        let hints = PageCacheHints::default();
        let tick = current_tick();
        let contains = |offset, len| hints.contains_at(tick, offset, len);
        assert!(!contains(0, 100) && !contains(0, 0));
        hints.insert_at(tick, 0, 100);
        assert!(contains(0, 100));
        assert!(!contains(0, 101) && !contains(1, 100) && !contains(SLICE_STEP_BYTES, 100));
        // Another slice takes the slot.
        hints.insert_at(tick, SLICE_STEP_BYTES * HINT_SLOTS as u64, 100);
        assert!(!contains(0, 100) && contains(SLICE_STEP_BYTES * HINT_SLOTS as u64, 100));
    }
}
