//! A fill: one download of one key, detached from the clients that wait for it.
//!
//! It ends in exactly one [`FillState::Ended`]. Its steps, in order: a second lookup in the tiers, the pin, the upstream
//! (which waits for a place), a spool (or memory, without room on disk), the body (resumed where it breaks), verification,
//! the pin again, [`FillState::Ended`], admission, and last its removal from the table.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    ArchiveRequest, Pinning,
    abandoned::WatchedDownload,
    body_store::{BodyStore, ReceivedBody, StoredBody},
    bucket_uploads::{NotUploaded, TierUpload},
    download::Download,
    download_source::DownloadSource,
    fill_context::{FillContext, FillFailure},
    fill_state::{ArrivingBody, FillState},
    no_room::{Remedy, RemedyUntil},
    single_flight::FlightGuard,
};
use crate::{
    entry::Meta,
    http::cache_status::NO_ROOM,
    observe::DownloadOutcome,
    origin::FetchError,
    storage::{
        Object, ObjectContent,
        disk::{PinState, Spool},
    },
};

/// One fill and everything it needs.
pub(super) struct Fill {
    pub(super) context: Arc<FillContext>,
    pub(super) request: ArchiveRequest,
    pub(super) guard: FlightGuard<FillState>,
}

/// Where the archive of a fill is.
#[expect(clippy::large_enum_variant, reason = "one per fill, moved once")]
enum FetchedArchive {
    /// In a spool: whole, verified and pinned.
    Spooled {
        spool: Spool,
        meta: Meta,
        /// The state of its pin in the bucket, if it is to be queued for its upload.
        upload: Option<PinState>,
    },
    /// In memory: whole, verified and pinned, without room on disk.
    InMemory(Object),
    /// In a tier since before the fill started.
    Stored(Object),
}

/// When the clients of a fill get their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamingHead {
    /// When it has arrived.
    AtOnce,
    /// The archive is pinned: a short body is compared with its pin first, so that other content is an error response and
    /// no broken connection. A long one streams, and its end is withheld until the comparison.
    AfterVerdictIfShort,
}

/// A body of this many bytes is long: it streams before it is compared with its pin.
const LONG_BODY_BYTES: u64 = 1 << 20;
/// A body that has been arriving for this long is long, too.
const LONG_BODY_TIME: Duration = Duration::from_secs(3);

/// When to ask again for an archive that has no room while the disk fails, and not for want of space.
const FAILING_DISK_RETRY: Duration = Duration::from_secs(10);

impl Fill {
    /// Runs to the end. A final state is published before the fill leaves the table, also by a panic.
    pub(super) async fn run(self) {
        let started = self.context.clock.now();
        let filled = match self.context.aborted.run_until_cancelled(self.fetch()).await {
            Some(filled) => filled,
            None => Err(FetchError::Unreachable("the mirror is stopping").into()),
        };
        match filled {
            Ok(FetchedArchive::Stored(object)) => self.publish_end(Ok(object)),
            Ok(FetchedArchive::InMemory(object)) => {
                self.note_end(DownloadOutcome::InMemory);
                self.remember_full_disk(Remedy::Memory);
                self.publish_end(Ok(object));
            }
            Ok(FetchedArchive::Spooled { spool, meta, upload }) => {
                self.note_end(DownloadOutcome::Stored);
                let content = ObjectContent::Disk(spool.file());
                let object = Object { meta: Arc::new(meta.clone()), content, tier: "spool", usage: None };
                self.publish_end(Ok(object));
                self.context.tiers.admit(&self.request.key, spool, meta, upload).await;
                if let Pinning::Revision { prefix } = &self.request.pinning {
                    self.context.tiers.supersede(&self.request.key, prefix, started).await;
                }
            }
            Err(FillFailure::NoRoom) => {
                self.note_end(DownloadOutcome::NoRoom);
                let retry_after = self.remember_full_disk(Remedy::None);
                tracing::warn!(key = %self.request.key, "no room on disk, and too large for memory");
                self.publish_end(Err(FetchError::NoRoom { retry_after }));
            }
            Err(FillFailure::SpoolUnreadable) => {
                self.note_end(DownloadOutcome::NoRoom);
                self.context.without_room.insert(&self.request.key, Remedy::Memory);
                self.publish_end(Err(FetchError::NoRoom { retry_after: Duration::from_secs(1) }));
            }
            Err(FillFailure::Remembered(error)) => self.publish_end(Err(error)),
            Err(FillFailure::NotOpened(error)) => {
                self.note_end(DownloadOutcome::Failed);
                self.context.failures.remember_download(&self.request.key, &error, self.request.negative);
                self.publish_end(Err(error));
            }
            Err(FillFailure::Failed(error)) => {
                self.note_end(DownloadOutcome::Failed);
                tracing::warn!(key = %self.request.key, %error, "a download was refused or broke off");
                self.context.failures.remember_download(&self.request.key, &error, self.request.negative);
                self.publish_end(Err(error));
            }
        }
    }

    fn note_end(&self, outcome: DownloadOutcome) {
        self.context.tiers.metrics().note_download(outcome);
    }

    fn publish_end(&self, end: Result<Object, FetchError>) {
        self.guard.publish(FillState::Ended(end));
    }

    /// Remembers that the disk is full for this key. Returns how long that holds: a disk that fails for another reason may
    /// work again at once.
    fn remember_full_disk(&self, remedy: Remedy) -> Duration {
        let Self { context, request, .. } = self;
        if context.tiers.is_writable() { context.without_room.insert(&request.key, remedy) } else { FAILING_DISK_RETRY }
    }

    /// Downloads, verifies and pins the archive, unless it is in a tier by now.
    async fn fetch(&self) -> Result<FetchedArchive, FillFailure> {
        let Self { context, request, .. } = self;
        if let Some(object) = context.tiers.lookup(&request.key).await {
            return Ok(FetchedArchive::Stored(object));
        }
        if let Some(error) = context.failures.recent(&request.key) {
            // An earlier fill failed between the caller's lookup and the start of this one.
            return Err(FillFailure::Remembered(error));
        }
        let remedy = context.without_room.remedy(&request.key);
        if let Some(RemedyUntil { remedy: Remedy::None, left }) = remedy {
            return Err(FillFailure::Remembered(FetchError::NoRoom { retry_after: left }));
        }
        let pin = context.pins.expected(request).await?;
        let source = DownloadSource::find(context, request, pin, remedy.is_none()).await?;
        let fetched = self.download(&source).await;
        if let (Some(claimed), Err(FillFailure::Failed(FetchError::Invalid(_) | FetchError::PinMismatch))) =
            (&source.claimed, &fetched)
        {
            claimed.discard().await;
        }
        fetched
    }

    /// Downloads the archive from `source`, verifies and pins it.
    async fn download(&self, source: &DownloadSource) -> Result<FetchedArchive, FillFailure> {
        let context = &self.context;
        let mut request = self.request.clone();
        if let Some(origin) = &source.origin {
            request.origin = origin.clone();
        }
        let download = Download::open(&request, context.limits.max_size.0, context.limits.resumes).await;
        let download = download.map_err(|error| match error {
            // Announced to be too large: the request itself succeeded.
            FetchError::TooLarge { .. } => FillFailure::Failed(error),
            error => FillFailure::NotOpened(error),
        })?;
        let mut watched = WatchedDownload::new(download, &self.guard);
        let first = self.first_bytes(&mut watched).await?;
        let announced = watched.download.len;
        let spool = if source.has_disk { context.tiers.open_spool(announced).await } else { None };
        let head = if source.pin.is_some() { StreamingHead::AfterVerdictIfShort } else { StreamingHead::AtOnce };
        let ReceivedBody { stored, digest, verified } = self.receive(&mut watched, first, spool, head).await?;

        let len = watched.download.received;
        let stored_at = context.clock.now();
        let meta = Meta { digest, len, stored_at, anonymous: watched.download.anonymous, verified };
        let upload = self.settle(source, &meta).await?;
        Ok(match stored {
            StoredBody::Spool(spool) => {
                let upload = self.upload_first(&spool, &meta, upload).await;
                FetchedArchive::Spooled { spool, meta, upload }
            }
            StoredBody::Memory(bytes) => {
                let content = ObjectContent::Memory(bytes);
                FetchedArchive::InMemory(Object { meta: Arc::new(meta), content, tier: NO_ROOM, usage: None })
            }
        })
    }

    /// Pins the archive: in the bucket, then here. Returns the state of the pin where the bucket does not have the archive.
    async fn settle(&self, source: &DownloadSource, meta: &Meta) -> Result<Option<PinState>, FetchError> {
        let Self { context, request, .. } = self;
        let upload = match (&context.bucket, &source.claimed) {
            (None, _) => None,
            (Some(_), Some(claimed)) => claimed.needs_upload().then_some(PinState::Settled),
            (Some(bucket), None) => {
                let known = source.pin.as_deref();
                Some(bucket.settle(request, known, meta, &context.pins, source.decided_by).await?)
            }
        };
        context.pins.settle(request, source.pin.clone(), meta).await?;
        Ok(upload)
    }

    /// Uploads the archive before its end is published, if [`BucketTier::uploads_first`] demands it. Returns the state
    /// of its pin if it is still to be queued for its upload.
    async fn upload_first(&self, spool: &Spool, meta: &Meta, upload: Option<PinState>) -> Option<PinState> {
        let Self { context, request, .. } = self;
        let bucket = context.bucket.as_ref()?;
        let pin = upload?;
        if pin == PinState::LocalOnly || !bucket.uploads_first(meta.len) {
            return upload;
        }
        let uploaded = async {
            let pin = context.pins.read(&request.key).await?;
            if pin.is_none() && request.pinning == Pinning::Pinned {
                return Ok::<_, NotUploaded>(TierUpload::NotPinned);
            }
            bucket.upload_spool(&request.key, pin.as_deref(), meta, spool, &context.pins).await
        };
        match uploaded.await {
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(key = %request.key, %error, "a new zip is sent before it is in the bucket");
                // What is queued is not evicted: beyond the limit, a zip is stored here alone.
                upload.filter(|_| !bucket.is_queue_full(meta.len))
            }
        }
    }

    /// Reads until the verifier accepts the first bytes, so that no client ever gets a wrong first byte.
    async fn first_bytes(&self, watched: &mut WatchedDownload<'_>) -> Result<Vec<Bytes>, FetchError> {
        let needed = self.request.verify.prefix_len();
        let mut first = Vec::new();
        loop {
            match watched.next().await {
                Ok(Some(chunk)) => first.push(chunk),
                Ok(None) => break,
                Err(error) => {
                    watched.download.restart(error).await?;
                    first.clear();
                }
            }
            if first.iter().map(Bytes::len).sum::<usize>() >= needed {
                break;
            }
        }
        let prefix: Vec<u8> = first.iter().flatten().copied().take(needed).collect();
        self.request.verify.prefix(&prefix)?;
        Ok(first)
    }

    /// Receives the body into the spool and verifies it beside the download; from `head` on, clients may read it as it
    /// grows, except its end. Without room on disk, the body is received in memory.
    async fn receive(
        &self,
        watched: &mut WatchedDownload<'_>,
        first: Vec<Bytes>,
        spool: Option<Spool>,
        head: StreamingHead,
    ) -> Result<ReceivedBody, FillFailure> {
        let Self { context, request, guard } = self;
        let announced = watched.download.len;
        let began = Instant::now();
        let mut unpublished =
            spool.as_ref().map(|spool| ArrivingBody { spool: spool.file(), len: announced, written: 0 });
        if head == StreamingHead::AtOnce {
            unpublished.take().into_iter().for_each(|body| guard.publish(FillState::Streaming(body)));
        }
        let mut store = match spool {
            Some(spool) => BodyStore::spool(context, spool, announced, &request.verify, guard.sender()),
            None => BodyStore::Memory(context.memory.body(announced)?),
        };
        for chunk in first {
            store = store.write(context, chunk).await?;
        }
        loop {
            match watched.next().await {
                Ok(Some(chunk)) => store = store.write(context, chunk).await?,
                Ok(None) => break,
                Err(error) => {
                    let (unbroken, prefix_digest) = store.checkpoint(context).await?;
                    store = unbroken;
                    watched.download.resume(error, prefix_digest).await?;
                }
            }
            let is_long = watched.download.received >= LONG_BODY_BYTES || began.elapsed() >= LONG_BODY_TIME;
            if let Some(body) = unpublished.take_if(|_| is_long || !store.is_spooled())
                && store.is_spooled()
            {
                guard.publish(FillState::Streaming(body));
            }
            // The rest of a bad body need not be fetched.
            if let Some(refusal) = store.early_refusal().await {
                return Err(refusal);
            }
        }
        store.finish(context, &request.verify).await
    }
}
