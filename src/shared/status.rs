//! What was asked of the bucket, and how it went: for metrics and `status`.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{BucketError, BucketOperation, probe::Arbitration};

/// Counters of the requests to the bucket since the start.
#[derive(Debug, Default)]
pub(super) struct BucketCounters {
    succeeded: [AtomicU64; BucketOperation::ALL.len()],
    failed: [AtomicU64; BucketOperation::ALL.len()],
    last_success: Mutex<Option<Timestamp>>,
    last_failure: Mutex<Option<(Timestamp, BucketError)>>,
}

/// The state of the bucket.
#[derive(Clone, Debug)]
pub struct BucketStatus {
    /// Requests that succeeded and failed, by what they do.
    pub requests: Vec<(BucketOperation, u64, u64)>,
    /// The last success.
    pub last_success: Option<Timestamp>,
    /// The last failure, and why.
    pub last_failure: Option<(Timestamp, BucketError)>,
    /// Seconds that it is left alone yet, because it failed; `None` while requests pass.
    pub paused_seconds: Option<u64>,
    /// Whether it decides which content a version has; `None` while that is not known.
    pub arbitration: Option<Arbitration>,
}

impl BucketOperation {
    /// All operations.
    pub const ALL: [Self; 6] = [Self::Read, Self::Look, Self::Decide, Self::Upload, Self::Delete, Self::List];

    /// The name, as a label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Look => "look",
            Self::Decide => "decide",
            Self::Upload => "upload",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

impl BucketCounters {
    pub(super) fn note(&self, operation: BucketOperation, error: Option<&BucketError>) {
        let counters = if error.is_some() { &self.failed } else { &self.succeeded };
        counters[operation as usize].fetch_add(1, Ordering::Relaxed);
        match error {
            Some(error) => *self.last_failure.lock() = Some((Timestamp::now(), *error)),
            None => *self.last_success.lock() = Some(Timestamp::now()),
        }
    }

    pub(super) fn read(&self, paused_seconds: Option<u64>, arbitration: Option<Arbitration>) -> BucketStatus {
        let load =
            |counters: &[AtomicU64], operation: BucketOperation| counters[operation as usize].load(Ordering::Relaxed);
        BucketStatus {
            requests: BucketOperation::ALL
                .iter()
                .map(|&operation| (operation, load(&self.succeeded, operation), load(&self.failed, operation)))
                .collect(),
            last_success: *self.last_success.lock(),
            last_failure: *self.last_failure.lock(),
            paused_seconds,
            arbitration,
        }
    }
}
