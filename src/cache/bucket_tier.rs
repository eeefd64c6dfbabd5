//! The tier behind the disk: the bucket that several mirrors share.
//!
//! A fill looks there before it asks the upstream ([`BucketTier::find`]), pins new content there before any client has its
//! last bytes ([`BucketTier::settle`]), and what it has stored is queued for its upload ([`super::uploads`]).

use std::{
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    ArchiveRequest, DocumentsRemoved, PinRecords, Pinning, RemovedDocument,
    pins::{pin_of, pins_unavailable_for},
};
use crate::{
    clock::Clock,
    entry::{Document, Key, Meta, Pin},
    origin::{BoxFuture, FetchError, FetchedBody, Origin},
    shared::{
        Arbiter, Arbitration, Bucket, BucketDocument, BucketError, BucketStatus, Claim, Config, Durability,
        SharedArchives, SharedDocuments, SharedPin, SharedSources,
    },
    storage::{
        Object,
        disk::{DiskUploads, PinState, UploadQueueUsage},
    },
    value::ByteSize,
};

/// Bytes per read of a zip that is uploaded.
const UPLOAD_READ_BYTES: usize = 1 << 20;
/// Longest wait for a document of the bucket, which only spares a request to the upstream.
const DOCUMENT_PATIENCE: Duration = Duration::from_secs(1);
/// Keys that are forgotten in the bucket at once.
const CONCURRENT_REMOVALS: usize = 16;
/// Largest document that mirrors leave to each other, bytes: it is read at once.
const MAX_SHARED_DOCUMENT_BYTES: usize = 2 << 20;
/// `Retry-After` of a response where the bucket cannot decide on new content.
const UNDECIDED_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The bucket behind the disk.
pub struct BucketTier {
    bucket: Arc<Bucket>,
    pub(super) archives: SharedArchives,
    pub(super) documents: SharedDocuments,
    sources: SharedSources,
    durable: Durability,
    arbiter: Arbiter,
    /// What waits for its upload.
    queue: DiskUploads,
    /// Most bytes that wait for their upload.
    queue_limit: u64,
    /// Concurrent uploads.
    uploads: usize,
    lone_pins: LonePins,
    pub(super) clock: Clock,
}

/// The bucket as an operator sees it.
#[derive(Clone, Debug)]
pub struct BucketState {
    /// Its requests and their results.
    pub status: BucketStatus,
    /// What waits for its upload.
    pub queued: UploadQueueUsage,
    /// Most bytes that wait for their upload.
    pub queue_limit: u64,
}

/// Whether this mirror may serve content that was never seen before while the bucket cannot decide on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LonePins {
    /// It may: it is the only mirror that does.
    Allowed,
    /// It may not: another mirror might serve other content.
    Refused,
}

/// Which store decides on the content of a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decider {
    /// The bucket; or this mirror, where it may decide alone.
    Bucket,
    /// The first node of the fleet, which has sent the content, while the bucket cannot be asked.
    FirstNode,
}

/// What the bucket has of a requested archive.
#[derive(Default)]
pub(super) struct BucketLookup {
    /// The pin, also where only the bucket knew it.
    pub(super) pin: Option<Arc<Pin>>,
    /// The archive, if the bucket has it.
    pub(super) claimed: Option<Arc<ClaimedArchive>>,
}

impl BucketTier {
    /// The tier of a bucket, with the queue of what is to be uploaded.
    pub fn new(bucket: Arc<Bucket>, config: &Config, queue: DiskUploads, lone_pins: LonePins, clock: Clock) -> Self {
        Self {
            archives: SharedArchives::new(bucket.clone(), clock.clone()),
            documents: SharedDocuments::new(bucket.clone(), MAX_SHARED_DOCUMENT_BYTES),
            sources: SharedSources::new(bucket.clone()),
            bucket,
            durable: config.durable,
            arbiter: config.arbiter,
            queue,
            queue_limit: config.upload_queue.0,
            uploads: config.uploads,
            lone_pins,
            clock,
        }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Arc<Bucket> {
        &self.bucket
    }

    /// The recorded sources there.
    pub fn sources(&self) -> &SharedSources {
        &self.sources
    }

    /// Whether this mirror may decide on what was never seen before while the bucket cannot.
    pub fn lone_pins(&self) -> LonePins {
        self.lone_pins
    }

    /// The state of the bucket for an operator.
    pub(super) fn state(&self) -> BucketState {
        BucketState { status: self.bucket.status(), queued: self.queue.usage(), queue_limit: self.queue_limit }
    }

    /// What is wrong with the bucket, one sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let status = self.bucket.status();
        let queued = self.queue.usage();
        let mut faults = Vec::new();
        if let (Some(seconds), Some(failure)) = (status.paused_seconds, status.last_failure) {
            let error = failure.error;
            faults.push(format!("the shared bucket does not work ({error}); it is asked again in {seconds} s"));
        } else if status.arbitration == Some(Arbitration::Absent) && self.arbiter == Arbiter::Bucket {
            faults.push("the shared bucket creates an object twice, so it decides on no new version".into());
        } else if status.arbitration.is_none() {
            faults.push("the shared bucket has not answered yet, so it decides on no new version".into());
        }
        if queued.bytes > self.queue_limit {
            let size = ByteSize(queued.bytes);
            let archives = queued.archives;
            faults
                .push(format!("{archives} zips ({size}) wait for their upload, more than shared.upload_queue allows"));
        }
        faults
    }

    /// What waits for its upload.
    pub(super) fn queue(&self) -> &DiskUploads {
        &self.queue
    }

    /// Concurrent uploads.
    pub(super) fn concurrent_uploads(&self) -> usize {
        self.uploads
    }

    /// Looks an archive up. `pin` is what this mirror has pinned under its key.
    ///
    /// # Errors
    /// `PinMismatch` where the bucket has other content than this mirror's pin; `PinsUnavailable` where the bucket cannot
    /// be asked about content that this mirror does not know, and must not decide on alone.
    pub(super) async fn find(
        self: &Arc<Self>,
        request: &ArchiveRequest,
        pin: Option<Arc<Pin>>,
        pins: &PinRecords,
    ) -> Result<BucketLookup, FetchError> {
        let key = &request.key;
        let claim = match self.archives.find(key).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return Ok(BucketLookup { pin, claimed: None }),
            Err(error) => {
                self.check_may_decide(request, pin.as_deref(), error)?;
                return Ok(BucketLookup { pin, claimed: None });
            }
        };
        let pin = match request.pinning {
            Pinning::Pinned => Some(pins.agree(claim.pin()).await?),
            Pinning::Revision { .. } => None,
        };
        let claimed = ClaimedArchive {
            tier: self.clone(),
            claim,
            upstream: request.origin.clone(),
            used_upstream: AtomicBool::new(false),
        };
        Ok(BucketLookup { pin, claimed: Some(Arc::new(claimed)) })
    }

    /// Pins fetched content in the bucket before it is pinned here.
    ///
    /// # Errors
    /// `PinMismatch` where another mirror has pinned other content; `PinsUnavailable` as [`BucketTier::find`].
    pub(super) async fn settle(
        &self,
        request: &ArchiveRequest,
        known: Option<&Pin>,
        meta: &Meta,
        pins: &PinRecords,
        decided_by: Decider,
    ) -> Result<PinState, FetchError> {
        if request.pinning != Pinning::Pinned {
            return Ok(PinState::Settled);
        }
        let first_seen = known.map_or(meta.stored_at, |known| known.first_seen);
        let pin = pin_of(&request.key, first_seen, meta);
        match self.archives.settle(&pin).await {
            Ok(SharedPin::Agreed(agreed)) => pins.agree(agreed).await.map(|_| PinState::Settled),
            Ok(SharedPin::Other(other)) => {
                tracing::error!(
                    key = %request.key, pinned = %other.verified.manifest, now = %meta.verified.manifest,
                    "pin-mismatch: another mirror has first seen other content"
                );
                // Recorded here, so that it counts also while the bucket cannot be asked.
                pins.agree(other).await?;
                Err(FetchError::PinMismatch)
            }
            Err(_) if decided_by == Decider::FirstNode && !self.is_queue_full(meta.len) => Ok(PinState::LocalOnly),
            Err(error) => {
                self.check_may_decide(request, known, error)?;
                Ok(PinState::LocalOnly)
            }
        }
    }

    /// Checks that this mirror may go on without the bucket: it knows the pin, needs none, or may pin alone.
    fn check_may_decide(
        &self,
        request: &ArchiveRequest,
        known: Option<&Pin>,
        error: BucketError,
    ) -> Result<(), FetchError> {
        // A pin that cannot be queued would never be settled.
        let is_alone = self.lone_pins == LonePins::Allowed && !self.is_queue_full(0);
        if known.is_some() || request.pinning != Pinning::Pinned || is_alone {
            tracing::debug!(key = %request.key, %error, "the bucket cannot be asked, and need not decide");
            return Ok(());
        }
        tracing::warn!(key = %request.key, %error, "a new version is not fetched: the bucket cannot pin it");
        Err(pins_unavailable_for(retry_after(error)))
    }

    /// True when a new archive is uploaded before its end reaches a client.
    pub(super) fn uploads_first(&self, len: u64) -> bool {
        self.durable == Durability::BeforeLastBytes || self.is_queue_full(len)
    }

    /// True when the queue of uploads has no room for `len` more bytes.
    pub(super) fn is_queue_full(&self, len: u64) -> bool {
        self.queue.usage().bytes.saturating_add(len) > self.queue_limit
    }

    /// True where the bucket has pinned this content.
    pub(super) async fn has_pin(&self, pin: &Pin) -> Result<bool, BucketError> {
        let settled = self.archives.pinned(&pin.key).await?;
        Ok(settled.is_some_and(|settled| settled.verified.manifest == pin.verified.manifest))
    }

    /// Removes the pins and claims of keys; with `until`, only those that were first seen at this time at the latest.
    pub(super) async fn forget(&self, keys: &[Key], until: Option<Timestamp>) -> Result<(), BucketError> {
        let forgotten = stream::iter(keys.to_vec()).map(async |key| match until {
            Some(until) => self.archives.forget_until(&key, until).await,
            None => self.archives.forget(&key).await,
        });
        forgotten.buffer_unordered(CONCURRENT_REMOVALS).try_collect().await
    }

    /// Removes pins and their claims, unless the bucket has later ones.
    pub(super) async fn forget_pins(&self, pins: &[Arc<Pin>]) -> Result<(), BucketError> {
        let forgotten = stream::iter(pins.to_vec()).map(async |pin| self.archives.forget_pin(&pin).await);
        forgotten.buffer_unordered(CONCURRENT_REMOVALS).try_collect().await
    }

    /// Removes documents.
    ///
    /// # Errors
    /// The first one, when the bucket cannot be asked; some are removed then.
    pub async fn remove_documents(&self, keys: &[Key]) -> Result<(), BucketError> {
        let removed = stream::iter(keys.to_vec()).map(async |key| self.documents.remove(&key).await);
        removed.buffer_unordered(CONCURRENT_REMOVALS).try_collect().await
    }

    /// Removes documents in order, several at once, unless they were written later. After a failure, none is begun.
    pub async fn remove_documents_until(&self, documents: &[RemovedDocument], concurrent: usize) -> DocumentsRemoved {
        let has_failed = AtomicBool::new(false);
        let begun = stream::iter(documents.to_vec()).take_while(|_| ready(!has_failed.load(Ordering::Relaxed)));
        let removals = begun.map(async |document| {
            let removed = self.documents.remove_until(&document.key, document.at, self.clock.now()).await;
            has_failed.fetch_or(removed.is_err(), Ordering::Relaxed);
            (document, removed)
        });
        let mut removals = pin!(removals.buffer_unordered(concurrent));
        let mut outcome = DocumentsRemoved::default();
        while let Some((document, removed)) = removals.next().await {
            match removed {
                Ok(meta) => {
                    outcome.found.extend(meta.map(|meta| (document.key.clone(), meta)));
                    outcome.done.push(document);
                }
                Err(error) => {
                    outcome.last_refused = outcome.last_refused.max(Some(document.key));
                    outcome.error.get_or_insert(error);
                }
            }
        }
        outcome
    }

    /// The document in the bucket, or its absence; `None` when the bucket does not answer in time.
    pub(super) async fn document(&self, key: &Key) -> Option<BucketDocument> {
        match timeout(DOCUMENT_PATIENCE, self.documents.find(key, self.clock.now())).await {
            Ok(found) => found.ok(),
            Err(_) => {
                self.bucket.note_timeout();
                None
            }
        }
    }

    /// Writes a document in place of what was found. A failure is only logged: documents in the bucket are hints.
    pub(super) async fn put_document(&self, key: &Key, document: &Document, found: BucketDocument) {
        if let Err(error) = self.documents.put(key, document, found).await {
            tracing::debug!(%key, %error, "a document is not written to the bucket");
        }
    }
}

/// How long to wait until content that the bucket could not decide on is requested again.
pub fn retry_after(error: BucketError) -> Duration {
    match error {
        BucketError::Paused { retry_after } => retry_after.max(Duration::from_secs(1)),
        _ => UNDECIDED_RETRY_AFTER,
    }
}

/// The bytes of an archive, read as they are sent.
pub(super) fn bytes_of(object: Object) -> BoxStream<'static, std::io::Result<Bytes>> {
    let len = object.meta.len;
    stream::unfold((object, 0_u64), move |(object, offset)| async move {
        if offset >= len {
            return None;
        }
        match object.read(offset, UPLOAD_READ_BYTES).await {
            Ok(bytes) => {
                let next = offset + bytes.len() as u64;
                Some((Ok(bytes), (object, next)))
            }
            Err(error) => Some((Err(error), (object, len))),
        }
    })
    .boxed()
}

/// An archive that the bucket has: fetched from there, and from the upstream where the bucket fails.
pub(super) struct ClaimedArchive {
    tier: Arc<BucketTier>,
    claim: Claim,
    upstream: Arc<dyn Origin<Fetched = FetchedBody>>,
    /// Set when any part of the body comes from the upstream.
    used_upstream: AtomicBool,
}

impl ClaimedArchive {
    /// True when the bucket failed to send it: its bytes may be missing there.
    pub(super) fn needs_upload(&self) -> bool {
        self.used_upstream.load(Ordering::Relaxed)
    }

    /// Removes the bytes from the bucket, which sent invalid ones: they cannot have the digest that they are named by.
    pub(super) async fn discard(&self) {
        if self.needs_upload() {
            return;
        }
        let digest = self.claim.meta.digest;
        tracing::error!(key = %self.claim.key, %digest, "the bucket's bytes of a zip are damaged; they are removed there");
        if let Err(error) = self.tier.archives.discard_damaged(&self.claim).await {
            tracing::warn!(%digest, %error, "damaged bytes stay in the bucket");
        }
    }
}

impl Origin for ClaimedArchive {
    type Fetched = FetchedBody;

    fn fetch<'a>(&'a self, stored: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(async move {
            match self.tier.archives.open(&self.claim).await {
                Ok(body) => Ok(body),
                Err(error) => {
                    tracing::info!(key = %self.claim.key, %error, "the bucket cannot send a zip; the upstream is asked");
                    self.used_upstream.store(true, Ordering::Relaxed);
                    self.upstream.fetch(stored).await
                }
            }
        })
    }

    fn may_come_back(&self) -> bool {
        self.upstream.may_come_back()
    }

    fn may_retry(&self) -> bool {
        self.upstream.may_retry()
    }
}
