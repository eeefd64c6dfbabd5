//! Passing a body through when the disk has no room for it: one download per client, in bounded memory.
//!
//! A body that fits into the window is verified whole before its first byte goes out. Of a larger one the last bytes
//! are withheld until its length, its ending and, where it is pinned, its digest have been found right.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{ArchiveAsk, Cache, download::Download, spool_reader::CHUNK};
use crate::{
    entry::{Digest, Meta, Pin},
    origin::{FetchError, Growing},
    storage::{BlobFile, Content, Object},
};

/// Bodies up to this size are held and verified whole.
const WINDOW: usize = 8 << 20;
/// Of larger ones this many last bytes are withheld until the end has been judged.
const ENDING: usize = 64 << 10;
/// Windows at once, which bounds their memory and leaves the upstream's slots to others; who comes later waits.
/// A client that takes nothing gives its window back when the server cuts it off.
pub(super) const WINDOWS: usize = 16;

/// The part of the body that a client already has, the part it wants, and what it has been told.
#[derive(Debug, Default)]
pub(super) struct ResumePoint {
    /// Where its part begins.
    pub(super) from: u64,
    /// Where the bytes end that the client already has.
    pub(super) until: u64,
    /// Where its part ends; `None` is the end of the body.
    pub(super) end: Option<u64>,
    /// The spool they came from: what is skipped must equal it.
    pub(super) already: Option<Arc<BlobFile>>,
    /// The length of the whole body, where the client has been told one.
    pub(super) announced: Option<u64>,
}

/// One client's own download.
pub(super) struct PassThrough {
    ask: ArchiveAsk,
    download: Download,
    pin: Option<Arc<Pin>>,
    skip: ResumePoint,
    held: VecDeque<Bytes>,
    held_len: usize,
    keep: usize,
    hash: Sha256,
    at: u64,
    ended: bool,
    /// The end of the wanted part, kept until the end of the body has been judged.
    last: Option<Bytes>,
    /// What was found out about a body that is held whole.
    whole: Option<Meta>,
    window: Option<OwnedSemaphorePermit>,
}

/// A body that is held whole, in its window for as long as anybody holds a part of it.
struct Held {
    bytes: Bytes,
    _window: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Whole(Bytes);

impl Growing for Whole {
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

impl PassThrough {
    /// Asks the upstream and reads the first window.
    ///
    /// # Errors
    /// As a fill's, and for what can already be told to be wrong.
    pub(super) async fn open(cache: &Arc<Cache>, ask: &ArchiveAsk, skip: ResumePoint) -> Result<Self, FetchError> {
        // The semaphore is never closed.
        let window = cache.windows.clone().acquire_owned().await.ok();
        let pin = cache.pin(&ask.key).await?;
        // A broken body cannot be taken up again here: nothing keeps the bytes it would be compared with.
        let mut download = Download::open(ask, cache.archives.max_size.0, 0).await?;
        download.expect_len(skip.announced)?;
        let mut this = Self {
            ask: ask.clone(),
            download,
            pin,
            skip,
            held: VecDeque::new(),
            held_len: 0,
            keep: WINDOW,
            hash: Sha256::new(),
            at: 0,
            ended: false,
            last: None,
            whole: None,
            window,
        };
        this.fill_window().await?;
        if this.ended {
            this.whole = Some(this.verify_whole(cache).await?);
        } else {
            let beginning: Vec<u8> = this.held.iter().flatten().copied().take(this.ask.verify.prefix_len()).collect();
            this.ask.verify.prefix(&beginning).map_err(FetchError::Invalid)?;
            this.keep = ENDING;
        }
        Ok(this)
    }

    /// The length of the body: announced, or known because all of it is held.
    pub(super) fn len(&self) -> Option<u64> {
        if self.ended { Some(self.download.received) } else { self.download.len }
    }

    /// The whole body as an object in memory; only before the first read. A body that is too large for that is given back.
    pub(super) fn into_object(mut self: Box<Self>) -> Result<Object, Box<Self>> {
        let (Some(meta), [bytes]) = (self.whole.take(), self.held.make_contiguous()) else { return Err(self) };
        let bytes = Bytes::from_owner(Held { bytes: bytes.clone(), _window: self.window.take() });
        Ok(Object { meta: Arc::new(meta), content: Content::Memory(bytes), tier: "window", uses: None })
    }

    /// The next bytes; `None` after the last one of a body that has been found good.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            self.fill_window().await?;
            if !self.ended && self.held_len <= self.keep {
                continue;
            }
            let releasable = if self.ended { self.held_len } else { self.held_len - self.keep };
            let Some(mut chunk) = self.held.pop_front() else { return Ok(self.last.take()) };
            let len = chunk.len().min(releasable).min(CHUNK);
            let part = chunk.split_to(len);
            if !chunk.is_empty() {
                self.held.push_front(chunk);
            }
            self.held_len -= len;
            let start = self.at;
            self.at += len as u64;
            let Some(part) = self.wanted(part, start).await? else { continue };
            if !self.ended && self.skip.end.is_some_and(|end| self.at >= end) {
                // With its last byte a part would be a whole answer: that byte waits for the verdict too.
                self.last = Some(part);
                continue;
            }
            return Ok(Some(part));
        }
    }

    /// Reads until more than `keep` bytes are held or the body has ended; judges its end when it has.
    async fn fill_window(&mut self) -> Result<(), FetchError> {
        while !self.ended && self.held_len <= self.keep {
            match self.download.next().await? {
                Some(chunk) => {
                    self.hash.update(&chunk);
                    self.held_len += chunk.len();
                    self.held.push_back(chunk);
                }
                None => {
                    self.ended = true;
                    if self.keep == ENDING {
                        self.judge_ending()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Cuts what the client already has and what it does not want; compares the former with the spool.
    async fn wanted(&mut self, mut part: Bytes, start: u64) -> Result<Option<Bytes>, FetchError> {
        if start < self.skip.until {
            let known = usize::try_from(self.skip.until - start).unwrap_or(usize::MAX).min(part.len());
            let skipped = part.split_to(known);
            // What lies before the client's part was never sent, and may not be in the spool either.
            let unsent = usize::try_from(self.skip.from.saturating_sub(start)).unwrap_or(usize::MAX).min(known);
            if let Some(spool) = self.skip.already.as_ref().filter(|_| unsent < known) {
                let before = spool.read(start + unsent as u64, known - unsent).await;
                let before = before.map_err(|_| FetchError::Unreachable("a part was lost"))?;
                if before != skipped[unsent..] {
                    return Err(FetchError::Invalid("the body differs from its first part".into()));
                }
            }
        }
        if let Some(end) = self.skip.end {
            let from = start.max(self.skip.until);
            part.truncate(usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX));
        }
        Ok(Some(part).filter(|part| !part.is_empty()))
    }

    /// Verifies a body that is held whole, and pins it: what is served once is vouched for, kept or not.
    async fn verify_whole(&mut self, cache: &Cache) -> Result<Meta, FetchError> {
        let mut all = BytesMut::with_capacity(self.held_len);
        self.held.iter().for_each(|chunk| all.extend_from_slice(chunk));
        let verify = self.ask.verify.clone();
        let all = all.freeze();
        let beginning = &all[..all.len().min(verify.prefix_len())];
        verify.prefix(beginning).map_err(FetchError::Invalid)?;
        // From here on there is one copy.
        self.held = VecDeque::from([all.clone()]);
        let verdict = tokio::task::spawn_blocking(move || verify.verify(&Whole(all))).await;
        let verified = match verdict {
            Ok(Ok(verified)) => verified,
            Ok(Err(error)) => return Err(FetchError::Invalid(error.to_string())),
            Err(_) => return Err(FetchError::Invalid("the body could not be verified".into())),
        };
        let digest = Digest(self.hash.clone().finalize().into());
        let len = self.download.received;
        let anonymous = self.download.anonymous;
        let stored_at = cache.clock.now();
        let meta = Meta { digest, len, stored_at, anonymous, verified };
        cache.settle_pin(&self.ask.key, self.pin.clone(), &meta).await?;
        Ok(meta)
    }

    fn judge_ending(&self) -> Result<(), FetchError> {
        let ending: Vec<u8> = self.held.iter().flatten().copied().collect();
        self.ask.verify.suffix(&ending, self.download.received).map_err(FetchError::Invalid)?;
        let digest = Digest(self.hash.clone().finalize().into());
        match &self.pin {
            Some(pin) if pin.digest != digest => Err(FetchError::PinMismatch),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
