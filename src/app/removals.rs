//! Shares removals among the mirrors of a bucket: what an operator removes on one mirror, all others remove, too.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{RunningService, shared::STATE_ATTEMPTS, spawn_background};
use crate::{
    cache::{Cache, DueRemoval, Removals, StoredRemovals},
    shared::{Bucket, StateWrite},
};

/// The kind of the state that holds the removals.
const REMOVALS_STATE: &str = "removals";

/// Shares removals until `background` is cancelled. Without a bucket, does nothing.
pub(super) fn spawn_removal_sharing(
    running: &Arc<ArcSwap<RunningService>>,
    cache: &Cache,
    tasks: &TaskTracker,
    background: &CancellationToken,
) {
    let Some((bucket, removals)) = cache.bucket().cloned().zip(cache.removals().cloned()) else { return };
    let running = running.clone();
    let disk = cache.disk().clone();
    let clock = cache.clock().clone();
    let follow = async move {
        let mut listener = bucket.bucket().notices.listen(100);
        let now = clock.now();
        let mut nothing_at = disk.inventory().holds_nothing().await.unwrap_or(false).then_some(now);
        let mut looked_at = None;
        loop {
            let began = clock.now();
            let seen = RemovalsSeen { nothing_at, looked_at };
            match share_removals_once(&running, bucket.bucket(), &removals, seen).await {
                Ok(()) => {
                    nothing_at = None;
                    looked_at = Some(began);
                }
                Err(error) => tracing::debug!(%error, "the removals of other mirrors are not known at present"),
            }
            listener.due(removals.changed()).await;
        }
    };
    spawn_background(tasks, background, follow);
}

/// What this mirror has seen of the list of removals, by its own clock.
#[derive(Clone, Copy)]
struct RemovalsSeen {
    /// When it had nothing stored, if that was so at its start: earlier removals need not be done.
    nothing_at: Option<Timestamp>,
    /// When it last read the list: removals that are new since then were not in it yet.
    looked_at: Option<Timestamp>,
}

/// Publishes the removals of this mirror and does those of others that are due. Then removes from the bucket the lists that an
/// earlier removal could not remove there.
async fn share_removals_once(
    running: &ArcSwap<RunningService>,
    bucket: &Bucket,
    removals: &Arc<Removals>,
    seen: RemovalsSeen,
) -> anyhow::Result<()> {
    let list = publish(bucket, removals).await?;
    let done = match list {
        Some(list) => apply_due(running, removals, Arc::new(list), seen).await,
        None => Ok(()),
    };
    let registry = running.load().registry.clone();
    if let Err(error) = registry.inventory().document_removal().remove_left().await {
        tracing::debug!(%error, "lists that were removed are still in the bucket");
    }
    done
}

/// Removes here what the list says, as far as this mirror has not done so before.
async fn apply_due(
    running: &ArcSwap<RunningService>,
    removals: &Arc<Removals>,
    list: Arc<StoredRemovals>,
    RemovalsSeen { nothing_at, looked_at }: RemovalsSeen,
) -> anyhow::Result<()> {
    let mut due = run_blocking(removals, &list, |removals, list| removals.due(list)).await?;
    due.removals.retain(|due| nothing_at.is_none_or(|nothing_at| due.removal.at > nothing_at));
    if due.has_missed && nothing_at.is_none() {
        tracing::error!(
            "this mirror was away while operators removed more than the list of removals has; what they removed may \
             still be stored here: repeat srm-mirror cache rm"
        );
    }
    for DueRemoval { number, removal, is_repeated } in due.removals {
        let registry = running.load().registry.clone();
        let looked_at = looked_at.filter(|_| !is_repeated);
        removal.apply(&registry, looked_at).await.inspect_err(|error| {
            tracing::warn!(%error, pattern = removal.pattern, "what another mirror has removed is not removed here yet");
        })?;
        run_blocking(removals, &list, move |removals, list| removals.set_done(list, number)).await?;
    }
    run_blocking(removals, &list, |removals, list| removals.set_done(list, list.last())).await
}

/// Adds the removals of this mirror that the bucket does not have to its list, and returns the list; `None` where there is
/// none.
async fn publish(bucket: &Bucket, removals: &Removals) -> anyhow::Result<Option<StoredRemovals>> {
    for _ in 0..STATE_ATTEMPTS {
        let read = bucket.read_state::<StoredRemovals>(REMOVALS_STATE).await?;
        let merged = removals.merged(read.value.as_ref());
        if merged.last() == read.value.as_ref().map_or(0, StoredRemovals::last) {
            return Ok(read.value);
        }
        if bucket.write_state(REMOVALS_STATE, &merged, read).await? == StateWrite::Written {
            return Ok(Some(merged));
        }
    }
    anyhow::bail!("other mirrors change the removals at the same time")
}

/// Runs `work` on a thread that may block.
async fn run_blocking<T: Send + 'static>(
    removals: &Arc<Removals>,
    list: &Arc<StoredRemovals>,
    work: impl FnOnce(&Removals, &StoredRemovals) -> std::io::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let removals = removals.clone();
    let list = list.clone();
    Ok(crate::blocking::spawn_blocking(move || work(&removals, &list)).await??)
}
