//! Uploads of what is stored to the bucket that several mirrors share.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{
    AdminError,
    inventory::{INDEX_UNREADABLE, selection},
};
use crate::{
    admin_api::{AdminRequest as _, PushArchives, PushEvent, PushState, PushSums},
    dialect::Names,
    entry::{Key, RecordedSource},
    registry::{
        BucketError, InventoryEntry, NotUploaded, PushedArchive, PushedPin, Pusher, Registry, SourceSelection,
        inventory::{ALL_SHARDS, Selection},
    },
    service::{audit::Acts, source_sharing::SourceRun},
};

/// Events that wait for the client.
const WAITING_EVENTS: usize = 64;

/// Uploads all recorded sources and pins, then all zips: the zips are listed a 256th at a time, by the first byte of their
/// digests. Ends early when the client leaves. The act in the audit log ends with the uploads.
pub(super) async fn push(
    registry: &Arc<Registry>,
    names: &Arc<Names>,
    acts: &Acts,
    request: PushArchives,
) -> Result<impl Stream<Item = PushEvent> + use<>, AdminError> {
    let act = acts.begin(PushArchives::ROUTE, &request).await?;
    let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
    let prepared = prepare(registry, names, sender).await;
    let run = match prepared {
        Ok(run) => run,
        Err(error) => {
            act.end(Some(&error.message)).await;
            return Err(error);
        }
    };
    registry.spawn(async move {
        let failure = run.run().await;
        act.end(failure.as_deref()).await;
    });
    Ok(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))))
}

/// Counts what there is to upload.
async fn prepare(
    registry: &Arc<Registry>,
    names: &Arc<Names>,
    events: mpsc::Sender<PushEvent>,
) -> Result<PushRun, AdminError> {
    let pusher = registry.transfer().pusher().ok_or_else(no_bucket)?;
    let selection = selection(None)?;
    let count = |(zips, bytes): &mut (u64, u64), entry: InventoryEntry| {
        *zips += 1;
        *bytes += entry.len;
    };
    let counted = registry.inventory().fold(ALL_SHARDS, &selection, (0, 0), count).await;
    let (zips, bytes) = counted.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let sums = PushSums::default();
    Ok(PushRun { registry: registry.clone(), names: names.clone(), pusher, selection, zips, bytes, events, sums })
}

/// The refusal of a mirror without a bucket.
pub(super) fn no_bucket() -> AdminError {
    AdminError::bad_request("this mirror shares no bucket: its configuration has no section [shared]")
}

struct PushRun {
    registry: Arc<Registry>,
    names: Arc<Names>,
    pusher: Pusher,
    selection: Selection,
    /// The number of stored zips.
    zips: u64,
    /// The bytes of all stored zips.
    bytes: u64,
    events: mpsc::Sender<PushEvent>,
    sums: PushSums,
}

/// Why a push has ended early.
enum PushOver {
    ClientLeft,
    Failed(String),
}

impl PushRun {
    /// Uploads everything, and sends the last events. Returns why not everything was uploaded.
    async fn run(mut self) -> Option<String> {
        let pushed = self.push_all().await;
        let failure = match pushed {
            Ok(()) => None,
            Err(PushOver::Failed(message)) => Some(message),
            Err(PushOver::ClientLeft) => return Some("the client has left".to_owned()),
        };
        let stopped = failure.clone().map(|message| PushEvent::Stopped { message });
        for event in stopped.into_iter().chain([PushEvent::End(self.sums.clone())]) {
            // An error means that the client has left.
            let _ = self.send(event).await;
        }
        failure
    }

    async fn push_all(&mut self) -> Result<(), PushOver> {
        self.send(PushEvent::Begin { zips: self.zips, bytes: self.bytes }).await?;
        self.push_sources().await?;
        self.push_pins().await?;
        for first in ALL_SHARDS {
            let add = |entries: &mut Vec<InventoryEntry>, entry| entries.push(entry);
            let entries = self.registry.inventory().fold(first..=first, &self.selection, Vec::new(), add).await;
            self.push_archives(entries.map_err(unreadable_index)?).await?;
        }
        Ok(())
    }

    /// Pushes all sources, also those that the bucket has had before: it may have lost them.
    async fn push_sources(&mut self) -> Result<(), PushOver> {
        let mut run = SourceRun::new(SourceSelection::All);
        loop {
            let refused = run.next(&self.registry, &self.names).await;
            let refused = refused.map_err(|error| PushOver::Failed(error.to_string()))?;
            let Some(refused) = refused else { return Ok(()) };
            for RecordedSource { name, dialect, .. } in refused {
                self.sums.sources += 1;
                self.send(PushEvent::Source { name, dialect }).await?;
            }
        }
    }

    async fn push_pins(&mut self) -> Result<(), PushOver> {
        let mut after = Key::new("");
        loop {
            let keys = self.pusher.pinned_keys_after(&after).await.map_err(unreadable_index)?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = last.clone();
            let mut pushed = self.pusher.push_pins(keys);
            while let Some((key, pushed)) = pushed.next().await {
                match pushed {
                    Ok(PushedPin::Settled) => self.sums.pins += 1,
                    Ok(PushedPin::Gone) => {}
                    Ok(PushedPin::OtherContent) => {
                        self.sums.mismatches += 1;
                        self.send(PushEvent::Mismatch { key }).await?;
                    }
                    Err(error) => {
                        let state = state_without_upload(&key, error)?;
                        self.count(state, 0);
                        self.send(PushEvent::Zip { key, size: 0, state }).await?;
                    }
                }
            }
            self.send(PushEvent::Pins { pins: self.sums.pins }).await?;
        }
    }

    async fn push_archives(&mut self, entries: Vec<InventoryEntry>) -> Result<(), PushOver> {
        let mut pushed = self.pusher.push_archives(entries);
        while let Some((entry, pushed)) = pushed.next().await {
            let InventoryEntry { key, len: size, .. } = entry;
            let state = match pushed {
                Ok(PushedArchive::Uploaded) => PushState::Uploaded,
                Ok(PushedArchive::Present) => PushState::Present,
                Ok(PushedArchive::Gone) => PushState::Gone,
                Ok(PushedArchive::NotPinned) => PushState::Unpinned,
                Err(error) => state_without_upload(&key, error)?,
            };
            self.count(state, size);
            self.send(PushEvent::Zip { key, size, state }).await?;
        }
        Ok(())
    }

    fn count(&mut self, state: PushState, size: u64) {
        let sums = &mut self.sums;
        match state {
            PushState::Uploaded => {
                sums.uploaded += 1;
                sums.bytes += size;
            }
            PushState::Present => sums.present += 1,
            PushState::Gone => sums.gone += 1,
            PushState::Unpinned => sums.unpinned += 1,
            PushState::Unreadable => sums.unreadable += 1,
            PushState::Damaged => sums.damaged += 1,
        }
    }

    async fn send(&self, event: PushEvent) -> Result<(), PushOver> {
        self.events.send(event).await.map_err(|_| PushOver::ClientLeft)
    }
}

/// The state of a zip or a pin that cannot be uploaded, if the others can.
///
/// # Errors
/// Where the bucket cannot be used for the others either.
fn state_without_upload(key: &Key, error: NotUploaded) -> Result<PushState, PushOver> {
    match error {
        NotUploaded::Bucket(BucketError::Damaged) => {
            tracing::error!(%key, "the pin of a version, or the mark of its zip, is damaged in the bucket");
            Ok(PushState::Damaged)
        }
        NotUploaded::Bucket(error) => Err(PushOver::Failed(error.to_string())),
        NotUploaded::Disk(error) => {
            tracing::error!(%key, %error, "a zip or its pin cannot be read");
            Ok(PushState::Unreadable)
        }
    }
}

fn unreadable_index(error: std::io::Error) -> PushOver {
    PushOver::Failed(AdminError::storage(INDEX_UNREADABLE, error).message)
}
