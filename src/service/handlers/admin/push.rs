//! Uploads of what is stored to the bucket that several mirrors share.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{
    AdminError,
    inventory::{INDEX_UNREADABLE, selection},
};
use crate::{
    admin_api::{ErrorCode, PushArchives, PushEvent, PushState},
    entry::Key,
    registry::{
        InventoryEntry, NotUploaded, PushedArchive, PushedPin, Pusher, Registry,
        inventory::{ALL_SHARDS, Selection},
    },
};

/// Events that wait for the client.
const WAITING_EVENTS: usize = 64;

/// Uploads all pins, then all zips: the zips are listed a 256th at a time, by the first byte of their digests. Ends early
/// when the client leaves.
pub(super) async fn push(
    registry: &Arc<Registry>,
    _: PushArchives,
) -> Result<impl Stream<Item = PushEvent> + use<>, AdminError> {
    let no_bucket =
        || AdminError::bad_request("this mirror shares no bucket: its configuration has no section [shared]");
    let pusher = registry.transfer().pusher().ok_or_else(no_bucket)?;
    let selection = selection(None)?;
    let count = |(zips, bytes): &mut (u64, u64), entry: InventoryEntry| {
        *zips += 1;
        *bytes += entry.len;
    };
    let counted = registry.inventory().fold(ALL_SHARDS, &selection, (0, 0), count).await;
    let (zips, bytes) = counted.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
    let run = PushRun { registry: registry.clone(), pusher, selection, events: sender };
    registry.spawn(async move {
        // The client has left, or has had the reason.
        let _ = run.run(PushEvent::Begin { zips, bytes }).await;
    });
    Ok(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))))
}

struct PushRun {
    registry: Arc<Registry>,
    pusher: Pusher,
    selection: Selection,
    events: mpsc::Sender<PushEvent>,
}

/// Nothing more is uploaded.
struct PushOver;

impl PushRun {
    async fn run(self, begin: PushEvent) -> Result<(), PushOver> {
        self.send(begin).await?;
        self.push_pins().await?;
        for first in ALL_SHARDS {
            let add = |entries: &mut Vec<InventoryEntry>, entry| entries.push(entry);
            let entries = self.registry.inventory().fold(first..=first, &self.selection, Vec::new(), add).await;
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => return self.stop(AdminError::storage(INDEX_UNREADABLE, error)).await,
            };
            self.push_archives(entries).await?;
        }
        Ok(())
    }

    async fn push_pins(&self) -> Result<(), PushOver> {
        let mut pins = 0;
        let mut after = Key::new("");
        loop {
            let keys = match self.pusher.pinned_keys_after(&after).await {
                Ok(keys) => keys,
                Err(error) => return self.stop(AdminError::storage(INDEX_UNREADABLE, error)).await,
            };
            let Some(last) = keys.last() else { return Ok(()) };
            after = last.clone();
            let mut pushed = self.pusher.push_pins(keys);
            while let Some((key, pushed)) = pushed.next().await {
                match pushed {
                    Ok(PushedPin::Settled) => pins += 1,
                    Ok(PushedPin::Gone) => {}
                    Ok(PushedPin::OtherContent) => self.send(PushEvent::Mismatch { key }).await?,
                    Err(NotUploaded::Bucket(error)) => return self.stop(of_bucket(&error)).await,
                    Err(NotUploaded::Here(error)) => {
                        tracing::error!(%key, %error, "a pin cannot be read");
                        self.send(PushEvent::Zip { key, size: 0, state: PushState::Unreadable }).await?;
                    }
                }
            }
            self.send(PushEvent::Pins { pins }).await?;
        }
    }

    async fn push_archives(&self, entries: Vec<InventoryEntry>) -> Result<(), PushOver> {
        let mut pushed = self.pusher.push_archives(entries);
        while let Some((entry, pushed)) = pushed.next().await {
            let InventoryEntry { key, len: size, .. } = entry;
            let state = match pushed {
                Ok(PushedArchive::Uploaded) => PushState::Uploaded,
                Ok(PushedArchive::Present) => PushState::Present,
                Ok(PushedArchive::Gone) => PushState::Gone,
                Err(NotUploaded::Bucket(error)) => return self.stop(of_bucket(&error)).await,
                Err(NotUploaded::Here(error)) => {
                    tracing::error!(%key, %error, "a zip cannot be read");
                    PushState::Unreadable
                }
            };
            self.send(PushEvent::Zip { key, size, state }).await?;
        }
        Ok(())
    }

    async fn send(&self, event: PushEvent) -> Result<(), PushOver> {
        self.events.send(event).await.map_err(|_| PushOver)
    }

    async fn stop(&self, error: AdminError) -> Result<(), PushOver> {
        self.send(PushEvent::Stopped { message: error.message }).await?;
        Err(PushOver)
    }
}

fn of_bucket(error: &impl std::fmt::Display) -> AdminError {
    AdminError::new(ErrorCode::Bucket, error.to_string())
}
