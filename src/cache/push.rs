//! Uploads what a directory has to the shared bucket: an operator demands it, for a directory that was filled without one.

use std::{io, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream, stream::BoxStream};

use super::{
    InventoryEntry,
    bucket_uploads::{NotUploaded, TierUpload},
    uploads::{ArchivePin, Reconciled, Uploader},
};
use crate::{
    entry::{Key, Pin},
    shared::with_patience,
    storage::Object,
};

/// Pinned keys in memory at once.
const PUSHED_PINS_STEP: usize = 2000;
/// Pins that are settled at once.
const CONCURRENT_PINS: usize = 16;

/// Uploads pins and archives, one by one. What is in the bucket already costs four requests.
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
    /// It is not what is pinned: other content of the version counts.
    NotPinned,
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
        self.0.pins.keys_after(after, PUSHED_PINS_STEP).await
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
    Ok(match with_patience(|| settle(uploader, &pin, object.as_ref())).await? {
        Reconciled::Agreed => PushedPin::Settled,
        Reconciled::OtherContent => PushedPin::OtherContent,
        Reconciled::Forgotten => PushedPin::Gone,
    })
}

/// Settles a pin with the bucket. In a repeated run most pins are there: a read is one request, settling again is three.
async fn settle(uploader: &Uploader, pin: &Pin, object: Option<&Object>) -> Result<Reconciled, NotUploaded> {
    match uploader.bucket.has_pin(pin).await? {
        true => Ok(Reconciled::Agreed),
        false => uploader.reconcile(pin, object).await,
    }
}

async fn push_archive(uploader: &Uploader, key: &Key) -> Result<PushedArchive, NotUploaded> {
    let Some(object) = uploader.tiers.peek(key).await? else { return Ok(PushedArchive::Gone) };
    let pin = match uploader.claimable_pin(&object, key).await? {
        ArchivePin::Pinned(pin) => Some(pin),
        ArchivePin::Revision => None,
        ArchivePin::Forgotten => return Ok(PushedArchive::Gone),
        ArchivePin::OtherContent => return Ok(PushedArchive::NotPinned),
    };
    with_patience(|| settle_and_upload(uploader, key, pin.as_deref(), &object)).await
}

async fn settle_and_upload(
    uploader: &Uploader,
    key: &Key,
    pin: Option<&Pin>,
    object: &Object,
) -> Result<PushedArchive, NotUploaded> {
    // The pin may not have been settled before: it could not be read then, or the version is new.
    if let Some(pin) = pin {
        match settle(uploader, pin, Some(object)).await? {
            Reconciled::Agreed => {}
            Reconciled::OtherContent => return Ok(PushedArchive::NotPinned),
            Reconciled::Forgotten => return Ok(PushedArchive::Gone),
        }
    }
    Ok(match uploader.bucket.upload(key, pin, object, &uploader.pins).await? {
        TierUpload::Written => PushedArchive::Uploaded,
        TierUpload::Present => PushedArchive::Present,
        TierUpload::NotPinned => PushedArchive::Gone,
    })
}
