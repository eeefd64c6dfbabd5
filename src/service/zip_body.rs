//! Response bodies that are made of a zip's bytes: a range of a stored zip, or a zip that is still being downloaded.

use std::ops::Range;

use futures_util::{StreamExt as _, stream};

use super::context::SendMode;
use crate::{
    http::body::{Body, BodyError},
    registry::{Object, ObjectContent, SpoolReader},
};

/// Most bytes of one read from a stored zip.
const MAX_BLOB_READ_BYTES: usize = 256 << 10;
/// The same for a stream of HTTP/2, which buffers no more.
const MAX_STREAM_READ_BYTES: usize = 64 << 10;
/// Most bytes of one file slice. A slice takes no memory, only a check that the page cache holds it.
const MAX_BLOB_SLICE_BYTES: usize = 2 << 20;

/// The bytes of a range of a stored zip. A read error breaks the connection.
pub(super) fn range_body(object: Object, range: Range<u64>, send_mode: SendMode) -> Body {
    let len = range.end - range.start;
    if let ObjectContent::Memory(bytes) = &object.content {
        object.record_sent(len);
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        return Body::full(bytes.slice(index(range.start)..index(range.end)));
    }
    let next = move |(object, range): (Object, Range<u64>)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let bytes = match send_mode {
            SendMode::Sendfile => object.read_for_sendfile(range.start, wanted.min(MAX_BLOB_SLICE_BYTES)).await,
            SendMode::Copy => object.read(range.start, wanted.min(MAX_BLOB_READ_BYTES)).await,
            SendMode::Frames => object.read(range.start, wanted.min(MAX_STREAM_READ_BYTES)).await,
        };
        let bytes = bytes.map_err(|error| {
            tracing::error!(digest = %object.meta.digest, %error, "cannot read a stored zip");
            BodyError::from(error)
        })?;
        object.record_sent(bytes.len() as u64);
        let rest = range.start + bytes.len() as u64..range.end;
        Ok::<_, BodyError>(Some((bytes, (object, rest))))
    };
    Body::stream(stream::try_unfold((object, range), next).boxed(), Some(len))
}

/// The bytes of a zip that is being downloaded, as they arrive; `len` is `None` when the total is not known. A failed
/// download breaks the connection.
pub(super) fn streaming_body(spool_reader: SpoolReader, len: Option<u64>) -> Body {
    let next = |mut spool_reader: SpoolReader| async move {
        let bytes = spool_reader.next().await.map_err(BodyError::from)?;
        Ok::<_, BodyError>(bytes.map(|bytes| (bytes, spool_reader)))
    };
    Body::stream(stream::try_unfold(spool_reader, next).boxed(), len)
}
