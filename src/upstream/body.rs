//! A response body while it arrives: an idle deadline for every chunk, and a size limit for documents, encoded and
//! decoded.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::{
    content_coding::{BodyDecoder, ContentCoding},
    failure,
    gate::Place,
};
use crate::{
    origin::FetchError,
    value::{
        memory_budget::{MemoryBudget, MemoryShare},
        memory_weight::json_estimate,
        rate_floor::{RateFloor, TooSlow},
    },
};

/// Most bytes read of an error response: enough for the words that are searched for.
const MAX_ERROR_TEXT_BYTES: usize = 16 << 10;

/// Most bytes of an error response that are decoded: more is no text.
const MAX_ERROR_BODY_BYTES: u64 = 1 << 20;

/// The least rate of a download is averaged over this time of waiting.
const RATE_WINDOW: Duration = Duration::from_secs(30);

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
    pub(super) fn with_min_rate(self, min_rate: u64) -> Self {
        Self { rate_floor: Some(RateFloor::new(min_rate, RATE_WINDOW)), ..self }
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
                    let floor = rate_floor.note(chunk.len(), asked.elapsed());
                    floor.map_err(|TooSlow { min_rate }| FetchError::TooSlow { min_rate })?;
                }
                Ok(Some(chunk))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(failure::of_body(&error)),
            Err(_) => Err(FetchError::Timeout(failure::BODY_TIMED_OUT)),
        }
    }

    /// The body as a document, decoded.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] for a coding that was not asked for, [`FetchError::DocumentTooLarge`] when the announced length
    /// exceeds the limit of `meter`.
    pub(super) fn into_document(self, meter: &SizeMeter) -> Result<DocumentBody, FetchError> {
        meter.check_announced(self.content_length())?;
        let coding = ContentCoding::of(self.headers())?;
        Ok(DocumentBody { body: self, decoder: BodyDecoder::new(coding), ended: false })
    }

    /// Reads the whole body as a document, within the limit of `meter`.
    ///
    /// # Errors
    /// As [`ResponseBody::into_document`] and [`DocumentBody::chunk`].
    pub(super) async fn read_all(self, meter: &mut SizeMeter) -> Result<Vec<u8>, FetchError> {
        let mut document = self.into_document(meter)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = document.chunk(meter).await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads the beginning of an error response as text; shorter when reading fails or takes longer than `limit`.
    /// Reading short bodies to the end also keeps the connection usable.
    pub(super) async fn error_text(self, limit: Duration) -> String {
        let mut bytes = Vec::new();
        // One decoded piece may be longer than the text that is kept.
        let mut meter = SizeMeter::new(MAX_ERROR_BODY_BYTES, &MemoryBudget::unlimited());
        let coding = ContentCoding::of(self.headers()).unwrap_or(ContentCoding::Identity);
        let mut text = DocumentBody { body: self, decoder: BodyDecoder::new(coding), ended: false };
        let read = async {
            while bytes.len() < MAX_ERROR_TEXT_BYTES {
                let Ok(Some(chunk)) = text.chunk(&mut meter).await else { break };
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

/// A body that is decoded while it arrives.
pub(super) struct DocumentBody {
    body: ResponseBody,
    decoder: BodyDecoder,
    ended: bool,
}

impl DocumentBody {
    /// The response headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        self.body.headers()
    }

    /// The next decoded bytes; `None` at the end of the complete and undamaged message. `meter` counts both the bytes
    /// that arrive and the decoded ones, before more of them are decoded.
    ///
    /// # Errors
    /// As [`ResponseBody::chunk`], [`FetchError::DocumentTooLarge`], [`FetchError::NoMemory`], and [`FetchError::Invalid`] for
    /// a damaged body.
    pub(super) async fn chunk(&mut self, meter: &mut SizeMeter) -> Result<Option<Bytes>, FetchError> {
        loop {
            if let Some(decoded) = self.decoder.next()? {
                meter.count_decoded(decoded.len())?;
                meter.take_memory(&decoded).await?;
                return Ok(Some(decoded));
            }
            if self.ended {
                return Ok(None);
            }
            let decoded = match self.body.chunk().await? {
                Some(received) => {
                    meter.count_received(received.len())?;
                    self.decoder.push(received)
                }
                None => {
                    self.ended = true;
                    Some(self.decoder.finish()?)
                }
            };
            if let Some(decoded) = decoded.filter(|decoded| !decoded.is_empty()) {
                meter.count_decoded(decoded.len())?;
                meter.take_memory(&decoded).await?;
                return Ok(Some(decoded));
            }
        }
    }
}

/// Enforces the size limit of a document, over all its pages: on the bytes that arrive, and on the decoded ones.
#[derive(Debug)]
pub(super) struct SizeMeter {
    limit: u64,
    received_left: u64,
    decoded_left: u64,
    /// An estimate of what the document takes once it is parsed, bytes.
    estimate: u64,
    memory: MemoryShare,
}

impl SizeMeter {
    /// Allows `limit` bytes, and takes `memory` for them as long as it lives.
    pub(super) fn new(limit: u64, memory: &MemoryBudget) -> Self {
        Self { limit, received_left: limit, decoded_left: limit, estimate: 0, memory: memory.share() }
    }

    /// Checks a `Content-Length` before the body is read.
    ///
    /// # Errors
    /// [`FetchError::DocumentTooLarge`] when it exceeds the rest of the limit.
    pub(super) fn check_announced(&self, len: Option<u64>) -> Result<(), FetchError> {
        if len.is_some_and(|len| len > self.received_left) { Err(self.too_large()) } else { Ok(()) }
    }

    /// Counts received bytes, as they are encoded.
    ///
    /// # Errors
    /// [`FetchError::DocumentTooLarge`] when all of them exceed the limit.
    fn count_received(&mut self, bytes: usize) -> Result<(), FetchError> {
        self.received_left = self.received_left.checked_sub(bytes as u64).ok_or_else(|| self.too_large())?;
        Ok(())
    }

    /// Counts decoded bytes.
    ///
    /// # Errors
    /// [`FetchError::DocumentTooLarge`] when all of them exceed the limit.
    fn count_decoded(&mut self, bytes: usize) -> Result<(), FetchError> {
        self.decoded_left = self.decoded_left.checked_sub(bytes as u64).ok_or_else(|| self.too_large())?;
        Ok(())
    }

    /// Takes memory for decoded bytes that are kept.
    ///
    /// # Errors
    /// [`FetchError::NoMemory`] when there is none in time.
    async fn take_memory(&mut self, decoded: &[u8]) -> Result<(), FetchError> {
        self.estimate = self.estimate.saturating_add(json_estimate(decoded));
        Ok(self.memory.grow_to(self.estimate).await?)
    }

    fn too_large(&self) -> FetchError {
        FetchError::DocumentTooLarge { limit: self.limit }
    }
}
