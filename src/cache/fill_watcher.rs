//! Follows a fill to its end without reading its bytes, for callers that want an archive stored and not sent.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    ArchiveCache, ArchiveRequest, CacheFailure,
    archive_tiers::not_storable,
    fill_state::{FillHandle, FillProgress},
};
use crate::{
    entry::Meta,
    http::cache_status::{CacheStatus, Fwd},
    origin::FetchError,
    storage::Object,
};

/// Shortest time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Follows one fill. Dropping it leaves the fill alone.
pub struct FillWatcher {
    archives: Arc<ArchiveCache>,
    request: ArchiveRequest,
    fill: Option<FillHandle>,
    reported: Option<u64>,
}

/// What [`FillWatcher::next`] returns.
#[derive(Clone, Debug)]
pub enum FillUpdate {
    /// The archive is arriving.
    Progress {
        /// Bytes so far.
        bytes: u64,
        /// The announced length.
        total: Option<u64>,
    },
    /// The archive is on disk.
    Stored(Arc<Meta>),
}

impl ArchiveCache {
    /// Follows the fill of an archive without reading its bytes; starts it where the archive is neither stored nor
    /// arriving.
    pub fn watch(self: &Arc<Self>, request: ArchiveRequest) -> FillWatcher {
        FillWatcher::new(self.clone(), request)
    }
}

impl FillWatcher {
    fn new(archives: Arc<ArchiveCache>, request: ArchiveRequest) -> Self {
        Self { archives, request, fill: None, reported: None }
    }

    /// Waits for the next update. Nothing follows [`FillUpdate::Stored`] or an error.
    ///
    /// # Errors
    /// The fill's error; `Refused` when the archive is good but cannot be stored.
    pub async fn next(&mut self) -> Result<FillUpdate, CacheFailure> {
        self.next_update().await.map_err(|error| CacheFailure::new(error, CacheStatus::forwarded(Fwd::UriMiss)))
    }

    async fn next_update(&mut self) -> Result<FillUpdate, FetchError> {
        let mut fill = match self.fill.take() {
            Some(fill) => fill,
            None => {
                let context = self.archives.context();
                if let Some(object) = context.tiers.lookup(&self.request.key).await {
                    return self.stored(object).await;
                }
                if let Some(error) = context.failures.recent(&self.request.key) {
                    return Err(error);
                }
                if context.without_room.remedy(&self.request.key).is_some() {
                    return Err(not_storable());
                }
                self.archives.fill(&self.request)
            }
        };
        if self.reported.is_some() {
            // Progress is reported at intervals, the end at once.
            let _ = timeout(PROGRESS_INTERVAL, fill.finished()).await;
        }
        loop {
            match fill.progress()? {
                FillProgress::Complete(_) => {
                    // A complete fill is stored only once it has landed.
                    fill.landed().await;
                    let object = self.archives.context().tiers.lookup(&self.request.key).await;
                    return self.stored(object.ok_or_else(not_storable)?).await;
                }
                // What is received without room on disk is not stored.
                FillProgress::Moved { .. } => return Err(not_storable()),
                FillProgress::Streaming { written, total } if self.reported != Some(written) => {
                    self.reported = Some(written);
                    self.fill = Some(fill);
                    return Ok(FillUpdate::Progress { bytes: written, total });
                }
                FillProgress::Requested | FillProgress::Streaming { .. } => fill.changed().await,
            }
        }
    }

    async fn stored(&self, object: Object) -> Result<FillUpdate, FetchError> {
        self.archives.context().tiers.ensure_on_disk(&self.request.key, &object).await?;
        Ok(FillUpdate::Stored(object.meta))
    }
}
