//! The body of a publication.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::cli::byte_bar::ByteBar;

/// Bytes that are read and sent at a time.
const UPLOAD_CHUNK_BYTES: usize = 256 << 10;
/// From this length on, the body waits for a refusal: `Expect: 100-continue` asks for one, and the HTTP client cannot
/// tell when the mirror wants the body.
const WAITING_BODY_BYTES: u64 = 1 << 20;
/// Time for which a long body waits (RFC 9110 §10.1.1 leaves this to the client).
const CONTINUE_WAIT: Duration = Duration::from_millis(500);

/// The bytes of a zip of `len` bytes, counted by `bar`. A large one begins after the time in which the mirror may refuse
/// it.
///
/// An error breaks the request: the file is shorter than it was, or cannot be read.
pub(in crate::cli::versions) fn zip_body(
    file: Arc<File>,
    len: u64,
    bar: Option<Arc<ByteBar>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(0_u64, move |offset| {
        let file = file.clone();
        let bar = bar.clone();
        async move {
            if offset == 0 && len >= WAITING_BODY_BYTES {
                tokio::time::sleep(CONTINUE_WAIT).await;
            }
            let left = len - offset;
            if left == 0 {
                return Ok(None);
            }
            let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(UPLOAD_CHUNK_BYTES);
            let read = move || {
                let mut buf = vec![0; chunk];
                file.read_exact_at(&mut buf, offset).map(|()| Bytes::from(buf))
            };
            let bytes = crate::blocking::spawn_blocking(read).await.map_err(io::Error::other).flatten()?;
            bar.iter().for_each(|bar| bar.advance(bytes.len() as u64));
            Ok(Some((bytes, offset + chunk as u64)))
        }
    })
}
