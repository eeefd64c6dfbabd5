//! A fill: one download of one key, detached from the clients that wait for it.
//!
//! It ends in exactly one of the three final states of [`FillState`]. Its life, in order: permit, a second look into
//! the tiers, the pin, the upstream, a spool, the body (resumed where it breaks), the verdict, the pin again,
//! `Complete`, admission, and last of all its place in the table.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    ArchiveAsk, Cache,
    download::Download,
    progress::growing,
    single_flight::FlightGuard,
    spool_writer::{ProgressListeners, Refused, Writer},
};
use crate::{
    entry::{Digest, Meta, Verified},
    origin::{FetchError, VerifyError},
    storage::{BlobFile, Content, Object, disk::Spool},
};

/// What everybody who waits for a fill can see.
#[derive(Clone, Debug)]
pub(crate) enum FillState {
    /// Nothing is known yet, or nothing may be shown before the whole body is verified.
    Requested,
    /// The body is arriving.
    Streaming(Arriving),
    /// The whole body is there and good.
    Complete(Object),
    /// The disk takes no more: each client goes on by itself from where the spool ends.
    NoRoom,
    /// It failed; nothing of it is kept.
    Failed(FetchError),
}

/// A body that is arriving.
#[derive(Clone, Debug)]
pub(crate) struct Arriving {
    /// The growing file.
    pub(crate) spool: Arc<BlobFile>,
    /// The announced length.
    pub(crate) len: Option<u64>,
    /// How many bytes are in the file.
    pub(crate) written: u64,
}

/// One fill and everything it needs.
pub(super) struct Fill {
    pub(super) cache: Arc<Cache>,
    pub(super) ask: ArchiveAsk,
    pub(super) guard: FlightGuard<FillState>,
}

/// Why a fill ends without an object.
enum FillFailure {
    Failed(FetchError),
    NoRoom,
}

impl From<FetchError> for FillFailure {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refused> for FillFailure {
    fn from(_: Refused) -> Self {
        Self::NoRoom
    }
}

type Verdict = JoinHandle<Result<Verified, VerifyError>>;

impl Fill {
    /// Flies to the end. Whatever happens, a final state is published before the flight leaves the table.
    pub(super) async fn run(self) {
        let Err(ending) = self.execute().await else { return };
        let state = match ending {
            FillFailure::NoRoom => FillState::NoRoom,
            FillFailure::Failed(error) => {
                self.cache.remember_failure(&self.ask.key, &error);
                FillState::Failed(error)
            }
        };
        self.guard.state.send_replace(state);
    }

    async fn execute(&self) -> Result<(), FillFailure> {
        let fetched = match self.cache.given_up.run_until_cancelled(self.fetch()).await {
            Some(fetched) => fetched?,
            None => return Err(FetchError::Unreachable("the mirror is stopping").into()),
        };
        let Some((spool, meta)) = fetched else { return Ok(()) };
        let object =
            Object { meta: Arc::new(meta.clone()), content: Content::Disk(spool.file()), tier: "spool", uses: None };
        self.guard.state.send_replace(FillState::Complete(object));
        self.admit(spool, meta).await;
        Ok(())
    }

    /// Brings a whole, verified and pinned body into a spool; `None` when somebody has stored it meanwhile.
    async fn fetch(&self) -> Result<Option<(Spool, Meta)>, FillFailure> {
        let _permit = self.cache.fill_permits.acquire().await;
        if let Some(object) = self.cache.lookup(&self.ask.key).await {
            self.guard.state.send_replace(FillState::Complete(object));
            return Ok(None);
        }
        if let Some(error) = self.cache.failures.recent(&self.ask.key) {
            // It failed between the look of whoever started this and the start: no second try before the cool-down.
            self.guard.state.send_replace(FillState::Failed(error));
            return Ok(None);
        }
        let pin = self.cache.pin(&self.ask.key).await?;
        let limits = &self.cache.archives;
        let mut download = Download::open(&self.ask, limits.max_size.0, limits.resumes).await?;
        let first = self.first_bytes(&mut download).await?;
        let spool = self.cache.spool(download.len).await.ok_or(FillFailure::NoRoom)?;
        // What is pinned is compared as a whole before anybody sees a byte of it.
        let show = pin.is_none();
        let (spool, digest, verified) = self.receive(&mut download, first, spool, show).await?;

        let len = spool.len();
        let stored_at = self.cache.clock.now();
        let meta = Meta { digest, len, stored_at, anonymous: download.anonymous, verified };
        self.cache.settle_pin(&self.ask.key, pin, &meta).await?;
        Ok(Some((spool, meta)))
    }

    /// Reads until the verifier can judge how the body begins, so that no client ever sees a wrong first byte.
    async fn first_bytes(&self, download: &mut Download) -> Result<Vec<Bytes>, FetchError> {
        let wanted = self.ask.verify.prefix_len();
        let mut first = Vec::new();
        loop {
            match download.next().await {
                Ok(Some(chunk)) => first.push(chunk),
                Ok(None) => break,
                Err(error) => {
                    download.restart(error).await?;
                    first.clear();
                }
            }
            if first.iter().map(Bytes::len).sum::<usize>() >= wanted {
                break;
            }
        }
        let beginning: Vec<u8> = first.iter().flatten().copied().take(wanted).collect();
        self.ask.verify.prefix(&beginning).map_err(FetchError::Invalid)?;
        Ok(first)
    }

    /// Receives the body into the spool and verifies it beside the download; shows it as it grows where it may.
    async fn receive(
        &self,
        download: &mut Download,
        first: Vec<Bytes>,
        spool: Spool,
        show: bool,
    ) -> Result<(Spool, Digest, Verified), FillFailure> {
        let (grower, grown) = growing(spool.file());
        let grower = Arc::new(grower);
        let verify = self.ask.verify.clone();
        let verdict = tokio::task::spawn_blocking(move || verify.verify(&grown));
        if show {
            let arriving = Arriving { spool: spool.file(), len: download.len, written: 0 };
            self.guard.state.send_replace(FillState::Streaming(arriving));
        }
        let state = self.guard.state.clone();
        let verifier = grower.clone();
        let told = ProgressListeners {
            verifier: move |written| verifier.advance(written),
            readers: move |written| show_written(&state, written),
        };
        let writer = Writer::start(&self.cache.tasks, spool, told);
        for chunk in first {
            writer.write(chunk).await?;
        }
        loop {
            match download.next().await {
                Ok(Some(chunk)) => writer.write(chunk).await?,
                Ok(None) => break,
                Err(error) => {
                    let so_far = writer.checkpoint().await?;
                    download.resume(error, so_far).await?;
                }
            }
            if verdict.is_finished() {
                // It cannot have said yes before the end: the rest of a bad body is not worth fetching.
                return Err(refusal(verdict).await);
            }
        }
        let (spool, digest) = writer.finish().await?;
        grower.finish();
        match verdict.await {
            Ok(Ok(verified)) => Ok((spool, digest, verified)),
            Ok(Err(error)) => Err(ending_of(error)),
            Err(_) => Err(FillFailure::Failed(FetchError::Invalid("the body could not be verified".into()))),
        }
    }

    /// Makes the object visible in the tiers. The clients have been answered: trouble here costs only a later download.
    async fn admit(&self, spool: Spool, meta: Meta) {
        let cache = &self.cache;
        let key = &self.ask.key;
        let before = cache.removals.snapshot(key);
        match cache.disk.admit(key, spool, meta).await {
            Ok(object) => {
                cache.promote(key, &object, &before).await;
                // It may have led to an earlier packing.
                cache.generations.bump(key);
            }
            Err(error) => {
                tracing::warn!(%key, %error, "complete, but not admitted");
            }
        }
    }
}

fn show_written(state: &watch::Sender<FillState>, now: u64) {
    state.send_if_modified(|state| match state {
        FillState::Streaming(arriving) => {
            arriving.written = now;
            true
        }
        _ => false,
    });
}

async fn refusal(verdict: Verdict) -> FillFailure {
    match verdict.await {
        Ok(Err(error)) => ending_of(error),
        Ok(Ok(_)) | Err(_) => FillFailure::Failed(FetchError::Invalid("the body could not be verified".into())),
    }
}

/// A body that cannot be read back is the disk's trouble, not the upstream's.
fn ending_of(error: VerifyError) -> FillFailure {
    match error {
        VerifyError::Invalid(reason) => FillFailure::Failed(FetchError::Invalid(reason)),
        VerifyError::Io(error) => {
            tracing::warn!(%error, "the spool cannot be read back");
            FillFailure::NoRoom
        }
    }
}

#[cfg(test)]
mod tests;
