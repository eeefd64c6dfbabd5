//! Passes a body through when the disk has no room for it: one download per client, in bounded memory.
//!
//! A body that fits into the window is verified whole before its first byte is sent. Of a larger one the last bytes are
//! withheld until its length, its ending and, if it is pinned, its digest are checked.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{ArchiveRequest, PinRecords, download::Download, fill::FillContext};
use crate::{
    clock::Clock,
    entry::{Digest, Meta, Pin},
    origin::{FetchError, Growing, VerifyError},
    storage::{BlobFile, Object, ObjectContent},
};

/// Bodies up to this size are buffered and verified whole.
const WINDOW_BYTES: usize = 8 << 20;
/// Last bytes of a larger body that are withheld until its end is checked.
const WITHHELD_ENDING_BYTES: usize = 64 << 10;
/// Windows at once; further clients wait for [`WINDOW_TIMEOUT`]. Bounds their memory and leaves places to fills. A client
/// that reads nothing gives its window back when the server disconnects it.
const MAX_WINDOWS: usize = 16;
/// Longest wait for a window.
const WINDOW_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest piece that is handed out at once.
const MAX_PIECE_BYTES: usize = 256 << 10;

/// Opens pass-through downloads, a bounded number at a time.
pub(super) struct PassThroughPool {
    pins: PinRecords,
    clock: Clock,
    max_archive_bytes: u64,
    windows: Arc<Semaphore>,
}

/// Where a client continues, and what it was told before.
#[derive(Debug, Default)]
pub(super) struct ResumePoint {
    /// Where the requested part begins.
    pub(super) part_start: u64,
    /// Where the bytes end that the client already has.
    pub(super) sent_until: u64,
    /// Where the requested part ends; `None` is the end of the body.
    pub(super) part_end: Option<u64>,
    /// The spool that the sent bytes came from; the new download must begin with them.
    pub(super) spool: Option<Arc<BlobFile>>,
    /// The length of the whole body, if the client was told one.
    pub(super) announced_len: Option<u64>,
}

/// One client's own download.
pub(super) struct PassThrough {
    pool: Arc<PassThroughPool>,
    request: ArchiveRequest,
    download: Download,
    pin: Option<Arc<Pin>>,
    resume: ResumePoint,
    buffered: VecDeque<Bytes>,
    buffered_len: usize,
    /// Bytes that stay buffered until the end of the body.
    withheld_len: usize,
    hash: Sha256,
    position: u64,
    ended: bool,
    /// The last bytes of the requested part, withheld until the end of the body is checked.
    part_ending: Option<Bytes>,
    /// The meta of a body that is buffered whole.
    verified: Option<Meta>,
    window: Option<OwnedSemaphorePermit>,
}

/// A body that is buffered whole; it occupies its window while any part of it is referenced.
struct WindowedBody {
    bytes: Bytes,
    _window: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for WindowedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A whole body in memory, as a verifier reads it.
struct BufferedBody(Bytes);

impl Growing for BufferedBody {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

impl PassThroughPool {
    pub(super) fn new(context: &FillContext) -> Self {
        Self {
            pins: context.pins.clone(),
            clock: context.clock.clone(),
            max_archive_bytes: context.limits.max_size.0,
            windows: Arc::new(Semaphore::new(MAX_WINDOWS)),
        }
    }
}

impl PassThrough {
    /// Asks the upstream and reads the first window; waits while all windows are taken.
    ///
    /// # Errors
    /// As a fill's, as far as the first window shows; [`FetchError::NoWindow`] when no window was free in time.
    pub(super) async fn open(
        pool: &Arc<PassThroughPool>,
        request: &ArchiveRequest,
        resume: ResumePoint,
    ) -> Result<Self, FetchError> {
        let window = timeout(WINDOW_TIMEOUT, pool.windows.clone().acquire_owned()).await;
        let window = window.map_err(|_| FetchError::NoWindow { retry_after: WINDOW_TIMEOUT })?;
        // The semaphore is never closed.
        let window = window.ok();
        let pin = pool.pins.expected(request).await?;
        // A broken body cannot be resumed here: the bytes to compare it with are gone.
        let mut download = Download::open(request, pool.max_archive_bytes, 0).await?;
        download.expect_len(resume.announced_len)?;
        let mut this = Self {
            pool: pool.clone(),
            request: request.clone(),
            download,
            pin,
            resume,
            buffered: VecDeque::new(),
            buffered_len: 0,
            withheld_len: WINDOW_BYTES,
            hash: Sha256::new(),
            position: 0,
            ended: false,
            part_ending: None,
            verified: None,
            window,
        };
        this.fill_window().await?;
        if this.ended {
            this.verified = Some(this.verify_buffered().await?);
        } else {
            let needed = this.request.verify.prefix_len();
            let prefix: Vec<u8> = this.buffered.iter().flatten().copied().take(needed).collect();
            this.request.verify.prefix(&prefix)?;
            this.withheld_len = WITHHELD_ENDING_BYTES;
        }
        Ok(this)
    }

    /// The length of the body: announced, or known because all of it is buffered.
    pub(super) fn len(&self) -> Option<u64> {
        if self.ended { Some(self.download.received) } else { self.download.len }
    }

    /// The whole body as an object in memory. Only before the first read.
    ///
    /// # Errors
    /// The pass-through itself, unchanged, when the body is larger than the window.
    pub(super) fn into_object(mut self: Box<Self>) -> Result<Object, Box<Self>> {
        let (Some(meta), [bytes]) = (self.verified.take(), self.buffered.make_contiguous()) else { return Err(self) };
        let bytes = Bytes::from_owner(WindowedBody { bytes: bytes.clone(), _window: self.window.take() });
        Ok(Object { meta: Arc::new(meta), content: ObjectContent::Memory(bytes), tier: "window", usage: None })
    }

    /// The next bytes of the requested part; `None` after its last byte.
    ///
    /// # Errors
    /// When the body cannot be completed or is not good.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            self.fill_window().await?;
            if !self.ended && self.buffered_len <= self.withheld_len {
                continue;
            }
            let releasable = if self.ended { self.buffered_len } else { self.buffered_len - self.withheld_len };
            let Some(mut chunk) = self.buffered.pop_front() else { return Ok(self.part_ending.take()) };
            let len = chunk.len().min(releasable).min(MAX_PIECE_BYTES);
            let piece = chunk.split_to(len);
            if !chunk.is_empty() {
                self.buffered.push_front(chunk);
            }
            self.buffered_len -= len;
            let start = self.position;
            self.position += len as u64;
            let Some(piece) = self.cut_to_part(piece, start).await? else { continue };
            if !self.ended && self.resume.part_end.is_some_and(|end| self.position >= end) {
                // The last bytes make the part a whole response: they wait for the end of the body.
                self.part_ending = Some(piece);
                continue;
            }
            return Ok(Some(piece));
        }
    }

    /// Reads until more than the withheld bytes are buffered or the body has ended; then checks its ending.
    async fn fill_window(&mut self) -> Result<(), FetchError> {
        while !self.ended && self.buffered_len <= self.withheld_len {
            match self.download.next().await? {
                Some(chunk) => {
                    self.hash.update(&chunk);
                    self.buffered_len += chunk.len();
                    self.buffered.push_back(chunk);
                }
                None => {
                    self.ended = true;
                    if self.withheld_len == WITHHELD_ENDING_BYTES {
                        self.check_ending()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Cuts off what the client already has, compares it with the spool, and cuts off what was not requested.
    async fn cut_to_part(&mut self, mut piece: Bytes, start: u64) -> Result<Option<Bytes>, FetchError> {
        let resume = &self.resume;
        if start < resume.sent_until {
            let sent = usize::try_from(resume.sent_until - start).unwrap_or(usize::MAX).min(piece.len());
            let skipped = piece.split_to(sent);
            // Bytes before the part were never sent, and the spool may not hold them.
            let unsent = usize::try_from(resume.part_start.saturating_sub(start)).unwrap_or(usize::MAX).min(sent);
            if let Some(spool) = resume.spool.as_ref().filter(|_| unsent < sent) {
                let spooled = spool.read(start + unsent as u64, sent - unsent).await;
                let spooled = spooled.map_err(|_| FetchError::Unreachable("the spool could not be read back"))?;
                if spooled != skipped[unsent..] {
                    return Err(FetchError::Invalid("the body differs from its first part".into()));
                }
            }
        }
        if let Some(end) = resume.part_end {
            let from = start.max(resume.sent_until);
            piece.truncate(usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX));
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// Verifies a body that is buffered whole, and pins it: a served version is pinned whether or not it is stored.
    async fn verify_buffered(&mut self) -> Result<Meta, FetchError> {
        let mut whole = BytesMut::with_capacity(self.buffered_len);
        self.buffered.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        let whole = whole.freeze();
        let verify = self.request.verify.clone();
        let prefix = &whole[..whole.len().min(verify.prefix_len())];
        verify.prefix(prefix)?;
        // Frees the chunks: one copy is left.
        self.buffered = VecDeque::from([whole.clone()]);
        let verified = match tokio::task::spawn_blocking(move || verify.verify(&BufferedBody(whole))).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(VerifyError::NoMemory(shortage))) => return Err(shortage.into()),
            Ok(Err(error)) => return Err(FetchError::Invalid(error.to_string())),
            Err(_) => return Err(FetchError::Invalid("the body could not be verified".into())),
        };
        let meta = Meta {
            digest: Digest(self.hash.clone().finalize().into()),
            len: self.download.received,
            stored_at: self.pool.clock.now(),
            anonymous: self.download.anonymous,
            verified,
        };
        self.pool.pins.settle(&self.request, self.pin.clone(), &meta).await?;
        Ok(meta)
    }

    fn check_ending(&self) -> Result<(), FetchError> {
        let ending: Vec<u8> = self.buffered.iter().flatten().copied().collect();
        self.request.verify.suffix(&ending, self.download.received)?;
        let digest = Digest(self.hash.clone().finalize().into());
        match &self.pin {
            Some(pin) if pin.digest != digest => Err(FetchError::PinMismatch),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
