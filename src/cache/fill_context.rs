//! What all fills use, and why one ends without an object.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    ArchiveTiers, BackgroundTasks, PinRecords,
    bucket_tier::BucketTier,
    fleet_tier::FleetTier,
    memory_room::{MemoryBodyError, MemoryRoom},
    negative_cache::NegativeCache,
    no_room::KeysWithoutRoom,
    policy::ArchiveConfig,
};
use crate::{
    clock::Clock,
    origin::{FetchError, VerifyError},
    value::memory_budget::MemoryBudget,
};

/// The parts that all fills use.
pub(super) struct FillContext {
    pub(super) tiers: Arc<ArchiveTiers>,
    pub(super) pins: PinRecords,
    pub(super) failures: NegativeCache,
    pub(super) without_room: KeysWithoutRoom,
    /// For archives without room on disk.
    pub(super) memory: MemoryRoom,
    /// The tier behind the disk.
    pub(super) bucket: Option<Arc<BucketTier>>,
    /// The other nodes over the bucket.
    pub(super) fleet: Option<Arc<FleetTier>>,
    pub(super) limits: ArchiveConfig,
    pub(super) clock: Clock,
    pub(super) tasks: BackgroundTasks,
    /// Cancelled at shutdown, when no client waits for a download any more.
    pub(super) aborted: CancellationToken,
}

impl FillContext {
    pub(super) fn new(
        tiers: Arc<ArchiveTiers>,
        pins: PinRecords,
        failures: NegativeCache,
        memory: MemoryBudget,
        limits: ArchiveConfig,
        clock: Clock,
        tasks: BackgroundTasks,
    ) -> Self {
        let without_room = KeysWithoutRoom::new(clock.clone());
        let memory = MemoryRoom::new(memory);
        let aborted = CancellationToken::new();
        Self { tiers, pins, failures, without_room, memory, bucket: None, fleet: None, limits, clock, tasks, aborted }
    }

    /// The same, with the bucket behind the disk, and the other nodes over it.
    pub(super) fn with_shared(self, bucket: Option<Arc<BucketTier>>, fleet: Option<Arc<FleetTier>>) -> Self {
        Self { bucket, fleet, ..self }
    }
}

/// Why a fill ends without an object.
#[derive(Debug)]
pub(super) enum FillFailure {
    /// The download did not begin: the upstream's client has logged why. To be remembered in the negative cache.
    NotOpened(FetchError),
    /// To be logged, and remembered in the negative cache.
    Failed(FetchError),
    /// From the negative cache: a failure that is younger than its cool-down.
    Remembered(FetchError),
    /// Neither disk nor memory has room for it.
    NoRoom,
    /// The spool cannot be read back: the next download of the key does without one.
    SpoolUnreadable,
}

impl From<FetchError> for FillFailure {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl From<MemoryBodyError> for FillFailure {
    fn from(error: MemoryBodyError) -> Self {
        match error {
            MemoryBodyError::TooLarge => Self::NoRoom,
            MemoryBodyError::Unreadable => Self::SpoolUnreadable,
            MemoryBodyError::Fetch(error) => Self::Failed(error),
        }
    }
}

impl From<VerifyError> for FillFailure {
    /// An I/O error means that the spool cannot be read back: the disk's fault, not the upstream's.
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Invalid(reason) => Self::Failed(FetchError::Invalid(reason)),
            VerifyError::NoMemory(shortage) => Self::Failed(shortage.into()),
            VerifyError::Io(error) => {
                tracing::warn!(%error, "the spool cannot be read back");
                Self::SpoolUnreadable
            }
        }
    }
}
