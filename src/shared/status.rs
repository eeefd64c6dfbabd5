//! The requests to the bucket and their results, for metrics and `status`.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{BucketError, BucketOperation};

/// Counters of the requests to the bucket since the start.
#[derive(Debug, Default)]
pub(super) struct BucketCounters {
    succeeded: [AtomicU64; BucketOperation::ALL.len()],
    failed: [AtomicU64; BucketOperation::ALL.len()],
    last_success: Mutex<Option<Timestamp>>,
    last_failure: Mutex<Option<BucketFailure>>,
}

/// The requests of one operation since the start.
#[derive(Clone, Copy, Debug)]
pub struct OperationCounts {
    /// The operation.
    pub operation: BucketOperation,
    /// Requests that succeeded.
    pub succeeded: u64,
    /// Requests that failed.
    pub failed: u64,
}

/// A request that failed.
#[derive(Clone, Copy, Debug)]
pub struct BucketFailure {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub error: BucketError,
}

/// The state of the bucket.
#[derive(Clone, Debug)]
pub struct BucketStatus {
    /// The requests, by what they do.
    pub requests: Vec<OperationCounts>,
    /// The last success.
    pub last_success: Option<Timestamp>,
    /// The last failure.
    pub last_failure: Option<BucketFailure>,
    /// The rest of the pause after failures, in seconds; `None` while requests pass.
    pub paused_seconds: Option<u64>,
    /// Whether it decides which content a version has; `None` while that is not known.
    pub arbitration: Option<Arbitration>,
}

impl BucketCounters {
    pub(super) fn note(&self, operation: BucketOperation, error: Option<&BucketError>) {
        let counters = if error.is_some() { &self.failed } else { &self.succeeded };
        counters[operation as usize].fetch_add(1, Ordering::Relaxed);
        match error {
            Some(error) => *self.last_failure.lock() = Some(BucketFailure { at: Timestamp::now(), error: *error }),
            None => *self.last_success.lock() = Some(Timestamp::now()),
        }
    }

    pub(super) fn read(&self, paused_seconds: Option<u64>, arbitration: Option<Arbitration>) -> BucketStatus {
        let load =
            |counters: &[AtomicU64], operation: BucketOperation| counters[operation as usize].load(Ordering::Relaxed);
        BucketStatus {
            requests: BucketOperation::ALL
                .iter()
                .map(|&operation| OperationCounts {
                    operation,
                    succeeded: load(&self.succeeded, operation),
                    failed: load(&self.failed, operation),
                })
                .collect(),
            last_success: *self.last_success.lock(),
            last_failure: *self.last_failure.lock(),
            paused_seconds,
            arbitration,
        }
    }
}

/// How the bucket refuses to create an object that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arbitration {
    /// By `If-None-Match: *` (RFC 9110 §13.1.2).
    ByCondition,
    /// By the header `x-oss-forbid-overwrite` of Alibaba Cloud's service.
    ByOwnHeader,
    /// It does not.
    Absent,
}
