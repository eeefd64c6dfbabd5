//! What runs beside the requests: the flush, and the scrub that re-hashes every blob once in its period.

use std::{io, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    blocking,
    index::BLOBS,
    store::{Store, lock},
};
use crate::{entry::Digest, value::Period};

/// Time between two flushes of what waits in memory.
const FLUSH: Duration = Duration::from_secs(30);
/// Shortest pause of the scrub between two blobs, and its longest: the number of blobs changes meanwhile.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(3600));

/// Starts both; they end when `token` is cancelled.
pub(super) fn spawn(store: &Arc<Store>, scrub: Period, tracker: &TaskTracker, token: &CancellationToken) {
    let flusher = Arc::clone(store);
    let task = every(
        token.clone(),
        move || FLUSH,
        move || {
            let store = Arc::clone(&flusher);
            async move { blocking(move || store.flush()).await }
        },
    );
    tracker.spawn(task);
    if scrub.is_forever() || scrub.0.is_zero() {
        return;
    }
    let pacer = Arc::clone(store);
    let scrubber = Arc::clone(store);
    let pause = move || {
        let objects = pacer.objects.load(std::sync::atomic::Ordering::SeqCst).max(1);
        let pause = scrub.0.div_f64(objects as f64);
        pause.clamp(PAUSES.0, PAUSES.1)
    };
    let task = every(token.clone(), pause, move || {
        let store = Arc::clone(&scrubber);
        async move { blocking(move || store.scrub_next()).await }
    });
    tracker.spawn(task);
}

async fn every<F: Future<Output = io::Result<()>>>(
    token: CancellationToken,
    pause: impl Fn() -> Duration,
    work: impl Fn() -> F,
) {
    while token.run_until_cancelled(tokio::time::sleep(pause())).await.is_some() {
        if let Err(cause) = work().await {
            warn!(%cause, "the disk tier's background work failed");
        }
    }
}

impl Store {
    /// Hashes the next blob in order of digests, from the first again after the last.
    pub(super) fn scrub_next(&self) -> io::Result<()> {
        let last = *lock(&self.scrubbed);
        let next = self.index.read(|txn| BLOBS.after(txn, last))?;
        let Some((digest, _)) = next else {
            *lock(&self.scrubbed) = Digest([0; 32]);
            return Ok(());
        };
        *lock(&self.scrubbed) = digest;
        self.check(&digest).map(drop)
    }

    /// A blob's file is not there: its row goes.
    pub(super) fn missing(&self, digest: &Digest) -> io::Result<()> {
        let path = self.layout.blob(digest);
        self.set_aside(digest, "its file is missing", || !path.exists())
    }
}
