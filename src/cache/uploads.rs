//! Uploads of stored archives to the shared bucket, in the background, from a queue that outlives the process.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{
    ArchiveTiers, PinRecords,
    bucket_tier::{BucketTier, pin_of},
};
use crate::{
    entry::{Key, Pin},
    shared::{BucketError, SharedPin},
    storage::{
        Object,
        disk::{PinState, QueuedUpload},
    },
};

/// Archives that are read from the queue at once.
const BATCH: usize = 64;
/// The queue is read at least this often, also when nothing was queued.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// The pause after an upload that failed.
const UPLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Uploads what is queued.
pub(super) struct Uploader {
    pub(super) bucket: Arc<BucketTier>,
    pub(super) tiers: Arc<ArchiveTiers>,
    pub(super) pins: PinRecords,
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
                    let _ = timeout(MAX_IDLE, self.bucket.queue().queued()).await;
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
            let batch = self.bucket.queue().after(&after, BATCH).await.map_err(|error| {
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
            Err(NotUploaded::Here(error)) => {
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
        let pin = self.pins.read(key).await?;
        if let (PinState::LocalOnly, Some(pin)) = (upload.pin, &pin) {
            let own = pin_of(key, pin.first_seen, &object.meta);
            if self.reconcile(&own, Some(&object)).await? == Reconciled::OtherContent {
                return Ok(());
            }
        }
        let first_seen = pin.map_or(object.meta.stored_at, |pin| pin.first_seen);
        self.bucket.upload(key, first_seen, &object).await?;
        Ok(())
    }

    /// Settles a pin that this mirror has made alone. Where the bucket has another one, that counts: it replaces this
    /// mirror's, and `object`, its archive, is quarantined.
    pub(super) async fn reconcile(&self, own: &Pin, object: Option<&Object>) -> Result<Reconciled, NotUploaded> {
        let SharedPin::Other(other) = self.bucket.settle_pin(own).await? else { return Ok(Reconciled::Agreed) };
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

/// What the bucket says of a pin of this mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reconciled {
    /// The content is the same on both sides.
    Agreed,
    /// The bucket has other content, which counts.
    OtherContent,
}

/// Something stays queued for now.
struct QueueStopped;

/// Why an archive is not uploaded.
#[derive(Debug, thiserror::Error)]
pub enum NotUploaded {
    /// The bucket cannot be asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The disk cannot be read or written.
    #[error(transparent)]
    Here(#[from] std::io::Error),
}
