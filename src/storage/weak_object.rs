//! A weak handle on an object: it does not keep the file open.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{BlobFile, Object, ObjectContent, UsageCounters};
use crate::entry::Meta;

/// An object whose file may be closed and whose bytes on disk may be freed while this handle lives.
#[derive(Clone, Debug)]
pub struct WeakObject {
    meta: Arc<Meta>,
    content: WeakContent,
    tier: &'static str,
    usage: Option<Arc<UsageCounters>>,
}

#[derive(Clone, Debug)]
enum WeakContent {
    Memory(Bytes),
    Disk(Weak<BlobFile>),
}

impl WeakObject {
    /// The object, if a lookup would still return it: `None` once its file is closed, evicted or quarantined.
    pub fn upgrade(&self) -> Option<Object> {
        let content = match &self.content {
            WeakContent::Memory(bytes) => ObjectContent::Memory(bytes.clone()),
            WeakContent::Disk(file) => {
                // The same check as in a lookup: a file that was truncated on disk is quarantined by the next lookup.
                let is_current = |file: &Arc<BlobFile>| !file.is_retired() && file.is_linked_with_len(self.meta.len);
                ObjectContent::Disk(file.upgrade().filter(is_current)?)
            }
        };
        Some(Object { meta: self.meta.clone(), content, tier: self.tier, usage: self.usage.clone() })
    }

    /// Bytes of memory that this handle keeps alive.
    pub fn weight(&self) -> usize {
        match &self.content {
            WeakContent::Memory(bytes) => bytes.len(),
            WeakContent::Disk(_) => 0,
        }
    }
}

impl Object {
    /// A weak handle on this object.
    pub fn downgrade(&self) -> WeakObject {
        let content = match &self.content {
            ObjectContent::Memory(bytes) => WeakContent::Memory(bytes.clone()),
            ObjectContent::Disk(file) => WeakContent::Disk(Arc::downgrade(file)),
        };
        WeakObject { meta: self.meta.clone(), content, tier: self.tier, usage: self.usage.clone() }
    }
}
