//! The storage tiers: complete archives and documents, in memory and on disk.
//!
//! [`memory::Memory`] keeps small archives, [`disk::Disk`] keeps all of them. Both return an [`Object`]; the cache
//! decides which tier it asks first. The bucket that mirrors share is a further tier, in [`crate::cache`]: no tier
//! assumes that it is the only one.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;

use crate::entry::Meta;

pub mod disk;
mod generation;
pub mod memory;
mod usage;
mod weak_object;

pub use disk::blob::BlobFile;
pub use generation::{Generation, Generations};
pub use usage::{HitStats, TierStats, UsageCounters};
pub use weak_object::WeakObject;

/// How full a tier is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierUsage {
    /// Bytes that count against the limit.
    pub bytes: u64,
    /// The limit in bytes.
    pub limit: u64,
    /// Number of objects.
    pub objects: u64,
}

/// A complete archive in a tier. Cheap to clone; its bytes stay readable while it lives, even after eviction.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its metadata.
    pub meta: Arc<Meta>,
    /// Its bytes.
    pub content: ObjectContent,
    /// The name of the tier that returned it, as `Cache-Status` shows it.
    pub tier: &'static str,
    /// Counts its use; `None` for an object that is not stored.
    pub usage: Option<Arc<UsageCounters>>,
}

/// Where the bytes of an object are.
#[derive(Clone, Debug)]
pub enum ObjectContent {
    /// In memory.
    Memory(Bytes),
    /// In an open file.
    Disk(Arc<BlobFile>),
}

impl Object {
    /// An archive in a file that no tier holds. `tier` is shown in `Cache-Status`.
    pub fn of_file(file: File, meta: Arc<Meta>, tier: &'static str) -> Self {
        let content = ObjectContent::Disk(Arc::new(BlobFile::uncounted(file)));
        Self { meta, content, tier, usage: Some(Arc::new(UsageCounters::new(0))) }
    }

    /// Records a use: the least recently used object is evicted first. Lookups in a tier do not call this, because not
    /// every lookup is made for a client.
    pub fn record_use(&self) {
        if let Some(usage) = &self.usage {
            usage.record_use();
        }
    }

    /// True for an archive that is stored in no tier, for want of room, and is in memory for the clients that wait for it.
    pub fn is_passing_through(&self) -> bool {
        self.usage.is_none() && self.is_in_memory()
    }

    /// Counts a response served from this object.
    pub fn record_hit(&self) {
        if let Some(usage) = &self.usage {
            usage.record_hit(self.is_in_memory());
        }
    }

    /// Counts bytes of this object that are sent to a client.
    pub fn record_sent(&self, bytes: u64) {
        if let Some(usage) = &self.usage {
            usage.record_sent(self.is_in_memory(), bytes);
        }
    }

    fn is_in_memory(&self) -> bool {
        matches!(self.content, ObjectContent::Memory(_))
    }

    /// Reads up to `max` bytes at `offset`; returns fewer only at the end of the object.
    ///
    /// # Errors
    /// When the file cannot be read, or is shorter than the object.
    pub async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        match &self.content {
            ObjectContent::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(max).min(bytes.len());
                Ok(bytes.slice(start..end))
            }
            ObjectContent::Disk(file) => file.read(offset, self.clamp_len(offset, max)).await,
        }
    }

    /// As [`Object::read`], for a plain socket: the bytes of a file become a slice that `sendfile` sends
    /// ([`crate::sendfile`]).
    ///
    /// # Errors
    /// As [`Object::read`].
    pub async fn read_for_sendfile(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        match &self.content {
            ObjectContent::Memory(_) => self.read(offset, max).await,
            ObjectContent::Disk(file) => file.read_for_sendfile(offset, self.clamp_len(offset, max)).await,
        }
    }

    /// Fills `buf` from `offset` on. Blocks.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn read_exact(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.content {
            ObjectContent::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let slice = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
                buf.copy_from_slice(slice.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            ObjectContent::Disk(file) => file.read_exact(buf, offset),
        }
    }

    /// `max`, or the number of bytes from `offset` to the end where that is less.
    fn clamp_len(&self, offset: u64, max: usize) -> usize {
        usize::try_from(self.meta.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(max)
    }
}
