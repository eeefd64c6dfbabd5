//! The disk budget: one counter of bytes that never exceeds the limit.
//!
//! Every byte is either *committed* (a stored blob or document, recorded in the index) or held by a [`Reservation`],
//! which releases its bytes when it is dropped. A file that is unlinked while it is read keeps its reservation until its
//! last reader is gone, because the file system keeps its blocks as long.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// Files are counted in blocks of this many bytes.
const BLOCK_BYTES: u64 = 4096;

/// The bytes that a file of `len` bytes takes on disk: whole blocks.
pub(super) fn allocated_bytes(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// The counter and its limit, bytes. Invariant: `total` is the sum of all committed bytes and all reservations.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    total: AtomicU64,
    blobs: AtomicU64,
    documents: AtomicU64,
}

/// The kind of a committed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredKind {
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

    /// All committed and reserved bytes.
    pub(super) fn total(&self) -> u64 {
        self.total.load(SeqCst)
    }

    /// Bytes that can still be reserved.
    pub(super) fn free(&self) -> u64 {
        self.limit.saturating_sub(self.total())
    }

    /// Bytes by which the total exceeds the limit: more than 0 only after the limit was lowered.
    pub(super) fn excess(&self) -> u64 {
        self.total().saturating_sub(self.limit)
    }

    /// Committed bytes of one kind.
    pub(super) fn committed(&self, kind: StoredKind) -> u64 {
        self.counter(kind).load(SeqCst)
    }

    /// Reserves `bytes` if they fit.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { budget: Arc::clone(self), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Reserves `bytes` that are on disk already, even beyond the limit: for files found at start.
    pub(super) fn account_existing(self: &Arc<Self>, bytes: u64) -> Reservation {
        self.total.fetch_add(bytes, SeqCst);
        Reservation { budget: Arc::clone(self), bytes }
    }

    /// Turns committed bytes back into a reservation: the file is about to be removed.
    pub(super) fn release(self: &Arc<Self>, kind: StoredKind, bytes: u64) -> Reservation {
        saturating_subtract(self.counter(kind), bytes);
        Reservation { budget: Arc::clone(self), bytes }
    }

    fn counter(&self, kind: StoredKind) -> &AtomicU64 {
        match kind {
            StoredKind::Blob => &self.blobs,
            StoredKind::Document => &self.documents,
        }
    }
}

/// Reserved bytes of the budget; dropping it releases them.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows to `bytes` in all if the difference fits; true if the reservation is at least that large afterwards.
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

    /// Releases what exceeds `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        saturating_subtract(&self.budget.total, less);
    }

    /// Commits the bytes to a stored file.
    pub(super) fn commit(mut self, kind: StoredKind) {
        self.budget.counter(kind).fetch_add(self.bytes, SeqCst);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        saturating_subtract(&self.budget.total, self.bytes);
    }
}

/// Saturates at zero: a counter that is too low for a while does less harm than one that stays full for ever.
fn saturating_subtract(counter: &AtomicU64, bytes: u64) {
    let changed = counter.fetch_update(SeqCst, SeqCst, |sum| Some(sum.saturating_sub(bytes)));
    debug_assert!(changed.is_ok_and(|sum| sum >= bytes), "more bytes were released than reserved");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_never_exceeds_the_limit_and_releases_all_its_bytes() {
        let budget = Budget::new(10 * BLOCK_BYTES);
        let mut first = budget.reserve(4 * BLOCK_BYTES).expect("fits");
        assert!(budget.reserve(7 * BLOCK_BYTES).is_none());
        assert!(!first.grow(11 * BLOCK_BYTES) && first.grow(10 * BLOCK_BYTES));
        assert_eq!((budget.total(), budget.free()), (10 * BLOCK_BYTES, 0));
        first.shrink(3 * BLOCK_BYTES);
        first.commit(StoredKind::Blob);
        assert_eq!((budget.total(), budget.committed(StoredKind::Blob)), (3 * BLOCK_BYTES, 3 * BLOCK_BYTES));
        drop(budget.release(StoredKind::Blob, 3 * BLOCK_BYTES));
        assert_eq!((budget.total(), budget.committed(StoredKind::Blob)), (0, 0));
    }

    #[test]
    fn a_file_counts_in_whole_blocks() {
        assert_eq!([0, 1, 4096, 4097].map(allocated_bytes), [0, 4096, 4096, 8192]);
    }
}
