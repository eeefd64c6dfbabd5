//! Where complete archives are kept: the [`Tier`] trait, and what a tier hands out.
//!
//! The memory tier stands over the disk tier; a shared bucket can stand below both. No tier assumes it is the only one.

use std::{io, sync::Arc};

use bytes::Bytes;

use crate::{
    entry::{Key, Meta},
    origin::BoxFuture,
};

pub mod disk;
mod generation;
pub mod memory;
mod usage;
mod weak_object;

pub use disk::blob::BlobFile;
pub use generation::{Generation, Generations};
pub use usage::{HitStats, TierStats, UsageCounters};
pub use weak_object::WeakObject;

/// A place that keeps complete archives by key.
pub trait Tier: Send + Sync {
    /// The tier's name in logs, metrics and `Cache-Status`.
    fn name(&self) -> &'static str;

    /// Looks a key up. A damaged object is set aside and reported as absent.
    ///
    /// # Errors
    /// When the tier itself fails; the caller treats that as absent and says so in the log.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, io::Result<Option<Object>>>;

    /// Offers a complete object; a tier may decline by doing nothing (too large for it, say).
    ///
    /// # Errors
    /// When the tier itself fails.
    fn put<'a>(&'a self, key: &'a Key, object: &'a Object) -> BoxFuture<'a, io::Result<()>>;

    /// Forgets a key; readers that have the object keep it.
    ///
    /// # Errors
    /// When the tier itself fails.
    fn remove<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, io::Result<()>>;

    /// What the tier holds at the moment.
    fn usage(&self) -> Usage;
}

/// What a tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, as they count against the limit.
    pub bytes: u64,
    /// The limit in bytes.
    pub limit: u64,
    /// Number of objects.
    pub objects: u64,
}

/// A complete archive in a tier. Cheap to clone; keeps its bytes readable while it lives, evicted or not.
#[derive(Clone, Debug)]
pub struct Object {
    /// What is stored about it.
    pub meta: Arc<Meta>,
    /// Its bytes.
    pub content: Content,
    /// The name of the tier that handed it out.
    pub tier: &'static str,
    /// Where its uses are noted; `None` for what is not stored yet.
    pub uses: Option<Arc<UsageCounters>>,
}

/// The bytes of an object.
#[derive(Clone, Debug)]
pub enum Content {
    /// All of them, in memory.
    Memory(Bytes),
    /// An open file.
    Disk(Arc<BlobFile>),
}

impl Object {
    /// Notes that it was used: what was used last is evicted last. Tiers leave this to whoever looks for a client.
    pub fn touch(&self) {
        if let Some(uses) = &self.uses {
            uses.touch();
        }
    }

    /// Counts an answer from the store.
    pub fn hit(&self) {
        if let Some(uses) = &self.uses {
            uses.hit(self.is_in_memory());
        }
    }

    /// Counts bytes of it that go to a client.
    pub fn sent(&self, bytes: u64) {
        if let Some(uses) = &self.uses {
            uses.sent(self.is_in_memory(), bytes);
        }
    }

    fn is_in_memory(&self) -> bool {
        matches!(self.content, Content::Memory(_))
    }

    /// Reads up to `max` bytes at `offset`; shorter only at the end of the object.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter than the object.
    pub async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(max).min(bytes.len());
                Ok(bytes.slice(start..end))
            }
            Content::Disk(file) => file.read(offset, self.within(offset, max)).await,
        }
    }

    /// As [`Object::read`], for a plain socket: bytes of a file become a region that is sent without being read.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub async fn frame(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        match &self.content {
            Content::Memory(_) => self.read(offset, max).await,
            Content::Disk(file) => file.frame(offset, self.within(offset, max)).await,
        }
    }

    /// Reads exactly the length of `buf` at `offset`. Blocks.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn read_exact(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
                buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Content::Disk(file) => file.fill(buf, offset),
        }
    }

    /// At most `max` of the bytes from `offset` on that there are.
    fn within(&self, offset: u64, max: usize) -> usize {
        usize::try_from(self.meta.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(max)
    }
}
