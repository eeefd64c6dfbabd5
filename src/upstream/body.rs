//! A response body while it arrives: an idle deadline for every chunk, and a size limit for documents.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::{failure, gate::Place, rate_floor::RateFloor};
use crate::origin::FetchError;

/// Most bytes read of an error response: enough for the words that are searched for.
const MAX_ERROR_TEXT_BYTES: usize = 16 << 10;

/// The body of a response whose head has arrived. Dropping it aborts the transfer.
pub(super) struct ResponseBody {
    response: reqwest::Response,
    idle_timeout: Duration,
    rate_floor: Option<RateFloor>,
    _place: Option<Place>,
}

impl ResponseBody {
    pub(super) fn new(response: reqwest::Response, idle_timeout: Duration) -> Self {
        Self { response, idle_timeout, rate_floor: None, _place: None }
    }

    /// The same body, which holds a place until it is dropped.
    pub(super) fn holding(self, place: Place) -> Self {
        Self { _place: Some(place), ..self }
    }

    /// The same body, which fails when it is slower than `min_rate` bytes per second.
    pub(super) fn at_least(self, min_rate: u64) -> Self {
        Self { rate_floor: Some(RateFloor::new(min_rate)), ..self }
    }

    /// The response headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The `Content-Length`, if any.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; `None` at the end of the complete message.
    ///
    /// # Errors
    /// [`FetchError::Timeout`] when no byte arrives within the idle timeout, [`FetchError::TooSlow`] below the least rate,
    /// [`FetchError::Unreachable`] when the connection breaks.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let asked = Instant::now();
        match timeout(self.idle_timeout, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                if let Some(rate_floor) = &mut self.rate_floor {
                    rate_floor.note(chunk.len(), asked.elapsed())?;
                }
                Ok(Some(chunk))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(failure::of_body(&error)),
            Err(_) => Err(FetchError::Timeout(failure::BODY_TIMED_OUT)),
        }
    }

    /// Reads the whole body, within the limit of `meter`.
    ///
    /// # Errors
    /// As [`ResponseBody::chunk`], and [`FetchError::DocumentTooLarge`].
    pub(super) async fn read_all(mut self, meter: &mut SizeMeter) -> Result<Vec<u8>, FetchError> {
        meter.check_announced(self.content_length())?;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            meter.count(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads the beginning of an error response as text; shorter when reading fails or takes longer than `limit`.
    /// Reading short bodies to the end also keeps the connection usable.
    pub(super) async fn error_text(mut self, limit: Duration) -> String {
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < MAX_ERROR_TEXT_BYTES {
                let Ok(Some(chunk)) = self.chunk().await else { break };
                bytes.extend_from_slice(&chunk);
            }
        };
        // After the time limit, the part that has arrived is used.
        let _timed_out = timeout(limit, read).await;
        bytes.truncate(MAX_ERROR_TEXT_BYTES);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The body as a stream that ends after an error, or at the end of the complete message.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Bytes, FetchError>> {
        stream::try_unfold(self, |mut body| async move { Ok(body.chunk().await?.map(|chunk| (chunk, body))) }).boxed()
    }
}

/// Enforces the size limit of a document, over all its pages.
#[derive(Debug)]
pub(super) struct SizeMeter {
    limit: u64,
    left: u64,
}

impl SizeMeter {
    /// Allows `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// Checks a `Content-Length` before the body is read.
    ///
    /// # Errors
    /// [`FetchError::DocumentTooLarge`] when it exceeds the rest of the limit.
    pub(super) fn check_announced(&self, len: Option<u64>) -> Result<(), FetchError> {
        if len.is_some_and(|len| len > self.left) {
            Err(FetchError::DocumentTooLarge { limit: self.limit })
        } else {
            Ok(())
        }
    }

    /// Counts received bytes.
    ///
    /// # Errors
    /// [`FetchError::DocumentTooLarge`] when all of them exceed the limit.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), FetchError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(bytes).ok_or(FetchError::DocumentTooLarge { limit: self.limit })?;
        Ok(())
    }
}
