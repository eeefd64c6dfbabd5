//! What a garbage collection is asked, how far it is, and what it counts.

use std::time::Duration;

use serde::Serialize;

/// Requests at once.
pub(super) const CONCURRENT_REQUESTS: usize = 16;

/// What a collection deletes.
#[derive(Clone, Copy, Debug)]
pub struct GarbageRules {
    /// Whether anything is written or deleted.
    pub mode: GarbageMode,
    /// How long a zip is marked before it is deleted, and how old it is before it is marked; at least [`super::MIN_GRACE`],
    /// unless nothing else uses the bucket.
    pub grace: Duration,
    /// Documents that no upstream has confirmed for this long are deleted.
    pub documents_older_than: Option<Duration>,
}

/// Whether a collection writes and deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GarbageMode {
    /// It says what it would do.
    Report,
    /// It does it.
    Delete,
}

/// How far a collection is.
#[derive(Clone, Copy, Debug)]
pub enum GarbageProgress {
    /// This many claims were read.
    Claims(u64),
    /// This many fetched zips were looked at.
    Zips(u64),
    /// This many records of published versions were read.
    Records(u64),
    /// This many published zips were looked at.
    PublishedZips(u64),
    /// This many other objects were looked at.
    Others(u64),
}

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectSum {
    /// Their number.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ObjectSum {
    pub(super) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}
