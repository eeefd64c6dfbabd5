//! Requests to the bucket by their kind, and why one fails.

use std::time::Duration;

/// What a request does, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketOperation {
    /// Reads an object.
    Read,
    /// Asks whether there is an object.
    Look,
    /// Creates an object that must not exist, or replaces one that must be unchanged.
    Decide,
    /// Writes a zip under its digest.
    Upload,
    /// Deletes an object.
    Delete,
    /// Lists the names of objects.
    List,
}

/// Why the bucket could not be asked, or its answer is of no use. Contains no text of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// It failed several times, and is left alone for some seconds.
    #[error("the bucket failed, and is not asked for {} s", retry_after.as_secs().max(1))]
    Paused {
        /// The rest of the pause.
        retry_after: Duration,
    },
    /// No connection, or one that broke.
    #[error("the bucket cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the bucket did not answer in time")]
    TimedOut,
    /// An unexpected status.
    #[error("the bucket answered with status {0}")]
    Status(u16),
    /// An object that is not what its name says.
    #[error("an object in the bucket is damaged")]
    Damaged,
    /// It creates an object twice, or is not known to refuse that.
    #[error("the bucket is not known to create an object only once")]
    NotArbitrating,
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
