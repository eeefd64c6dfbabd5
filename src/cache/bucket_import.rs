//! Imports into a mirror with a bucket, which decides on what is imported, and has it before the import ends or soon after.

use std::sync::Arc;

use super::{BucketTier, ImportError, NotUploaded, PinRecords, bucket_uploads::TierUpload, pins::PinConflict};
use crate::{
    entry::{Document, Key, Meta, Pin},
    shared::{BucketError, SharedPin, with_patience},
    storage::disk::{PinState, Spool},
};

/// The import of an archive that was received and verified.
pub(super) struct BucketImport {
    pub(super) bucket: Arc<BucketTier>,
    pub(super) pins: PinRecords,
    pub(super) key: Key,
    pub(super) meta: Meta,
    pub(super) on_conflict: PinConflict,
}

/// An archive that is pinned, and to be stored here.
pub(super) struct SettledImport {
    pub(super) spool: Spool,
    pub(super) meta: Meta,
    /// The state of its pin in the bucket, if the archive is to be queued for its upload.
    pub(super) upload: Option<PinState>,
}

impl BucketImport {
    /// Pins the archive in the bucket, then here, and uploads it where [`BucketTier::uploads_first`] demands it.
    ///
    /// # Errors
    /// `Overruled` where the bucket has pinned other content; `Bucket` when it cannot be used: the import may be repeated.
    pub(super) async fn settle(self, spool: Spool, pin: Option<Pin>) -> Result<SettledImport, ImportError> {
        let Self { bucket, pins, key, meta, on_conflict } = self;
        let mut settled = None;
        if let Some(pin) = pin {
            // Compares once more: a request may have pinned the version while the bytes arrived, and the bucket may not
            // have that pin yet.
            pins.check_import(&key, &pin.verified, on_conflict).await?;
            let first_seen = settle_in_bucket(&bucket, &pin, &pins).await?.first_seen;
            pins.settle_import(Pin { first_seen, ..pin }, on_conflict).await?;
            // It may have been pinned here before, at another time.
            settled = pins.read(&key).await?;
        }
        if !bucket.uploads_first(meta.len) {
            return Ok(SettledImport { spool, meta, upload: Some(PinState::Settled) });
        }
        match with_patience(|| bucket.upload_spool(&key, settled.as_deref(), &meta, &spool, &pins)).await {
            Ok(TierUpload::Written | TierUpload::Present) => Ok(SettledImport { spool, meta, upload: None }),
            Ok(TierUpload::NotPinned) => Err(ImportError::Invalid("it was forgotten while it was imported".to_owned())),
            Err(NotUploaded::Bucket(error)) => Err(error.into()),
            Err(NotUploaded::Disk(error)) => Err(error.into()),
        }
    }
}

/// Pins content in the bucket; returns what is pinned there.
async fn settle_in_bucket(bucket: &BucketTier, pin: &Pin, pins: &PinRecords) -> Result<Pin, ImportError> {
    match with_patience(|| bucket.archives.settle(pin)).await? {
        SharedPin::Agreed(agreed) => Ok(agreed),
        SharedPin::Other(other) => {
            tracing::error!(
                key = %pin.key, pinned = %other.verified.manifest, imported = %pin.verified.manifest,
                "pin-mismatch: an import has other content than the bucket"
            );
            // Recorded here, so that it counts also while the bucket cannot be asked. A pin of this mirror with other
            // content is reconciled by the queue of uploads.
            let _ = pins.agree(other).await;
            Err(ImportError::Overruled)
        }
    }
}

/// Writes an imported document, unless the bucket has one that was confirmed at least as late.
///
/// # Errors
/// When the bucket cannot be used; the call may be repeated.
pub(super) async fn import_document(bucket: &BucketTier, key: &Key, document: &Document) -> Result<(), BucketError> {
    let written = || async {
        let found = bucket.documents.find(key, bucket.clock.now()).await?;
        let known = found.document.as_ref();
        match known.is_some_and(|known| known.meta.validated_at >= document.meta.validated_at) {
            true => Ok(()),
            false => bucket.documents.put(key, document, found).await,
        }
    };
    with_patience(written).await
}
