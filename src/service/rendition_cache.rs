//! Renditions in memory: each is made once for all readers that wait for it; large ones are made on blocking threads.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use super::{
    error::ApiError,
    rendition::{RenderJob, Rendition},
};
use crate::{
    dialect::Dialect,
    entry::Digest,
    value::{
        memory_budget::MemoryBudget,
        memory_weight::{CACHE_ENTRY_BYTES, MemoryWeight, clamped},
    },
};

/// Most large documents that are rendered or compressed at the same time.
const LARGE_JOBS: usize = 2;
/// Longest wait of a large document for its turn.
const LARGE_JOB_WAIT: Duration = Duration::from_secs(10);

/// Starts a task on the runtime of the app, on whose blocking threads renditions are made.
pub(super) type SpawnBesideRequests = Box<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Rendered documents, by everything that they are rendered from but the base address.
pub(super) struct RenditionCache {
    renditions: moka::future::Cache<RenditionKey, Arc<Rendition>>,
    capacity: u64,
    spawn: SpawnBesideRequests,
    large_jobs: Semaphore,
    memory: MemoryBudget,
}

/// Identifies a rendition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RenditionKey {
    /// The digest of the document and of what is merged into it.
    pub(super) document: Digest,
    pub(super) form: &'static str,
    pub(super) dialect: Dialect,
    /// The package in the spelling of its links.
    pub(super) package: Box<str>,
    pub(super) coding: RenditionForm,
}

/// How a rendition is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RenditionForm {
    /// Not compressed.
    Identity,
    /// Compressed by gzip, with the configured base (`public_url`).
    Gzip,
}

/// Why a large document is not rendered: too many are being rendered, there is no memory for this one, or its rendering
/// failed.
#[derive(Debug)]
struct NoTurn;

impl RenditionCache {
    /// An empty cache of at most `capacity` bytes. Large renditions are made in tasks that `spawn` starts, and are counted in
    /// `memory` as long as the cache or a reader has them.
    pub(super) fn new(capacity: u64, spawn: SpawnBesideRequests, memory: MemoryBudget) -> Self {
        let weigh = |key: &RenditionKey, rendition: &Arc<Rendition>| {
            let mut weight = MemoryWeight::unlimited();
            weight.add_text(&key.package);
            clamped(weight.bytes() + size_of::<RenditionKey>() + rendition.weight() + CACHE_ENTRY_BYTES)
        };
        let renditions = moka::future::Cache::builder().max_capacity(capacity).weigher(weigh).build();
        Self { renditions, capacity, spawn, large_jobs: Semaphore::new(LARGE_JOBS), memory }
    }

    /// The rendition of a document. Readers that wait for one share its making, which goes on when they leave.
    ///
    /// # Errors
    /// [`ApiError::Overloaded`] when too many large documents are being rendered.
    pub(super) async fn get(
        self: &Arc<Self>,
        key: RenditionKey,
        job: impl FnOnce() -> RenderJob,
    ) -> Result<Arc<Rendition>, ApiError> {
        if let Some(rendition) = self.renditions.get(&key).await {
            return Ok(rendition);
        }
        let job = job();
        if !job.is_large() {
            return Ok(self.renditions.get_with(key, async { Arc::new(job.render()) }).await);
        }
        let estimate = job.estimate();
        self.make_beside_requests(key, estimate, || Some(job.render())).await
    }

    /// The gzip form of a rendition that [`RenditionCache::get`] returned.
    ///
    /// # Errors
    /// As [`RenditionCache::get`].
    pub(super) async fn gzip(
        self: &Arc<Self>,
        key: RenditionKey,
        rendition: &Arc<Rendition>,
    ) -> Result<Arc<Rendition>, ApiError> {
        let key = RenditionKey { coding: RenditionForm::Gzip, ..key };
        if let Some(compressed) = self.renditions.get(&key).await {
            return Ok(compressed);
        }
        let rendition = rendition.clone();
        let estimate = rendition.weight() as u64;
        self.make_beside_requests(key, estimate, move || rendition.gzip()).await
    }

    /// True for a rendition whose compressed form is worth making and fits the cache.
    pub(super) fn keeps_gzip_of(&self, rendition: &Rendition) -> bool {
        rendition.is_worth_compressing() && rendition.weight() as u64 <= self.capacity / 4
    }

    /// Makes a rendition on the app's blocking threads, so that a connection thread goes on with its other clients. `estimate`
    /// is the bytes of memory that the making takes.
    async fn make_beside_requests(
        self: &Arc<Self>,
        key: RenditionKey,
        estimate: u64,
        make: impl FnOnce() -> Option<Rendition> + Send + 'static,
    ) -> Result<Arc<Rendition>, ApiError> {
        let cache = self.clone();
        let (sender, made) = oneshot::channel();
        (self.spawn)(Box::pin(async move {
            let make = async {
                let turn = timeout(LARGE_JOB_WAIT, cache.large_jobs.acquire()).await;
                let _turn = turn.ok().and_then(Result::ok).ok_or(NoTurn)?;
                let mut share = cache.memory.share();
                share.grow_to(estimate).await.map_err(|_| NoTurn)?;
                let made = crate::blocking::spawn_blocking(make).await.ok().flatten().ok_or(NoTurn)?;
                let mut kept = cache.memory.share();
                kept.grow_to(made.weight() as u64).await.map_err(|_| NoTurn)?;
                Ok::<_, NoTurn>(Arc::new(made.counted_in(kept)))
            };
            // The readers may have left.
            let _ = sender.send(cache.renditions.try_get_with(key, make).await);
        }));
        match made.await {
            Ok(Ok(rendition)) => Ok(rendition),
            Ok(Err(_)) | Err(_) => Err(ApiError::Overloaded),
        }
    }

    /// How many renditions are kept, and their weight.
    #[cfg(test)]
    pub(super) async fn kept(&self) -> (u64, u64) {
        self.renditions.run_pending_tasks().await;
        (self.renditions.entry_count(), self.renditions.weighted_size())
    }
}

#[cfg(test)]
mod tests;
