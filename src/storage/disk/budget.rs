//! The bytes on disk: one counter that never exceeds the limit.
//!
//! Everything that takes space is either *standing* (a stored blob or document, counted by the index) or held by a
//! [`Reservation`], which gives its bytes back when it is dropped. A file that is unlinked while it is read keeps its charge
//! until the last reader is gone, because the file system keeps its blocks as long.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// Files are counted in blocks of this many bytes.
const BLOCK: u64 = 4096;

/// The space that a file of `len` bytes takes: whole blocks.
pub(super) fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// The counter and its limit, bytes.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    total: AtomicU64,
    blobs: AtomicU64,
    documents: AtomicU64,
}

/// What a standing file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A blob and its sidecar.
    Blob,
    /// A document.
    Document,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self { limit, total: zero(), blobs: zero(), documents: zero() })
    }

    /// The limit in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Everything that counts, bytes.
    pub(super) fn total(&self) -> u64 {
        self.total.load(SeqCst)
    }

    /// Bytes that can still be taken.
    pub(super) fn free(&self) -> u64 {
        self.limit.saturating_sub(self.total())
    }

    /// Bytes of standing files of one kind.
    pub(super) fn standing(&self, kind: Kind) -> u64 {
        self.counter(kind).load(SeqCst)
    }

    /// Takes `bytes` if they fit.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut charge = Reservation { budget: Arc::clone(self), bytes: 0 };
        charge.grow(bytes).then_some(charge)
    }

    /// Takes `bytes` that are on disk already, whether they fit or not: only for what start-up finds.
    pub(super) fn account_existing(self: &Arc<Self>, bytes: u64) -> Reservation {
        self.total.fetch_add(bytes, SeqCst);
        Reservation { budget: Arc::clone(self), bytes }
    }

    /// Turns standing bytes back into a charge: the file is about to be removed.
    pub(super) fn release(self: &Arc<Self>, kind: Kind, bytes: u64) -> Reservation {
        subtract(self.counter(kind), bytes);
        Reservation { budget: Arc::clone(self), bytes }
    }

    fn counter(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Blob => &self.blobs,
            Kind::Document => &self.documents,
        }
    }
}

/// Bytes that were taken from the budget; dropping it gives them back.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows to `bytes` in all if the difference fits; true when the charge is at least that large afterwards.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let limit = self.budget.limit;
        let fits = |total: u64| total.checked_add(more).filter(|sum| more == 0 || *sum <= limit);
        let grown = self.budget.total.fetch_update(SeqCst, SeqCst, fits).is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }

    /// Gives back what exceeds `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        subtract(&self.budget.total, less);
    }

    /// Leaves the bytes counted as a standing file.
    pub(super) fn commit(mut self, kind: Kind) {
        self.budget.counter(kind).fetch_add(self.bytes, SeqCst);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        subtract(&self.budget.total, self.bytes);
    }
}

/// Never below zero: to count too little for a while is better than a cache that believes itself full for ever.
fn subtract(counter: &AtomicU64, bytes: u64) {
    let changed = counter.fetch_update(SeqCst, SeqCst, |sum| Some(sum.saturating_sub(bytes)));
    debug_assert!(changed.is_ok_and(|sum| sum >= bytes), "more was given back than was taken");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_never_takes_more_than_the_limit_and_gives_everything_back() {
        let budget = Budget::new(10 * BLOCK);
        let mut first = budget.take(4 * BLOCK).expect("fits");
        assert!(budget.take(7 * BLOCK).is_none());
        assert!(!first.grow(11 * BLOCK) && first.grow(10 * BLOCK));
        assert_eq!((budget.total(), budget.free()), (10 * BLOCK, 0));
        first.shrink(3 * BLOCK);
        first.commit(Kind::Blob);
        assert_eq!((budget.total(), budget.standing(Kind::Blob)), (3 * BLOCK, 3 * BLOCK));
        drop(budget.release(Kind::Blob, 3 * BLOCK));
        assert_eq!((budget.total(), budget.standing(Kind::Blob)), (0, 0));
    }

    #[test]
    fn a_file_counts_in_whole_blocks() {
        assert_eq!([0, 1, 4096, 4097].map(blocks), [0, 4096, 4096, 8192]);
    }
}
