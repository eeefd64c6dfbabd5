//! An object that was handed out a moment ago, without what would keep its file open.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{BlobFile, Content, Object, UsageCounters};
use crate::entry::Meta;

/// An object that is remembered without keeping its file open, or its bytes on disk once it has been removed.
#[derive(Clone, Debug)]
pub struct WeakObject {
    meta: Arc<Meta>,
    content: Kept,
    tier: &'static str,
    uses: Option<Arc<UsageCounters>>,
}

#[derive(Clone, Debug)]
enum Kept {
    Memory(Bytes),
    Disk(Weak<BlobFile>),
}

impl WeakObject {
    /// The object, while it is what a lookup would find: not once its file is closed, evicted or set aside.
    pub fn upgrade(&self) -> Option<Object> {
        let content = match &self.content {
            Kept::Memory(bytes) => Content::Memory(bytes.clone()),
            Kept::Disk(file) => {
                // Asks the open file, as a lookup does: one that was cut from outside heals with the next request.
                let is_there = |file: &Arc<BlobFile>| !file.is_retired() && file.fits(self.meta.len);
                Content::Disk(file.upgrade().filter(is_there)?)
            }
        };
        Some(Object { meta: self.meta.clone(), content, tier: self.tier, uses: self.uses.clone() })
    }

    /// Bytes of memory that it keeps.
    pub fn weight(&self) -> usize {
        match &self.content {
            Kept::Memory(bytes) => bytes.len(),
            Kept::Disk(_) => 0,
        }
    }
}

impl Object {
    /// Remembers it for a while.
    pub fn remember(&self) -> WeakObject {
        let content = match &self.content {
            Content::Memory(bytes) => Kept::Memory(bytes.clone()),
            Content::Disk(file) => Kept::Disk(Arc::downgrade(file)),
        };
        WeakObject { meta: self.meta.clone(), content, tier: self.tier, uses: self.uses.clone() }
    }
}
