//! Uploads of stored archives to the shared bucket, in the background, from a queue that outlives the process.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{ArchiveTiers, NotUploaded, PinRecords, bucket_tier::BucketTier, pins::pin_of};
use crate::{
    entry::{Key, Pin},
    shared::SharedPin,
    storage::{
        Object,
        disk::{PinState, QueuedUpload},
    },
};

/// Archives that are read from the queue at once.
const UPLOAD_BATCH_ARCHIVES: usize = 64;
/// Longest time between two reads of the queue, also when nothing was queued.
const MAX_QUEUE_IDLE: Duration = Duration::from_secs(60);
/// The pause after an upload that failed.
const UPLOAD_PAUSE: Duration = Duration::from_secs(1);

/// True for the key of an archive whose content is pinned; false for revisions.
pub(crate) type PinnedKeys = fn(&Key) -> bool;

/// Uploads what is queued.
pub(super) struct Uploader {
    pub(super) bucket: Arc<BucketTier>,
    pub(super) tiers: Arc<ArchiveTiers>,
    pub(super) pins: PinRecords,
    pub(super) is_pinned: PinnedKeys,
}

/// What became of one queued archive.
enum UploadOutcome {
    /// It is in the bucket, or no longer here.
    Done(QueuedUpload),
    /// It stays queued.
    Failed,
}

impl Uploader {
    /// Uploads until it is dropped. What is not uploaded then stays queued.
    pub(super) async fn run(self) {
        loop {
            match self.upload_all().await {
                Ok(()) => {
                    // Either an archive was queued, or it is time to look.
                    let _ = timeout(MAX_QUEUE_IDLE, self.bucket.queue().queued()).await;
                }
                Err(QueueStopped) => sleep(self.pause()).await,
            }
        }
    }

    fn pause(&self) -> Duration {
        let pause = self.bucket.bucket().status().paused_seconds.unwrap_or_default();
        Duration::from_secs(pause).max(UPLOAD_PAUSE)
    }

    /// Goes through the queue once.
    async fn upload_all(&self) -> Result<(), QueueStopped> {
        let mut after = Key::new("");
        let mut outcome = Ok(());
        loop {
            let batch = self.bucket.queue().after(&after, UPLOAD_BATCH_ARCHIVES).await.map_err(|error| {
                tracing::warn!(%error, "the queue of uploads cannot be read");
                QueueStopped
            })?;
            let Some(last) = batch.last() else { return outcome };
            after = last.key.clone();
            let tried = batch.len();
            let outcomes = stream::iter(batch.into_iter().map(|upload| self.upload(upload)));
            let outcomes: Vec<_> = outcomes.buffer_unordered(self.bucket.concurrent_uploads()).collect().await;
            let done: Vec<_> = outcomes
                .into_iter()
                .filter_map(|outcome| match outcome {
                    UploadOutcome::Done(upload) => Some(upload),
                    UploadOutcome::Failed => None,
                })
                .collect();
            if done.len() < tried {
                outcome = Err(QueueStopped);
            }
            if let Err(error) = self.bucket.queue().remove(done).await {
                tracing::warn!(%error, "the queue of uploads cannot be written");
                return Err(QueueStopped);
            }
            if outcome.is_err() && self.bucket.bucket().status().paused_seconds.is_some() {
                return outcome;
            }
        }
    }

    async fn upload(&self, upload: QueuedUpload) -> UploadOutcome {
        let key = &upload.key;
        match self.try_upload(&upload).await {
            Ok(()) => UploadOutcome::Done(upload),
            Err(NotUploaded::Bucket(error)) => {
                tracing::debug!(%key, %error, "an archive is not uploaded yet");
                UploadOutcome::Failed
            }
            Err(NotUploaded::Disk(error)) => {
                tracing::warn!(%key, %error, "an archive that is to be uploaded cannot be read");
                UploadOutcome::Failed
            }
        }
    }

    async fn try_upload(&self, upload: &QueuedUpload) -> Result<(), NotUploaded> {
        let key = &upload.key;
        let Some(object) = self.tiers.peek(key).await?.filter(|object| object.meta.digest == upload.digest) else {
            // Removed, or replaced by an archive with an entry of its own.
            return Ok(());
        };
        let pin = match self.claimable_pin(&object, key).await? {
            ArchivePin::Pinned(pin) => Some(pin),
            ArchivePin::Revision => None,
            ArchivePin::Forgotten | ArchivePin::OtherContent => return Ok(()),
        };
        if let (PinState::LocalOnly, Some(pin)) = (upload.pin, &pin)
            && self.reconcile(pin, Some(&object)).await? != Reconciled::Agreed
        {
            return Ok(());
        }
        self.bucket.upload(key, pin.as_deref(), &object, &self.pins).await?;
        Ok(())
    }

    /// The pin that an archive may be claimed with.
    pub(super) async fn claimable_pin(&self, object: &Object, key: &Key) -> Result<ArchivePin, NotUploaded> {
        let manifest = object.meta.verified.manifest;
        Ok(match self.pins.read(key).await? {
            Some(pin) if pin.verified.manifest == manifest => {
                ArchivePin::Pinned(Box::new(pin_of(key, pin.first_seen, &object.meta)))
            }
            Some(_) => ArchivePin::OtherContent,
            None if (self.is_pinned)(key) => ArchivePin::Forgotten,
            None => ArchivePin::Revision,
        })
    }

    /// Settles a pin that this mirror has made alone. A pin of the bucket with other content counts: it replaces this
    /// mirror's, and `object`, the archive of that, is quarantined.
    pub(super) async fn reconcile(&self, own: &Pin, object: Option<&Object>) -> Result<Reconciled, NotUploaded> {
        let other = match self.bucket.settle_pin(own, &self.pins).await? {
            Some(SharedPin::Agreed(_)) => return Ok(Reconciled::Agreed),
            Some(SharedPin::Other(other)) => other,
            None => return Ok(Reconciled::Forgotten),
        };
        tracing::error!(
            key = %own.key, own = %own.verified.manifest, shared = %other.verified.manifest,
            "pin-mismatch: the bucket has other content than this mirror, which has served its own; the bucket's counts, \
             and this mirror's copy is quarantined"
        );
        self.pins.replace(other).await?;
        if let Some(object) = object {
            self.tiers.quarantine(object).await;
        }
        Ok(Reconciled::OtherContent)
    }
}

/// How a pin of this mirror compares with the bucket's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reconciled {
    /// The content is the same on both sides.
    Agreed,
    /// The bucket has other content, which counts.
    OtherContent,
    /// This mirror no longer has the pin.
    Forgotten,
}

/// Whether an archive may be claimed, and with which pin.
pub(super) enum ArchivePin {
    /// With its pin.
    Pinned(Box<Pin>),
    /// Without one: it is a revision of moving content.
    Revision,
    /// Not at all: it was forgotten since it was stored.
    Forgotten,
    /// Not at all: other content of its version counts.
    OtherContent,
}

/// At least one archive stays queued for now.
struct QueueStopped;
