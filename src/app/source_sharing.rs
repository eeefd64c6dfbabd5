//! Keeps the recorded sources the same on all mirrors of the bucket.

use std::{future::pending, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{RunningService, spawn_background};
use crate::cache::Cache;

/// The sources that operators have set are read after this part of `shared.max_age`, percent, so that they are used within that
/// age. The rest is for the time of the request.
const SOURCES_AGE_PERCENT: u32 = 80;
/// Longest wait for the sources before the first request is served.
const FIRST_SOURCES_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes over the sources that operators have set on other mirrors, and writes those that were recorded here to the bucket,
/// until `background` is cancelled. Returns after the first reading, if the bucket works. Without a bucket, does nothing.
pub(super) async fn spawn_source_sharing(
    running: &Arc<ArcSwap<RunningService>>,
    cache: &Cache,
    tasks: &TaskTracker,
    background: &CancellationToken,
) {
    let Some(bucket) = cache.bucket().cloned() else { return };
    // A bucket that has not answered the probe is not waited for again.
    if bucket.bucket().status().arbitration.is_some() {
        let _ = timeout(FIRST_SOURCES_TIMEOUT, follow_sources(running)).await;
    }
    let of_task = running.clone();
    let mut listener = bucket.bucket().notices.listen(SOURCES_AGE_PERCENT);
    let follow = async move {
        loop {
            listener.due(pending()).await;
            follow_sources(&of_task).await;
        }
    };
    spawn_background(tasks, background, follow);
    let of_task = running.clone();
    let share = async move {
        loop {
            let service = of_task.load().service.clone();
            match service.share_sources().await {
                Ok(()) => bucket.sources().notified().await,
                Err(error) => {
                    tracing::debug!(%error, "recorded sources of this mirror are not in the bucket yet");
                    sleep(error.retry_after()).await;
                }
            }
        }
    };
    spawn_background(tasks, background, share);
}

async fn follow_sources(running: &ArcSwap<RunningService>) {
    let service = running.load().service.clone();
    if let Err(error) = service.follow_sources().await {
        tracing::debug!(%error, "the sources that operators have set are not known at present");
    }
}
