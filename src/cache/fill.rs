//! A fill: one download of one key, detached from the clients that wait for it.
//!
//! It ends in exactly one [`FillState::Ended`]. Its steps, in order: a second lookup in the tiers, the pin, the upstream
//! (which waits for a place), a spool, the body (resumed where it breaks), verification, the pin again, `Complete`, admission, and last
//! its removal from the table.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    ArchiveRequest, ArchiveTiers, BackgroundTasks, PinRecords, Pinning,
    abandoned::WatchedDownload,
    download::Download,
    fill_state::{ArrivingBody, FillState, FinishedFill, publish_written},
    negative_cache::NegativeCache,
    no_room::KeysWithoutRoom,
    policy::ArchiveConfig,
    progress::growing_spool,
    single_flight::FlightGuard,
    spool_writer::{ProgressListeners, SpoolWriteError, SpoolWriter},
};
use crate::{
    clock::Clock,
    entry::{Digest, Meta, Verified},
    origin::{FetchError, VerifyError},
    storage::{Object, ObjectContent, disk::Spool},
};

/// What all fills work with.
pub(super) struct FillContext {
    pub(super) tiers: Arc<ArchiveTiers>,
    pub(super) pins: PinRecords,
    pub(super) failures: NegativeCache,
    pub(super) without_room: KeysWithoutRoom,
    pub(super) limits: ArchiveConfig,
    pub(super) clock: Clock,
    pub(super) tasks: BackgroundTasks,
    /// Cancelled at shutdown, when no client waits for a download any more.
    pub(super) aborted: CancellationToken,
}

impl FillContext {
    pub(super) fn new(
        tiers: Arc<ArchiveTiers>,
        pins: PinRecords,
        failures: NegativeCache,
        limits: ArchiveConfig,
        clock: Clock,
        tasks: BackgroundTasks,
    ) -> Self {
        let without_room = KeysWithoutRoom::new(clock.clone());
        Self { tiers, pins, failures, without_room, limits, clock, tasks, aborted: CancellationToken::new() }
    }
}

/// One fill and everything it needs.
pub(super) struct Fill {
    pub(super) context: Arc<FillContext>,
    pub(super) request: ArchiveRequest,
    pub(super) guard: FlightGuard<FillState>,
}

/// Why a fill ends without an object.
enum FillFailure {
    /// The download did not begin: the upstream's client has logged why. To be remembered in the negative cache.
    NotOpened(FetchError),
    /// To be logged, and remembered in the negative cache.
    Failed(FetchError),
    /// From the negative cache: a failure that is younger than its cool-down.
    Remembered(FetchError),
    NoRoom,
}

impl From<FetchError> for FillFailure {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl From<SpoolWriteError> for FillFailure {
    fn from(_: SpoolWriteError) -> Self {
        Self::NoRoom
    }
}

impl From<VerifyError> for FillFailure {
    /// An I/O error means that the spool cannot be read back: the disk's fault, not the upstream's.
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Invalid(reason) => Self::Failed(FetchError::Invalid(reason)),
            VerifyError::NoMemory(shortage) => Self::Failed(shortage.into()),
            VerifyError::Io(error) => {
                tracing::warn!(%error, "the spool cannot be read back");
                Self::NoRoom
            }
        }
    }
}

/// Where the archive of a fill is.
#[expect(clippy::large_enum_variant, reason = "one per fill, moved once")]
enum FetchedArchive {
    /// In a spool: whole, verified and pinned.
    Spooled(Spool, Meta),
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

/// A body is long from this many bytes on ...
const SHORT_BYTES: u64 = 1 << 20;
/// ... or when it takes longer.
const SHORT_TIME: Duration = Duration::from_secs(3);

type VerifyTask = JoinHandle<Result<Verified, VerifyError>>;

impl Fill {
    /// Runs to the end. A final state is published before the fill leaves the table, also by a panic.
    pub(super) async fn run(self) {
        let started = self.context.clock.now();
        let filled = match self.context.aborted.run_until_cancelled(self.fetch()).await {
            Some(filled) => filled,
            None => Err(FetchError::Unreachable("the mirror is stopping").into()),
        };
        match filled {
            Ok(FetchedArchive::Stored(object)) => self.publish_end(Ok(FinishedFill::Complete(object))),
            Ok(FetchedArchive::Spooled(spool, meta)) => {
                let content = ObjectContent::Disk(spool.file());
                let object = Object { meta: Arc::new(meta.clone()), content, tier: "spool", usage: None };
                self.publish_end(Ok(FinishedFill::Complete(object)));
                self.context.tiers.admit(&self.request.key, spool, meta).await;
                if let Pinning::Revision { prefix } = &self.request.pinning {
                    self.context.tiers.supersede(&self.request.key, prefix, started).await;
                }
            }
            Err(FillFailure::NoRoom) => {
                // A disk that fails may work again at once; one that is full stays so.
                if self.context.tiers.is_writable() {
                    self.context.without_room.insert(&self.request.key);
                }
                self.publish_end(Ok(FinishedFill::NoRoom));
            }
            Err(FillFailure::Remembered(error)) => self.publish_end(Err(error)),
            Err(FillFailure::NotOpened(error)) => {
                self.context.failures.remember_download(&self.request.key, &error, self.request.negative);
                self.publish_end(Err(error));
            }
            Err(FillFailure::Failed(error)) => {
                tracing::warn!(key = %self.request.key, %error, "a download was refused or broke off");
                self.context.failures.remember_download(&self.request.key, &error, self.request.negative);
                self.publish_end(Err(error));
            }
        }
    }

    fn publish_end(&self, end: Result<FinishedFill, FetchError>) {
        self.guard.publish(FillState::Ended(end));
    }

    /// Brings a whole, verified and pinned body into a spool, unless the archive is in a tier by now.
    async fn fetch(&self) -> Result<FetchedArchive, FillFailure> {
        let Self { context, request, .. } = self;
        if let Some(object) = context.tiers.lookup(&request.key).await {
            return Ok(FetchedArchive::Stored(object));
        }
        if let Some(error) = context.failures.recent(&request.key) {
            // An earlier fill failed between the caller's lookup and the start of this one.
            return Err(FillFailure::Remembered(error));
        }
        if context.without_room.contains(&request.key) {
            return Err(FillFailure::NoRoom);
        }
        let pin = context.pins.expected(request).await?;
        let download = Download::open(request, context.limits.max_size.0, context.limits.resumes).await;
        let download = download.map_err(|error| match error {
            // Announced to be too large: the request itself succeeded.
            FetchError::TooLarge { .. } => FillFailure::Failed(error),
            error => FillFailure::NotOpened(error),
        })?;
        let mut watched = WatchedDownload::new(download, &self.guard);
        let first = self.first_bytes(&mut watched).await?;
        let spool = context.tiers.open_spool(watched.download.len).await.ok_or(FillFailure::NoRoom)?;
        let head = if pin.is_some() { StreamingHead::AfterVerdictIfShort } else { StreamingHead::AtOnce };
        let (spool, digest, verified) = self.receive(&mut watched, first, spool, head).await?;

        let len = spool.len();
        let stored_at = context.clock.now();
        let meta = Meta { digest, len, stored_at, anonymous: watched.download.anonymous, verified };
        context.pins.settle(request, pin, &meta).await?;
        Ok(FetchedArchive::Spooled(spool, meta))
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

    /// Receives the body into the spool and verifies it beside the download. From `head` on, clients may read it as it
    /// grows, except its end.
    async fn receive(
        &self,
        watched: &mut WatchedDownload<'_>,
        first: Vec<Bytes>,
        spool: Spool,
        head: StreamingHead,
    ) -> Result<(Spool, Digest, Verified), FillFailure> {
        let (progress_writer, spool_view) = growing_spool(spool.file());
        let progress_writer = Arc::new(progress_writer);
        let verify = self.request.verify.clone();
        let verify_task: VerifyTask = tokio::task::spawn_blocking(move || verify.verify(&spool_view));
        let mut unpublished = Some(ArrivingBody { spool: spool.file(), len: watched.download.len, written: 0 });
        let began = Instant::now();
        if head == StreamingHead::AtOnce {
            unpublished.take().into_iter().for_each(|body| self.guard.publish(FillState::Streaming(body)));
        }
        let state = self.guard.sender();
        let verifier_progress = progress_writer.clone();
        let listeners = ProgressListeners {
            verifier: move |written| verifier_progress.advance(written),
            readers: move |written| publish_written(&state, written),
        };
        let writer = SpoolWriter::start(&self.context.tasks.tracker, spool, listeners);
        for chunk in first {
            writer.write(chunk).await?;
        }
        loop {
            match watched.next().await {
                Ok(Some(chunk)) => writer.write(chunk).await?,
                Ok(None) => break,
                Err(error) => {
                    let prefix_digest = writer.checkpoint().await?;
                    watched.download.resume(error, prefix_digest).await?;
                }
            }
            let is_long = watched.download.received >= SHORT_BYTES || began.elapsed() >= SHORT_TIME;
            if let Some(body) = unpublished.take_if(|_| is_long) {
                self.guard.publish(FillState::Streaming(body));
            }
            if verify_task.is_finished() {
                // The verifier never accepts before the end; the rest of a bad body need not be fetched.
                return Err(early_refusal(verify_task).await);
            }
        }
        let (spool, digest) = writer.finish().await?;
        progress_writer.finish();
        match verify_task.await {
            Ok(Ok(verified)) => Ok((spool, digest, verified)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(FillFailure::Failed(unverifiable())),
        }
    }
}

async fn early_refusal(verify_task: VerifyTask) -> FillFailure {
    match verify_task.await {
        Ok(Err(error)) => error.into(),
        Ok(Ok(_)) | Err(_) => FillFailure::Failed(unverifiable()),
    }
}

fn unverifiable() -> FetchError {
    FetchError::Invalid("the body could not be verified".into())
}
