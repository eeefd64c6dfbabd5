//! Memory for archives that have no room on disk: each is received whole, verified and pinned like any other, and given to
//! the clients that wait for it. It is stored nowhere.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{
    entry::Digest,
    origin::{FetchError, Growing},
    storage::BlobFile,
    value::memory_budget::{MemoryBudget, MemoryShare},
};

/// Largest archive that is received without room on disk; less where `memory.limit` is low.
const MAX_MEMORY_BODY_BYTES: u64 = 64 << 20;
/// A body takes shares of the memory in steps of this many bytes: an announced length costs nothing.
const SHARE_STEP_BYTES: u64 = 1 << 20;

/// Half of the memory of requests under way, for bodies of at most a quarter of it each, so that other work goes on.
pub(super) struct MemoryRoom {
    /// All work under way.
    work: MemoryBudget,
    /// The bodies alone.
    bodies: MemoryBudget,
    max_body_bytes: u64,
}

/// A body that arrives in memory.
pub(super) struct MemoryBody {
    bytes: Vec<u8>,
    hash: Sha256,
    max_bytes: u64,
    work_share: MemoryShare,
    bodies_share: MemoryShare,
}

/// Why a body is not received in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemoryBodyError {
    /// It is larger than what may be received without room on disk.
    TooLarge,
    /// The spool with its first part cannot be read back.
    Unreadable,
    /// The memory is taken, or another failure of the fetch.
    Fetch(FetchError),
}

/// A whole body, as a verifier reads it.
struct WholeBody(Bytes);

impl MemoryRoom {
    pub(super) fn new(work: MemoryBudget) -> Self {
        let total = work.total_bytes();
        let bodies = MemoryBudget::new(total / 2, total / 2);
        Self { work, bodies, max_body_bytes: MAX_MEMORY_BODY_BYTES.min(total / 4) }
    }

    /// An empty body of an announced length.
    ///
    /// # Errors
    /// [`MemoryBodyError::TooLarge`].
    pub(super) fn body(&self, announced: Option<u64>) -> Result<MemoryBody, MemoryBodyError> {
        if announced.is_some_and(|len| len > self.max_body_bytes) {
            return Err(MemoryBodyError::TooLarge);
        }
        Ok(MemoryBody {
            bytes: Vec::new(),
            hash: Sha256::new(),
            max_bytes: announced.unwrap_or(self.max_body_bytes),
            work_share: self.work.share(),
            bodies_share: self.bodies.share(),
        })
    }
}

impl MemoryBody {
    /// Appends bytes; waits briefly for memory.
    ///
    /// # Errors
    /// See [`MemoryBodyError`].
    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), MemoryBodyError> {
        let len = (self.bytes.len() + chunk.len()) as u64;
        if len > self.max_bytes {
            return Err(MemoryBodyError::TooLarge);
        }
        if self.bytes.capacity() == 0 {
            // Address space only: the system gives memory to the pages that are written.
            self.bytes.reserve_exact(usize::try_from(self.max_bytes).unwrap_or(usize::MAX));
        }
        let step = len.next_multiple_of(SHARE_STEP_BYTES).min(self.max_bytes.max(len));
        for share in [&mut self.bodies_share, &mut self.work_share] {
            share.grow_to(step).await.map_err(|shortage| MemoryBodyError::Fetch(shortage.into()))?;
        }
        self.hash.update(chunk);
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Appends the first `len` bytes of a spool.
    ///
    /// # Errors
    /// See [`MemoryBodyError`].
    pub(super) async fn write_spooled(&mut self, spool: &Arc<BlobFile>, len: u64) -> Result<(), MemoryBodyError> {
        if len > self.max_bytes {
            return Err(MemoryBodyError::TooLarge);
        }
        let mut offset = 0;
        while offset < len {
            let step = usize::try_from((len - offset).min(SHARE_STEP_BYTES)).unwrap_or(usize::MAX);
            let read = spool.read(offset, step).await.map_err(|error| {
                tracing::warn!(%error, "a spool that ran out of room cannot be read back");
                MemoryBodyError::Unreadable
            })?;
            self.write(&read).await?;
            offset += read.len() as u64;
        }
        Ok(())
    }

    /// The digest of the bytes so far.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// The bytes, which hold their memory until the last client that reads them has left.
    pub(super) fn into_bytes(mut self) -> Bytes {
        self.bytes.shrink_to_fit();
        self.bodies_share.hold(self.work_share.hold(self.bytes.into()))
    }
}

/// A whole body in memory for a verifier.
pub(super) fn whole_body(bytes: Bytes) -> impl Growing {
    WholeBody(bytes)
}

impl Growing for WholeBody {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(total: u64) -> (MemoryBudget, MemoryRoom) {
        let budget = MemoryBudget::new(total, total);
        (budget.clone(), MemoryRoom::new(budget))
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_take_half_of_the_memory_and_give_it_back_with_their_last_reader() {
        let (budget, room) = room(40 * MIB);
        let mut bodies = Vec::new();
        for _ in 0..2 {
            let mut body = room.body(None).expect("small");
            body.write(&vec![7; 10 << 20]).await.expect("room");
            bodies.push(body);
        }
        let mut third = room.body(None).expect("small");
        assert!(matches!(third.write(b"x").await, Err(MemoryBodyError::Fetch(FetchError::NoMemory { .. }))));
        assert_eq!(budget.taken(), 20 * MIB, "the other half is for other work");
        let bytes = bodies.pop().expect("two").into_bytes();
        drop(bodies);
        assert_eq!(budget.taken(), 10 * MIB);
        third.write(b"x").await.expect("given back");
        drop((bytes, third));
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_body_is_refused_by_its_announced_length_or_when_it_grows_beyond_it() {
        let (budget, room) = room(40 * MIB);
        assert!(matches!(room.body(Some(10 * MIB + 1)), Err(MemoryBodyError::TooLarge)));
        let mut announced = room.body(Some(10 * MIB)).expect("small");
        announced.write(b"abc").await.expect("room");
        assert_eq!((announced.digest(), budget.taken()), (Digest::of(b"abc"), MIB), "the length costs nothing");
        let mut unknown = room.body(None).expect("any");
        unknown.write(&vec![0; 10 << 20]).await.expect("room");
        assert_eq!(unknown.write(b"x").await, Err(MemoryBodyError::TooLarge));
    }
}
