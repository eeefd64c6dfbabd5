//! Uploads what a directory has to the shared bucket: on the word of an operator, for a directory that was filled without one.

use std::{io, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream, stream::BoxStream};

use super::{
    InventoryEntry,
    uploads::{NotUploaded, Reconciled, Uploader},
};
use crate::{
    entry::Key,
    shared::{ArchiveUpload, Patience},
};

/// Pinned keys in memory at once.
const PIN_STEP: usize = 2000;
/// Pins that are settled at once.
const CONCURRENT_PINS: usize = 16;

/// Uploads pins and archives, one by one. What is in the bucket already costs two or three requests.
pub struct Pusher(Arc<Uploader>);

/// What became of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushedPin {
    /// The bucket has it.
    Settled,
    /// The bucket has other content, which counts now: what was stored here is quarantined.
    OtherContent,
    /// It was forgotten in between.
    Gone,
}

/// What became of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushedArchive {
    /// It was uploaded or claimed.
    Uploaded,
    /// The bucket has had it before.
    Present,
    /// It was evicted or removed in between.
    Gone,
}

impl Pusher {
    pub(super) fn new(uploader: Uploader) -> Self {
        Self(Arc::new(uploader))
    }

    /// The pinned keys that follow `after`, some thousands; none at the end.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn pinned_keys_after(&self, after: &Key) -> io::Result<Vec<Key>> {
        self.0.pins.keys_after(after, PIN_STEP).await
    }

    /// Pins what is pinned here in the bucket, several at once, in any order.
    pub fn push_pins(&self, keys: Vec<Key>) -> BoxStream<'static, (Key, Result<PushedPin, NotUploaded>)> {
        let uploader = self.0.clone();
        let pushed = stream::iter(keys).map(move |key| {
            let uploader = uploader.clone();
            async move {
                let pushed = push_pin(&uploader, &key).await;
                (key, pushed)
            }
            .boxed()
        });
        pushed.buffer_unordered(CONCURRENT_PINS).boxed()
    }

    /// Uploads archives, as many at once as `shared.uploads` allows, in any order. Their pins are settled.
    pub fn push_archives(
        &self,
        entries: Vec<InventoryEntry>,
    ) -> BoxStream<'static, (InventoryEntry, Result<PushedArchive, NotUploaded>)> {
        let uploader = self.0.clone();
        let pushed = stream::iter(entries).map(move |entry| {
            let uploader = uploader.clone();
            async move {
                let pushed = push_archive(&uploader, &entry.key).await;
                (entry, pushed)
            }
            .boxed()
        });
        pushed.buffer_unordered(self.0.bucket.concurrent_uploads()).boxed()
    }
}

async fn push_pin(uploader: &Uploader, key: &Key) -> Result<PushedPin, NotUploaded> {
    let Some(pin) = uploader.pins.read(key).await? else { return Ok(PushedPin::Gone) };
    let object = uploader.tiers.peek(key).await?;
    let mut patience = Patience::default();
    loop {
        match uploader.reconcile(&pin, object.as_ref()).await {
            Ok(Reconciled::Agreed) => return Ok(PushedPin::Settled),
            Ok(Reconciled::OtherContent) => return Ok(PushedPin::OtherContent),
            Err(NotUploaded::Bucket(error)) => patience.wait(error).await?,
            Err(error) => return Err(error),
        }
    }
}

async fn push_archive(uploader: &Uploader, key: &Key) -> Result<PushedArchive, NotUploaded> {
    let Some(object) = uploader.tiers.peek(key).await? else { return Ok(PushedArchive::Gone) };
    let pin = uploader.pins.read(key).await?;
    let first_seen = pin.map_or(object.meta.stored_at, |pin| pin.first_seen);
    let mut patience = Patience::default();
    loop {
        match uploader.bucket.upload(key, first_seen, &object).await {
            Ok(ArchiveUpload::Written) => return Ok(PushedArchive::Uploaded),
            Ok(ArchiveUpload::Present) => return Ok(PushedArchive::Present),
            Err(error) => patience.wait(error).await?,
        }
    }
}
