//! One client's reader of a fill: it reads the growing spool at its own pace and owns nothing of the download.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::fill_state::{FillHandle, FillProgress};
use crate::{
    entry::Key,
    origin::FetchError,
    storage::{BlobFile, Object},
};

/// Largest read into memory: bounds the memory of a waiting client.
const MAX_READ_BYTES: usize = 256 << 10;
/// Largest slice of the spool that is sent without being read into memory.
const MAX_SPOOL_SLICE_BYTES: usize = 2 << 20;

/// Last bytes of an arriving body that are withheld until it is verified: so much that the end record of a zip, with a
/// commit as its comment, is never sent before.
const WITHHELD_BYTES: u64 = 64;

/// Reads a body that may still be arriving. Dropping it changes nothing for other readers.
pub struct SpoolReader {
    key: Key,
    fill: FillHandle,
    source: ReadSource,
    position: u64,
    end: Option<u64>,
    direct: bool,
}

/// Where a reader takes its bytes from.
enum ReadSource {
    /// The fill's spool.
    Spool(Arc<BlobFile>),
    /// Nothing yet: the spool is read to its end, and the whole body will be in memory.
    Awaited,
    /// The complete body.
    Complete(Object),
}

/// What a reader can do next.
enum ReadStep {
    Read { len: usize },
    Done,
    Wait,
}

impl SpoolReader {
    /// A reader of the fill's spool.
    pub(super) fn of_spool(key: Key, fill: FillHandle, spool: Arc<BlobFile>) -> Self {
        Self { key, fill, source: ReadSource::Spool(spool), position: 0, end: None, direct: false }
    }

    /// With `direct`, the reader yields slices of the spool where it can, for a plain socket ([`crate::sendfile`]).
    pub fn direct(self, direct: bool) -> Self {
        Self { direct, ..self }
    }

    /// Confines the reader to a part of the body. Only before the first read.
    pub fn within(self, range: Range<u64>) -> Self {
        Self { position: range.start, end: Some(range.end), ..self }
    }

    /// Waits for the end and returns the complete object.
    ///
    /// # Errors
    /// When the body cannot be completed.
    pub async fn whole(mut self) -> Result<Object, FetchError> {
        self.fill.finished().await
    }

    /// The next bytes: at most 256 KiB, or a slice of 2 MiB; `None` after the last byte of a verified body.
    ///
    /// # Errors
    /// When the body cannot be completed. The connection must then be broken, never ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            match self.step()? {
                ReadStep::Done => return Ok(None),
                ReadStep::Wait => self.fill.changed().await,
                ReadStep::Read { len } => {
                    let read = match &self.source {
                        ReadSource::Spool(spool) if self.direct => spool.read_for_sendfile(self.position, len).await,
                        ReadSource::Spool(spool) => spool.read(self.position, len).await,
                        ReadSource::Complete(object) if self.direct => {
                            object.read_for_sendfile(self.position, len).await
                        }
                        ReadSource::Complete(object) => object.read(self.position, len).await,
                        ReadSource::Awaited => continue,
                    };
                    let bytes = read.map_err(|error| {
                        tracing::warn!(key = %self.key, %error, "cannot read a spool");
                        FetchError::Unreachable("the download could not be read back")
                    })?;
                    self.position += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
            }
        }
    }

    fn step(&mut self) -> Result<ReadStep, FetchError> {
        if let ReadSource::Complete(object) = &self.source {
            let end = self.end.unwrap_or(u64::MAX).min(object.meta.len);
            return Ok(self.read_until(end).unwrap_or(ReadStep::Done));
        }
        match self.fill.progress()? {
            FillProgress::Requested => Ok(ReadStep::Wait),
            FillProgress::Streaming { written, total } => {
                Ok(self.read_until(self.spooled(written, total)).unwrap_or(ReadStep::Wait))
            }
            FillProgress::Moved { written, total } => {
                Ok(self.read_until(self.spooled(written, total)).unwrap_or_else(|| {
                    // The spool is not needed any more: dropping it releases its bytes on disk.
                    self.source = ReadSource::Awaited;
                    ReadStep::Wait
                }))
            }
            FillProgress::Complete(object) => {
                self.source = ReadSource::Complete(object);
                self.step()
            }
        }
    }

    /// Where the bytes end that may be read while the body arrives.
    fn spooled(&self, written: u64, total: Option<u64>) -> u64 {
        let end = self.end.or(total).unwrap_or(written);
        written.min(end.saturating_sub(WITHHELD_BYTES))
    }

    /// The next read of bytes before `end`; `None` when there are none.
    fn read_until(&self, end: u64) -> Option<ReadStep> {
        match usize::try_from(end.saturating_sub(self.position)).unwrap_or(MAX_READ_BYTES) {
            0 => None,
            // Slices start at multiples of their size, so that all readers ask for the same ones.
            len if self.direct => {
                let slice = MAX_SPOOL_SLICE_BYTES as u64;
                let left = usize::try_from(slice - self.position % slice).unwrap_or(MAX_SPOOL_SLICE_BYTES);
                Some(ReadStep::Read { len: len.min(left) })
            }
            len => Some(ReadStep::Read { len: len.min(MAX_READ_BYTES) }),
        }
    }
}
