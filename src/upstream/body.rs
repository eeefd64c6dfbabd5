//! A body while it arrives: every chunk under the idle deadline, every byte counted.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::HeaderMap;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::failure;
use crate::origin::FetchError;

/// The slots a request takes of its upstream's concurrency, given back when its body has ended or is dropped.
pub(super) type Permits = [Option<OwnedSemaphorePermit>; 2];

/// How much of a refusal's text is read: enough for the words that are looked for.
const REFUSAL: usize = 16 << 10;

/// A body that has only begun to arrive. Dropping it ends the transfer.
pub(super) struct Body {
    response: reqwest::Response,
    idle: Duration,
    _permits: Permits,
}

impl Body {
    pub(super) fn new(response: reqwest::Response, idle: Duration, permits: Permits) -> Self {
        Self { response, idle, _permits: permits }
    }

    /// The head's fields.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The announced length, where one was announced.
    pub(super) fn announced(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes, `None` at the end of the whole message.
    ///
    /// # Errors
    /// [`FetchError::Timeout`] when nothing comes for the idle timeout, [`FetchError::Unreachable`] when the connection breaks.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(failure::of_body(&error)),
            Err(_) => Err(FetchError::Timeout("silence in the middle of an answer")),
        }
    }

    /// The whole body, counted by `meter`.
    ///
    /// # Errors
    /// As [`Body::chunk`], and [`FetchError::TooLarge`].
    pub(super) async fn whole(mut self, meter: &mut Meter) -> Result<Vec<u8>, FetchError> {
        meter.announce(self.announced())?;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            meter.count(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The first bytes of a refusal as text, for the words that tell a rate limit; whatever goes wrong, it is shorter.
    /// Reading small ones to their end also keeps the connection usable.
    pub(super) async fn refusal(mut self, within: Duration) -> String {
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < REFUSAL {
                let Ok(Some(chunk)) = self.chunk().await else { break };
                bytes.extend_from_slice(&chunk);
            }
        };
        // Late or not, what has come is what is judged.
        let _late = timeout(within, read).await;
        bytes.truncate(REFUSAL);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The body as a stream that ends after an error, or at the end of the whole message.
    pub(super) fn stream(self) -> BoxStream<'static, Result<Bytes, FetchError>> {
        stream::try_unfold(self, |mut body| async move { Ok(body.chunk().await?.map(|chunk| (chunk, body))) }).boxed()
    }
}

/// Counts the bytes of a document, all its pages together.
#[derive(Debug)]
pub(super) struct Meter {
    limit: u64,
    left: u64,
}

impl Meter {
    /// Allows `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// # Errors
    /// [`FetchError::TooLarge`] when an announced length is already too much.
    pub(super) fn announce(&self, len: Option<u64>) -> Result<(), FetchError> {
        if len.is_some_and(|len| len > self.left) { Err(FetchError::TooLarge { limit: self.limit }) } else { Ok(()) }
    }

    /// # Errors
    /// [`FetchError::TooLarge`] when more than the limit has come.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), FetchError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(bytes).ok_or(FetchError::TooLarge { limit: self.limit })?;
        Ok(())
    }
}
