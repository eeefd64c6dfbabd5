//! The concurrency limit of one upstream.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::origin::FetchError;

/// The slots that one request holds; released when its body has ended or is dropped.
#[derive(Default)]
pub(super) struct SlotPermits {
    _request: Option<OwnedSemaphorePermit>,
    _archive: Option<OwnedSemaphorePermit>,
}

/// Limits the requests in flight. A quarter of the slots is never used by archives, which may hold theirs for minutes.
pub(super) struct RequestSlots {
    all: Arc<Semaphore>,
    archives: Arc<Semaphore>,
}

impl RequestSlots {
    /// `None` when the number of slots is zero or too large.
    pub(super) fn new(concurrency: usize) -> Option<Self> {
        if concurrency == 0 || concurrency > Semaphore::MAX_PERMITS {
            return None;
        }
        let archives = concurrency - concurrency.div_ceil(4).min(concurrency - 1);
        Some(Self { all: Arc::new(Semaphore::new(concurrency)), archives: Arc::new(Semaphore::new(archives)) })
    }

    /// Waits for the slot of a document request.
    pub(super) async fn for_document(&self) -> Result<SlotPermits, FetchError> {
        Ok(SlotPermits { _request: Some(acquire(&self.all).await?), _archive: None })
    }

    /// Waits for the slots of an archive request.
    pub(super) async fn for_archive(&self) -> Result<SlotPermits, FetchError> {
        let archive = acquire(&self.archives).await?;
        Ok(SlotPermits { _request: Some(acquire(&self.all).await?), _archive: Some(archive) })
    }
}

async fn acquire(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, FetchError> {
    // The semaphores are never closed.
    slots.clone().acquire_owned().await.map_err(|_| FetchError::Unreachable("shutting down"))
}
