//! The memory that running work may take: one number for the documents that arrive and are parsed, the directories of
//! zips under verification, and the renditions and small zips that clients are still reading.
//!
//! Work takes a share of the budget before it allocates. A share is given back when it is dropped. Work that finds the
//! budget taken waits for [`WAIT`] at most and is then refused, so that what is stored goes on being served.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Shares are multiples of this many bytes.
const GRAIN_BYTES: u64 = 16 << 10;
/// How long work waits for memory.
pub const WAIT: Duration = Duration::from_secs(2);
/// Time after which work that found no memory may be tried again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A number of bytes that work shares. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    grains: Arc<Semaphore>,
    /// Most grains of one share, so that the largest piece of work runs when it is alone.
    max_share: u32,
    total: u32,
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    budget: MemoryBudget,
    permit: Option<OwnedSemaphorePermit>,
}

/// The budget is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory for requests under way is taken (memory.limit)")]
pub struct MemoryShortage;

impl MemoryBudget {
    /// A budget of `total` bytes. One share counts as `max_share` bytes at most, however large it becomes.
    pub fn new(total: u64, max_share: u64) -> Self {
        // No semaphore holds more; in grains, this is far more than any machine has.
        let grains = |bytes: u64| u32::try_from(bytes / GRAIN_BYTES).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        let total = grains(total);
        Self { grains: Arc::new(Semaphore::new(total as usize)), max_share: grains(max_share).min(total), total }
    }

    /// A budget that is never taken, for programs that do one thing at a time.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, u64::MAX)
    }

    /// An empty share.
    pub fn share(&self) -> MemoryShare {
        MemoryShare { budget: self.clone(), permit: None }
    }

    /// Bytes in all.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.total) * GRAIN_BYTES
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> u64 {
        (self.total as usize).saturating_sub(self.grains.available_permits()) as u64 * GRAIN_BYTES
    }
}

impl MemoryShare {
    /// Makes the share at least this large, without waiting.
    ///
    /// # Errors
    /// When the rest of the budget is smaller.
    pub fn try_grow_to(&mut self, bytes: u64) -> Result<(), MemoryShortage> {
        let missing = self.missing(bytes);
        if missing > 0 {
            let added = self.budget.grains.clone().try_acquire_many_owned(missing).map_err(|_| MemoryShortage)?;
            self.add(added);
        }
        Ok(())
    }

    /// Makes the share at least this large; waits for [`WAIT`] at most.
    ///
    /// # Errors
    /// When the rest of the budget stays smaller.
    pub async fn grow_to(&mut self, bytes: u64) -> Result<(), MemoryShortage> {
        let missing = self.missing(bytes);
        if missing > 0 {
            let added = timeout(WAIT, self.budget.grains.clone().acquire_many_owned(missing)).await;
            self.add(added.ok().and_then(Result::ok).ok_or(MemoryShortage)?);
        }
        Ok(())
    }

    /// As [`MemoryShare::grow_to`], for blocking threads of the runtime. Outside a runtime it does not wait.
    ///
    /// # Errors
    /// As [`MemoryShare::grow_to`].
    pub fn grow_to_blocking(&mut self, bytes: u64) -> Result<(), MemoryShortage> {
        match (self.try_grow_to(bytes), Handle::try_current()) {
            (Err(_), Ok(runtime)) => runtime.block_on(self.grow_to(bytes)),
            (grown, _) => grown,
        }
    }

    /// Gives back what exceeds these bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let kept = usize::try_from(bytes.div_ceil(GRAIN_BYTES)).unwrap_or(usize::MAX);
        let surplus = self.grains().saturating_sub(kept);
        drop(self.permit.as_mut().and_then(|permit| permit.split(surplus)));
    }

    /// Bytes of the share.
    pub fn bytes(&self) -> u64 {
        self.grains() as u64 * GRAIN_BYTES
    }

    /// The bytes, which hold the share until their last clone is dropped.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(HeldBytes { bytes, _share: self })
    }

    fn grains(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn missing(&self, bytes: u64) -> u32 {
        let grains = u32::try_from(bytes.div_ceil(GRAIN_BYTES)).unwrap_or(u32::MAX).min(self.budget.max_share);
        grains.saturating_sub(u32::try_from(self.grains()).unwrap_or(u32::MAX))
    }

    fn add(&mut self, added: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(added),
            None => self.permit = Some(added),
        }
    }
}

/// A share that is held as long as a value and its clones live. Any two compare as equal: it is no part of the value's content.
#[derive(Clone, Debug, Default)]
pub struct HeldMemory {
    _share: Option<Arc<MemoryShare>>,
}

impl HeldMemory {
    /// Holds a share.
    pub fn new(share: MemoryShare) -> Self {
        Self { _share: Some(Arc::new(share)) }
    }
}

impl PartialEq for HeldMemory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

struct HeldBytes {
    bytes: Bytes,
    _share: MemoryShare,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn work_that_finds_the_budget_taken_waits_briefly_and_is_refused() {
        let budget = MemoryBudget::new(8 * MIB, 8 * MIB);
        let mut first = budget.share();
        first.grow_to(6 * MIB).await.expect("free");
        let mut second = budget.share();
        second.grow_to(2 * MIB).await.expect("free");
        let began = Instant::now();
        assert_eq!(second.grow_to(3 * MIB).await, Err(MemoryShortage));
        assert_eq!(began.elapsed(), WAIT);
        assert_eq!((second.bytes(), budget.taken()), (2 * MIB, 8 * MIB), "what it had is still its own");
        let waiting = tokio::spawn(async move { second.grow_to(3 * MIB).await.map(|()| second) });
        tokio::task::yield_now().await;
        drop(first);
        let second = waiting.await.expect("no panic").expect("given back in time");
        assert_eq!(budget.taken(), 3 * MIB);
        drop(second);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_share_shrinks_to_what_is_needed() {
        let budget = MemoryBudget::new(8 * MIB, 8 * MIB);
        let mut share = budget.share();
        share.try_grow_to(4 * MIB).expect("free");
        share.shrink_to(MIB + 1);
        assert_eq!((share.bytes(), budget.taken()), (MIB + GRAIN_BYTES, MIB + GRAIN_BYTES));
        share.shrink_to(2 * MIB);
        assert_eq!(share.bytes(), MIB + GRAIN_BYTES, "it does not grow");
        let held = HeldMemory::new(share);
        let clone = held.clone();
        drop(held);
        assert_eq!(budget.taken(), MIB + GRAIN_BYTES);
        drop(clone);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_piece_of_work_larger_than_the_budget_runs_alone() {
        let budget = MemoryBudget::new(8 * MIB, 4 * MIB);
        let mut large = budget.share();
        large.try_grow_to(1000 * MIB).expect("alone");
        assert_eq!(large.bytes(), 4 * MIB);
    }

    #[test]
    fn bytes_hold_their_share_until_the_last_reader_has_left() {
        let budget = MemoryBudget::new(8 * MIB, 8 * MIB);
        let mut share = budget.share();
        share.grow_to_blocking(MIB).expect("free, outside a runtime");
        let bytes = share.hold(Bytes::from_static(b"text"));
        let reader = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&reader[..], budget.taken()), (&b"ex"[..], MIB));
        drop(reader);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_budget_without_a_limit_is_never_taken() {
        let budget = MemoryBudget::unlimited();
        for _ in 0..3 {
            std::mem::forget({
                let mut share = budget.share();
                share.try_grow_to(1 << 30).expect("free");
                share
            });
        }
    }
}
