//! Eviction: frees bytes by removing quarantined files and blobs, least recently used first.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;

use super::{
    blobs::{Blobs, Spare},
    quarantine::Quarantine,
    usage_flush::UsageFlush,
};
use crate::observe::CacheMetrics;

/// Frees bytes for new files. Only tries the locks of digests, so a caller may hold one.
pub(super) struct Eviction {
    blobs: Arc<Blobs>,
    quarantine: Arc<Quarantine>,
    flush: Arc<UsageFlush>,
    metrics: Arc<CacheMetrics>,
    /// Held while evicting, so that concurrent callers do not free twice as much.
    evicting: Mutex<()>,
}

impl Eviction {
    pub(super) fn new(
        blobs: Arc<Blobs>,
        quarantine: Arc<Quarantine>,
        flush: Arc<UsageFlush>,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        Self { blobs, quarantine, flush, metrics, evicting: Mutex::default() }
    }

    /// Frees at least `missing` bytes if possible: quarantined files first, then blobs without readers. Blobs that are read
    /// stay: unlinking them frees nothing before their last reader closes them. Returns the bytes freed. Blocks.
    pub(super) fn run(&self, missing: u64) -> u64 {
        let _evicting = self.evicting.lock();
        let mut freed = 0;
        while freed < missing && self.quarantine.evictable_bytes() > 0 {
            let before = self.quarantine.bytes();
            match self.quarantine.remove_oldest() {
                Ok(true) => freed += before.saturating_sub(self.quarantine.bytes()),
                Ok(false) => break,
                Err(cause) => warn!(%cause, "a quarantined file cannot be removed"),
            }
        }
        freed += self.blobs.evict(missing.saturating_sub(freed), Spare::ReadOrUsed);
        if freed < missing && self.flush.run().is_ok() {
            freed += self.blobs.evict(missing - freed, Spare::Read);
        }
        self.metrics.note_evicted(freed);
        if freed > 0
            && let Err(cause) = self.blobs.purge_unlinked_rows()
        {
            warn!(%cause, "the rows of evicted blobs cannot be removed");
        }
        freed
    }

    /// Bytes that evicting everything would free now.
    pub(super) fn evictable_bytes(&self) -> u64 {
        self.blobs.evictable_bytes() + self.quarantine.evictable_bytes()
    }
}
