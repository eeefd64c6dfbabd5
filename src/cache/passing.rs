//! Passing a body through when the disk has no room for it: one download per client, in bounded memory.
//!
//! A body that fits into the window is verified whole before its first byte goes out. Of a larger one the last bytes
//! are withheld until its length, its ending and, where it is pinned, its digest have been found right.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{ArchiveAsk, Cache, download::Download, tail::CHUNK};
use crate::{
    entry::{Digest, Meta, Pin, Verified},
    origin::{FetchError, Growing},
    tier::{BlobFile, Content, Object},
};

/// Bodies up to this size are held and verified whole.
const WINDOW: usize = 8 << 20;
/// Of larger ones this many last bytes are withheld until the end has been judged.
const ENDING: usize = 64 << 10;

/// The part of the body that a client already has, and the part it wants.
#[derive(Debug, Default)]
pub(super) struct Skip {
    /// Bytes the client already has.
    pub(super) until: u64,
    /// Where its part ends; `None` is the end of the body.
    pub(super) end: Option<u64>,
    /// The spool they came from: what is skipped must equal it.
    pub(super) already: Option<Arc<BlobFile>>,
}

/// One client's own download.
pub(super) struct Passing {
    ask: ArchiveAsk,
    download: Download,
    pin: Option<Arc<Pin>>,
    skip: Skip,
    held: VecDeque<Bytes>,
    held_len: usize,
    keep: usize,
    hash: Sha256,
    at: u64,
    ended: bool,
    /// What was found out about a body that fits into the window.
    verified: Option<Verified>,
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

impl Passing {
    /// Asks the upstream and reads the first window.
    ///
    /// # Errors
    /// As a fill's, and for what can already be told to be wrong.
    pub(super) async fn open(cache: &Arc<Cache>, ask: &ArchiveAsk, skip: Skip) -> Result<Self, FetchError> {
        let pin = cache.pin(&ask.key).await?;
        // A broken body cannot be taken up again here: nothing keeps the bytes it would be compared with.
        let download = Download::open(ask, cache.archives.max_size.0, 0).await?;
        let (held, hash) = (VecDeque::new(), Sha256::new());
        let ask = ask.clone();
        let mut this = Self {
            ask,
            download,
            pin,
            skip,
            held,
            held_len: 0,
            keep: WINDOW,
            hash,
            at: 0,
            ended: false,
            verified: None,
        };
        this.fill_window().await?;
        if this.ended {
            this.verified = Some(this.verify_whole().await?);
        } else {
            let beginning: Vec<u8> = this.held.iter().flatten().copied().take(this.ask.verify.prefix_len()).collect();
            this.ask.verify.prefix(&beginning).map_err(FetchError::Invalid)?;
            this.keep = ENDING;
        }
        Ok(this)
    }

    /// The announced length of the body.
    pub(super) fn len(&self) -> Option<u64> {
        self.download.len
    }

    /// The whole body, where it fits into the window and nothing of it has been read yet.
    pub(super) fn object(&self, stored_at: Timestamp) -> Option<Object> {
        let verified = self.verified.clone().filter(|_| self.at == 0)?;
        let (digest, len) = (Digest(self.hash.clone().finalize().into()), self.held_len as u64);
        let meta = Meta { digest, len, stored_at, anonymous: self.download.anonymous, verified };
        Some(Object { meta: Arc::new(meta), content: Content::Memory(self.held_bytes()), tier: "window" })
    }

    fn held_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.held_len);
        self.held.iter().for_each(|chunk| all.extend_from_slice(chunk));
        all.freeze()
    }

    /// The next bytes; `None` after the last one of a body that has been found good.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            self.fill_window().await?;
            if !self.ended && self.held_len <= self.keep {
                continue;
            }
            let releasable = if self.ended { self.held_len } else { self.held_len - self.keep };
            let Some(mut chunk) = self.held.pop_front() else { return Ok(None) };
            let len = chunk.len().min(releasable).min(CHUNK);
            let part = chunk.split_to(len);
            if !chunk.is_empty() {
                self.held.push_front(chunk);
            }
            self.held_len -= len;
            let start = self.at;
            self.at += len as u64;
            if let Some(part) = self.wanted(part, start).await? {
                return Ok(Some(part));
            }
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
            if let Some(spool) = &self.skip.already {
                let before = spool.read(start, known).await.map_err(|_| FetchError::Unreachable("a part was lost"))?;
                if before != skipped {
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

    async fn verify_whole(&mut self) -> Result<Verified, FetchError> {
        let (verify, all) = (self.ask.verify.clone(), self.held_bytes());
        let beginning = &all[..all.len().min(verify.prefix_len())];
        verify.prefix(beginning).map_err(FetchError::Invalid)?;
        let verdict = tokio::task::spawn_blocking(move || verify.verify(&Whole(all))).await;
        match (verdict, &self.pin) {
            (Ok(Ok(verified)), Some(pin)) if verified.manifest != pin.verified.manifest => Err(FetchError::PinMismatch),
            (Ok(Ok(verified)), _) => Ok(verified),
            (Ok(Err(error)), _) => Err(FetchError::Invalid(error.to_string())),
            (Err(_), _) => Err(FetchError::Invalid("the body could not be verified".into())),
        }
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
