//! Counters of the cache: what was downloaded, pinned and evicted since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a download ended, as labels.
pub const DOWNLOAD_OUTCOMES: [&str; 4] = ["stored", "memory", "no-room", "failed"];

/// How a download ended. The positions are those of [`DOWNLOAD_OUTCOMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// Complete and verified, on disk.
    Stored,
    /// Complete and verified, in memory only: the disk had no room.
    InMemory,
    /// Refused for want of room.
    NoRoom,
    /// The upstream failed, or the content was refused.
    Failed,
}

/// Counters of one cache since the start.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    downloads: [AtomicU64; DOWNLOAD_OUTCOMES.len()],
    pins: AtomicU64,
    pin_mismatches: AtomicU64,
    evicted_bytes: AtomicU64,
}

impl CacheMetrics {
    /// Counts a download that has ended.
    pub fn note_download(&self, outcome: DownloadOutcome) {
        self.downloads[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts content that was pinned, or equals its pin.
    pub fn note_pin(&self) {
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts content that was refused because other content is pinned.
    pub fn note_pin_mismatch(&self) {
        self.pin_mismatches.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes that were removed to make room.
    pub fn note_evicted(&self, bytes: u64) {
        self.evicted_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counters at present.
    pub fn read(&self) -> CacheCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            downloads: std::array::from_fn(|outcome| read(&self.downloads[outcome])),
            pins_settled: read(&self.pins),
            pin_mismatches: read(&self.pin_mismatches),
            evicted_bytes: read(&self.evicted_bytes),
        }
    }
}

/// The counters of one cache at one time.
#[derive(Clone, Copy, Debug)]
pub struct CacheCounters {
    /// Downloads that have ended, by [`DOWNLOAD_OUTCOMES`].
    pub downloads: [u64; DOWNLOAD_OUTCOMES.len()],
    /// Downloads whose content was pinned or equals its pin.
    pub pins_settled: u64,
    /// Downloads that were refused because other content is pinned.
    pub pin_mismatches: u64,
    /// Bytes that were removed from disk to make room.
    pub evicted_bytes: u64,
}
