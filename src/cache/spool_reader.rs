//! One client's reader of a fill: it reads the growing spool at its own pace and owns nothing of the download.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    ArchiveRequest,
    fill_state::{FillHandle, FillProgress, FinishedFill},
    pass_through::{PassThrough, PassThroughPool, ResumePoint},
};
use crate::{
    origin::FetchError,
    storage::{BlobFile, Object},
};

/// Largest read into memory: bounds the memory of a waiting client.
const MAX_READ_BYTES: usize = 256 << 10;
/// Largest slice of the spool that is sent without being read into memory.
const FRAME_BYTES: usize = 2 << 20;

/// Last bytes of an arriving body that are withheld until it is verified: so much that the end record of a zip, with a
/// commit as its comment, is never sent before.
const WITHHELD_BYTES: u64 = 64;

/// Reads a body that may still be arriving. Dropping it changes nothing for other readers.
pub struct SpoolReader {
    pass_throughs: Arc<PassThroughPool>,
    request: ArchiveRequest,
    fill: FillHandle,
    source: ReadSource,
    start: u64,
    position: u64,
    end: Option<u64>,
    /// The length of the whole body, as the client was told.
    announced_len: Option<u64>,
    direct: bool,
}

/// Where a reader takes its bytes from.
enum ReadSource {
    /// The fill's spool.
    Spool(Arc<BlobFile>),
    /// A download of its own, because the disk takes no more.
    PassThrough(Box<PassThrough>),
}

/// What a reader of a spool can do next.
enum ReadStep {
    Read { len: usize },
    Done,
    Wait,
    PassThrough,
}

/// What [`SpoolReader::whole`] returns.
pub enum WholeBody {
    /// The complete object.
    Complete(Object),
    /// The reader, unchanged: the body is too large to be held without room on disk.
    TooLarge(SpoolReader),
}

/// What [`SpoolReader::within`] returns.
pub enum RangeReader {
    /// A reader of the range alone.
    Confined(SpoolReader),
    /// The reader, unchanged: its download cannot be confined.
    Whole(SpoolReader),
}

impl SpoolReader {
    /// A reader of the fill's spool.
    pub(super) fn of_spool(
        pass_throughs: Arc<PassThroughPool>,
        request: ArchiveRequest,
        fill: FillHandle,
        spool: Arc<BlobFile>,
        announced_len: Option<u64>,
    ) -> Self {
        let source = ReadSource::Spool(spool);
        Self { pass_throughs, request, fill, source, start: 0, position: 0, end: None, announced_len, direct: false }
    }

    /// A reader of its own download.
    pub(super) fn of_pass_through(
        pass_throughs: Arc<PassThroughPool>,
        request: ArchiveRequest,
        fill: FillHandle,
        pass_through: PassThrough,
    ) -> Self {
        let source = ReadSource::PassThrough(Box::new(pass_through));
        let announced_len = None;
        Self { pass_throughs, request, fill, source, start: 0, position: 0, end: None, announced_len, direct: false }
    }

    /// With `direct`, the reader yields slices of the spool where it can, for a plain socket ([`crate::sendfile`]).
    pub fn direct(self, direct: bool) -> Self {
        Self { direct, ..self }
    }

    /// Confines the reader to a part of the body. Only before the first read.
    pub fn within(mut self, range: Range<u64>) -> RangeReader {
        match self.source {
            ReadSource::PassThrough(_) => RangeReader::Whole(self),
            ReadSource::Spool(_) => {
                self.start = range.start;
                self.position = range.start;
                self.end = Some(range.end);
                RangeReader::Confined(self)
            }
        }
    }

    /// Waits for the end and returns the complete object. Only before the first read.
    ///
    /// Without room on disk the body comes by a download of its own, and the object is in memory.
    ///
    /// # Errors
    /// When the body cannot be completed.
    pub async fn whole(mut self) -> Result<WholeBody, FetchError> {
        match self.fill.finished().await? {
            FinishedFill::Complete(object) => return Ok(WholeBody::Complete(object)),
            FinishedFill::NoRoom => {}
        }
        let pass_through = match self.source {
            ReadSource::PassThrough(pass_through) => pass_through,
            ReadSource::Spool(_) => {
                Box::new(PassThrough::open(&self.pass_throughs, &self.request, ResumePoint::default()).await?)
            }
        };
        Ok(match pass_through.into_object() {
            Ok(object) => WholeBody::Complete(object),
            Err(pass_through) => WholeBody::TooLarge(Self { source: ReadSource::PassThrough(pass_through), ..self }),
        })
    }

    /// The next bytes: at most 256 KiB, or a slice of 2 MiB; `None` after the last byte of a verified body.
    ///
    /// # Errors
    /// When the body cannot be completed. The connection must then be broken, never ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let spool = match &mut self.source {
                ReadSource::PassThrough(pass_through) => return pass_through.next().await,
                ReadSource::Spool(spool) => spool.clone(),
            };
            match self.step()? {
                ReadStep::Done => return Ok(None),
                ReadStep::Wait => self.fill.changed().await,
                ReadStep::PassThrough => {
                    let resume = ResumePoint {
                        part_start: self.start,
                        sent_until: self.position,
                        part_end: self.end,
                        spool: Some(spool),
                        announced_len: self.announced_len,
                    };
                    let pass_through = PassThrough::open(&self.pass_throughs, &self.request, resume).await?;
                    self.source = ReadSource::PassThrough(Box::new(pass_through));
                }
                ReadStep::Read { len } => {
                    let read = if self.direct {
                        spool.read_for_sendfile(self.position, len).await
                    } else {
                        spool.read(self.position, len).await
                    };
                    let bytes = read.map_err(|error| {
                        tracing::warn!(key = %self.request.key, %error, "cannot read a spool");
                        FetchError::Unreachable("the download could not be read back")
                    })?;
                    self.position += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
            }
        }
    }

    fn step(&mut self) -> Result<ReadStep, FetchError> {
        let (readable, complete) = match self.fill.progress()? {
            FillProgress::Requested => return Ok(ReadStep::Wait),
            FillProgress::NoRoom => return Ok(ReadStep::PassThrough),
            FillProgress::Complete { len } => (self.end.unwrap_or(u64::MAX).min(len), true),
            FillProgress::Streaming { written, total } => {
                let end = self.end.or(total).unwrap_or(written);
                (written.min(end.saturating_sub(WITHHELD_BYTES)), false)
            }
        };
        Ok(match usize::try_from(readable.saturating_sub(self.position)).unwrap_or(MAX_READ_BYTES) {
            0 if complete => ReadStep::Done,
            0 => ReadStep::Wait,
            // Frames start at multiples of their size, so that all readers ask for the same slices.
            len if self.direct => ReadStep::Read { len: len.min(FRAME_BYTES - self.position as usize % FRAME_BYTES) },
            len => ReadStep::Read { len: len.min(MAX_READ_BYTES) },
        })
    }
}
