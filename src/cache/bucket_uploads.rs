//! Writes of pins and claims to the bucket. An operator may forget a version at any time: after each write, the pin is read
//! again here, and what was written for one that is gone is taken away.

use std::sync::Arc;

use super::{
    PinRecords,
    bucket_tier::{BucketTier, bytes_of},
};
use crate::{
    entry::{Key, Meta, Pin},
    shared::{ArchiveUpload, BucketError, MaybeBucketError, SharedPin, with_patience},
    storage::{Object, ObjectContent, disk::Spool},
};

/// What became of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TierUpload {
    /// It was uploaded or claimed.
    Written,
    /// The bucket has had it before.
    Present,
    /// Its version is no longer pinned here, or with other content: the bucket does not have it from this mirror.
    NotPinned,
}

/// Why an archive is not uploaded.
#[derive(Debug, thiserror::Error)]
pub enum NotUploaded {
    /// The bucket cannot be asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The disk of this mirror cannot be read or written.
    #[error(transparent)]
    Disk(#[from] std::io::Error),
}

impl MaybeBucketError for NotUploaded {
    fn into_bucket_error(self) -> Result<BucketError, Self> {
        match self {
            Self::Bucket(error) => Ok(error),
            Self::Disk(_) => Err(self),
        }
    }
}

/// Whether this mirror still has a pin that it read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnPin {
    Kept,
    /// It was removed, or replaced by another one.
    Gone,
}

impl BucketTier {
    /// Uploads an archive whose pin is settled; a revision of moving content has no pin.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or the pins here cannot be read; the call may be repeated.
    pub(super) async fn upload(
        &self,
        key: &Key,
        pin: Option<&Pin>,
        object: &Object,
        pins: &PinRecords,
    ) -> Result<TierUpload, NotUploaded> {
        let meta = &object.meta;
        if pin.is_some_and(|pin| pin.verified.manifest != meta.verified.manifest) {
            return Ok(TierUpload::NotPinned);
        }
        let first_seen = pin.map_or(meta.stored_at, |pin| pin.first_seen);
        let uploaded = self.archives.upload(key, first_seen, meta, || bytes_of(object.clone())).await;
        // A write without an answer may have happened.
        if let Some(pin) = pin
            && self.withdraw_forgotten(pin, pins).await? == OwnPin::Gone
        {
            return Ok(TierUpload::NotPinned);
        }
        Ok(match uploaded? {
            ArchiveUpload::Written => TierUpload::Written,
            ArchiveUpload::Present => TierUpload::Present,
        })
    }

    /// Uploads an archive from its spool.
    ///
    /// # Errors
    /// As [`BucketTier::upload`].
    pub(super) async fn upload_spool(
        &self,
        key: &Key,
        pin: Option<&Pin>,
        meta: &Meta,
        spool: &Spool,
        pins: &PinRecords,
    ) -> Result<TierUpload, NotUploaded> {
        let content = ObjectContent::Disk(spool.file());
        let object = Object { meta: Arc::new(meta.clone()), content, tier: "spool", usage: None };
        self.upload(key, pin, &object, pins).await
    }

    /// Pins content that this mirror has pinned alone; `None` where it no longer has this pin.
    ///
    /// # Errors
    /// When the bucket cannot decide, or the pins here cannot be read.
    pub(super) async fn settle_pin(&self, pin: &Pin, pins: &PinRecords) -> Result<Option<SharedPin>, NotUploaded> {
        let settled = self.archives.settle(pin).await;
        match self.withdraw_forgotten(pin, pins).await? {
            OwnPin::Kept => Ok(Some(settled?)),
            OwnPin::Gone => Ok(None),
        }
    }

    /// Removes a pin and its claim from the bucket where this mirror does not have the pin any more.
    async fn withdraw_forgotten(&self, pin: &Pin, pins: &PinRecords) -> Result<OwnPin, NotUploaded> {
        if pins.read(&pin.key).await?.is_some_and(|now| now.is_same_sight(pin)) {
            return Ok(OwnPin::Kept);
        }
        tracing::info!(key = %pin.key, "a version that was forgotten while it was written to the bucket is taken away there");
        with_patience(|| self.archives.forget_pin(pin)).await?;
        Ok(OwnPin::Gone)
    }
}
