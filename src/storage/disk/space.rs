//! Space in the budget for new files, evicting others where needed.

use std::sync::Arc;

use super::{
    SpoolError,
    budget::{Budget, Reservation, allocated_bytes},
    eviction::Eviction,
    index::{Index, MissingBytes},
};

/// The budget with eviction behind it. All methods block.
pub(super) struct Space {
    budget: Arc<Budget>,
    eviction: Arc<Eviction>,
    index: Arc<Index>,
    /// Bytes that a body of unknown length may take by evicting others.
    unannounced_share: u64,
}

impl Space {
    pub(super) fn new(budget: Arc<Budget>, eviction: Arc<Eviction>, index: Arc<Index>, unannounced_share: u64) -> Self {
        Self { budget, eviction, index, unannounced_share }
    }

    /// True if `bytes` are free, or would be after evicting everything that is not read.
    pub(super) fn may_hold(&self, bytes: u64) -> bool {
        bytes <= self.budget.free().saturating_add(self.eviction.evictable_bytes())
    }

    /// Bytes that a body of unknown length may take by evicting others.
    pub(super) fn unannounced_share(&self) -> u64 {
        self.unannounced_share
    }

    /// The limit in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// Makes a reservation at least `bytes` large, evicting what was used least recently.
    ///
    /// # Errors
    /// [`SpoolError::NoSpace`]; nothing is evicted if evicting everything would not suffice.
    pub(super) fn grow(&self, reservation: &mut Reservation, bytes: u64) -> Result<(), SpoolError> {
        // Other threads may take what was freed; every round frees something or is the last.
        while !reservation.grow(bytes) {
            let missing = (bytes - reservation.bytes()).saturating_sub(self.budget.free());
            let hopeless = missing > self.eviction.evictable_bytes();
            if hopeless || (self.eviction.run(missing) == 0 && missing > 0) {
                return if reservation.grow(bytes) { Ok(()) } else { Err(SpoolError::NoSpace) };
            }
        }
        Ok(())
    }

    /// Makes a reservation exactly `bytes` large.
    ///
    /// # Errors
    /// As [`Space::grow`].
    pub(super) fn resize(&self, reservation: &mut Reservation, bytes: u64) -> Result<(), SpoolError> {
        self.grow(reservation, bytes)?;
        reservation.shrink(bytes);
        Ok(())
    }

    /// Reserves `bytes`.
    ///
    /// # Errors
    /// As [`Space::grow`].
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation, SpoolError> {
        let mut reservation = self.budget.account_existing(0);
        self.grow(&mut reservation, bytes).map(|()| reservation)
    }

    /// Evicts up to `bytes` for a write that the file system refused; returns the bytes freed.
    pub(super) fn evict(&self, bytes: u64) -> u64 {
        self.eviction.run(bytes)
    }

    /// Evicts what exceeds the limit.
    pub(super) fn evict_excess(&self) {
        let excess = self.budget.excess();
        if excess > 0 {
            self.eviction.run(excess);
        }
    }

    /// Keeps twice the index's length reserved, as far as there is space. Call it after writes, never while evicting.
    pub(super) fn resize_index_reservation(&self) {
        let wanted = 2 * allocated_bytes(self.index.len());
        if let Err(MissingBytes(missing)) = self.index.reservation().resize(wanted) {
            // Evicts without the reservation's lock: eviction writes to the index, which may need to grow.
            if let Ok(extra) = self.reserve(missing) {
                drop(extra);
                self.index.reservation().grow(wanted);
            }
        }
    }
}
