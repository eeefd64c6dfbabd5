//! A client's view of a fill: it follows the growing spool at its own pace and owns nothing of the download.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    ArchiveAsk, Cache,
    fill::FillState,
    pass_through::{PassThrough, ResumePoint},
};
use crate::{
    origin::FetchError,
    storage::{BlobFile, Object},
};

/// Most bytes of one read: bounds the memory of a waiting client.
pub(crate) const CHUNK: usize = 256 << 10;
/// Most bytes of one region of the spool, which nobody reads into memory.
const FRAME: usize = 2 << 20;

/// The end of what is on its way is kept back until the verdict: not even the end record of a zip gets out before.
/// This is one end record with a commit as its comment.
const WITHHELD: u64 = 64;

/// Reads a body that may still be arriving. Dropping it changes nothing for anybody else.
pub struct SpoolReader {
    cache: Arc<Cache>,
    ask: ArchiveAsk,
    state: watch::Receiver<FillState>,
    source: Source,
    start: u64,
    position: u64,
    end: Option<u64>,
    /// The announced length of the whole body, as the client has been told it.
    announced: Option<u64>,
    direct: bool,
}

/// Where a tail reads.
enum Source {
    /// The fill's spool.
    Spool(Arc<BlobFile>),
    /// A download of its own, because the disk takes no more.
    PassThrough(Box<PassThrough>),
}

/// What a tail can do next.
enum Step {
    Read { len: usize },
    Done,
    Wait,
    Pass,
    Fail(FetchError),
}

impl SpoolReader {
    pub(super) fn spooled(
        cache: Arc<Cache>,
        ask: ArchiveAsk,
        state: watch::Receiver<FillState>,
        spool: Arc<BlobFile>,
        announced: Option<u64>,
    ) -> Self {
        let source = Source::Spool(spool);
        Self { cache, ask, state, source, start: 0, position: 0, end: None, announced, direct: false }
    }

    pub(super) fn passing(
        cache: Arc<Cache>,
        ask: ArchiveAsk,
        state: watch::Receiver<FillState>,
        passing: PassThrough,
    ) -> Self {
        let source = Source::PassThrough(Box::new(passing));
        let announced = None;
        Self { cache, ask, state, source, start: 0, position: 0, end: None, announced, direct: false }
    }

    /// Lets the tail hand out regions of the spool where it can, for a plain socket ([`crate::sendfile`]).
    pub fn direct(self, direct: bool) -> Self {
        Self { direct, ..self }
    }

    /// Confines the tail to a part of the body; only before the first read.
    /// A tail that reads a download of its own cannot be confined and is given back as it is, with `false`.
    pub fn within(mut self, range: Range<u64>) -> (Self, bool) {
        let can = matches!(self.source, Source::Spool(_));
        if can {
            (self.start, self.position, self.end) = (range.start, range.start, Some(range.end));
        }
        (self, can)
    }

    /// Waits for the end and hands out the complete object; only before the first read.
    ///
    /// Without room on disk the body comes by a download of its own: it is an object in memory if it is small, and the
    /// tail itself is given back if it is not.
    ///
    /// # Errors
    /// When the body cannot be completed.
    pub async fn whole(mut self) -> Result<Result<Object, Self>, FetchError> {
        loop {
            match &*self.state.borrow_and_update() {
                FillState::Complete(object) => return Ok(Ok(object.clone())),
                FillState::Failed(error) => return Err(error.clone()),
                FillState::NoRoom => break,
                FillState::Requested | FillState::Streaming(_) => {}
            }
            if self.state.changed().await.is_err() {
                return Err(FetchError::Unreachable("the download was given up"));
            }
        }
        let passing = match self.source {
            Source::PassThrough(passing) => passing,
            Source::Spool(_) => Box::new(PassThrough::open(&self.cache, &self.ask, ResumePoint::default()).await?),
        };
        let given_back = |passing| Self { source: Source::PassThrough(passing), ..self };
        Ok(passing.into_object().map_err(given_back))
    }

    /// The next bytes, at most 256 KiB, or 2 MiB of a region; `None` after the last byte of a body that has been found good.
    ///
    /// # Errors
    /// When the body cannot be completed. The connection must then be broken, never ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let spool = match &mut self.source {
                Source::PassThrough(passing) => return passing.next().await,
                Source::Spool(spool) => spool.clone(),
            };
            match self.step() {
                Step::Done => return Ok(None),
                Step::Fail(error) => return Err(error),
                Step::Read { len } => {
                    let read = async {
                        if self.direct {
                            spool.frame(self.position, len).await
                        } else {
                            spool.read(self.position, len).await
                        }
                    };
                    let bytes = read.await.map_err(|error| {
                        tracing::warn!(key = %self.ask.key, %error, "cannot read a spool");
                        FetchError::Unreachable("the download could not be read back")
                    })?;
                    self.position += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Step::Pass => {
                    let from = self.start;
                    let until = self.position;
                    let end = self.end;
                    let skip = ResumePoint { from, until, end, already: Some(spool), announced: self.announced };
                    let passing = PassThrough::open(&self.cache, &self.ask, skip).await?;
                    self.source = Source::PassThrough(Box::new(passing));
                }
                Step::Wait => {
                    // A channel that closes without a final state is a fill that vanished: its word is "failed".
                    if self.state.changed().await.is_err() && matches!(self.step(), Step::Wait) {
                        return Err(FetchError::Unreachable("the download was given up"));
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let state = self.state.borrow_and_update();
        let (readable, whole) = match &*state {
            FillState::Requested => return Step::Wait,
            FillState::NoRoom => return Step::Pass,
            FillState::Failed(error) => return Step::Fail(error.clone()),
            FillState::Complete(object) => (self.end.unwrap_or(u64::MAX).min(object.meta.len), true),
            FillState::Streaming(arriving) => {
                let end = self.end.or(arriving.len).unwrap_or(arriving.written);
                (arriving.written.min(end.saturating_sub(WITHHELD)), false)
            }
        };
        match usize::try_from(readable.saturating_sub(self.position)).unwrap_or(CHUNK) {
            0 if whole => Step::Done,
            0 => Step::Wait,
            // Up to where frames begin: all who follow ask for the same parts.
            len if self.direct => Step::Read { len: len.min(FRAME - self.position as usize % FRAME) },
            len => Step::Read { len: len.min(CHUNK) },
        }
    }
}
