//! Background work: periodic maintenance, and the scrub that re-hashes every blob once per period.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use redb::WriteTransaction;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    blobs::Blobs,
    index::{self, BLOBS, Index},
    maintenance::Maintenance,
    repair::Repair,
};
use crate::{blocking::run_blocking_io, entry::Digest, value::Period};

/// Time between two runs of the maintenance.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);
/// Bounds of the pause between two blobs. The upper one adapts the scrub to a growing number of blobs.
const MIN_SCRUB_PAUSE: Duration = Duration::from_millis(20);
const MAX_SCRUB_PAUSE: Duration = Duration::from_secs(3600);
/// The counter in the index for the position of the scrub: the first eight bytes of a digest.
const SCRUB_COUNTER: &str = "scrubbed";

/// Checks blobs one after the other.
pub(super) struct Scrub {
    index: Arc<Index>,
    blobs: Arc<Blobs>,
    repair: Arc<Repair>,
    /// The blob checked last.
    position: Mutex<Digest>,
}

impl Scrub {
    pub(super) fn new(index: Arc<Index>, blobs: Arc<Blobs>, repair: Arc<Repair>) -> Self {
        Self { index, blobs, repair, position: Mutex::new(Digest([0; 32])) }
    }

    /// Continues at the position that [`Scrub::save`] wrote.
    pub(super) fn resume(&self) -> io::Result<()> {
        let position = self.index.read(|txn| index::counter(txn, SCRUB_COUNTER))?;
        self.position.lock().0[..8].copy_from_slice(&position.to_be_bytes());
        Ok(())
    }

    /// Writes the position.
    pub(super) fn save(&self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        let position = self.position.lock().0;
        let position = position.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        index::set_counter(txn, SCRUB_COUNTER, position)
    }

    /// Checks the next blob in order of digests; after the last one the next call starts again. Blocks.
    pub(super) fn check_next(&self) -> io::Result<()> {
        let last = *self.position.lock();
        let Some(digest) = self.index.read(|txn| BLOBS.next_id(txn, last))? else {
            *self.position.lock() = Digest([0; 32]);
            return Ok(());
        };
        *self.position.lock() = digest;
        self.repair.check(&digest).map(drop)
    }

    /// The pause between two blobs, so that all blobs are checked once per period.
    fn pause(&self, period: Period) -> Duration {
        let pause = period.0.div_f64(self.blobs.count().max(1) as f64);
        pause.clamp(MIN_SCRUB_PAUSE, MAX_SCRUB_PAUSE)
    }
}

/// Spawns the maintenance and, unless `period` is zero or `forever`, the scrub; they end when `token` is cancelled.
pub(super) fn spawn(
    maintenance: Arc<Maintenance>,
    scrub: Arc<Scrub>,
    period: Period,
    tracker: &TaskTracker,
    token: &CancellationToken,
) {
    let maintain = move || {
        let maintenance = Arc::clone(&maintenance);
        async move { run_blocking_io(move || maintenance.run()).await }
    };
    tracker.spawn(repeat(token.clone(), || MAINTENANCE_INTERVAL, maintain));
    if period.is_forever() || period.0.is_zero() {
        return;
    }
    let pacer = Arc::clone(&scrub);
    let check_next = move || {
        let scrub = Arc::clone(&scrub);
        async move { run_blocking_io(move || scrub.check_next()).await }
    };
    tracker.spawn(repeat(token.clone(), move || pacer.pause(period), check_next));
}

async fn repeat<F: Future<Output = io::Result<()>>>(
    token: CancellationToken,
    pause: impl Fn() -> Duration,
    work: impl Fn() -> F,
) {
    while token.run_until_cancelled(tokio::time::sleep(pause())).await.is_some() {
        if let Err(cause) = work().await {
            warn!(%cause, "background work of the disk tier failed");
        }
    }
}
