//! Receives the body of a publication: counted, with a deadline for each part and for the whole.

use std::time::Duration;

use bytes::Bytes;
use http::{header, request::Parts};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Input, PublishFailure, PublishingError};
use crate::{
    registry::hosting::RunningUpload,
    value::{memory_budget::MemoryShare, rate_floor::RateFloor},
};

/// Longest pause between two parts of a body.
const UPLOAD_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Least rate of an upload, bytes per second.
const MIN_UPLOAD_RATE: u64 = 10 << 10;
/// The rate is averaged over this much time spent waiting for the client.
const UPLOAD_RATE_WINDOW: Duration = Duration::from_secs(60);
/// Longest time of one upload.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(4 * 3600);
/// Longest time of a form.
const FORM_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes that are collected before they are written.
const UPLOAD_WRITE_BYTES: usize = 1 << 20;
/// Most bytes of a refused body that are read ...
const MAX_DISCARDED_BYTES: u64 = 32 << 20;
/// ... and the longest time for that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Refuses a body that announces more than `limit` bytes.
pub(super) fn check_length(parts: &Parts, limit: u64) -> Result<(), PublishFailure> {
    let Some(len) = parts.headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    // A field that is no number ends the connection before.
    let len = len.to_str().ok().and_then(|len| len.parse::<u64>().ok());
    if len.is_some_and(|len| len > limit) { Err(PublishFailure::too_large(limit)) } else { Ok(()) }
}

/// The body of a request.
pub(super) struct UploadBody {
    /// `None` where the request has no body.
    input: Option<Input>,
    /// True once reading has begun: a client that waits for `100 Continue` has been sent it.
    is_begun: bool,
}

impl UploadBody {
    pub(super) fn new(input: Option<Input>) -> Self {
        Self { input, is_begun: false }
    }

    /// Writes the whole body to the upload.
    pub(super) async fn receive(&mut self, limit: u64, upload: &mut RunningUpload) -> Result<(), PublishFailure> {
        let Some(body) = &mut self.input else { return Err(PublishFailure::bad_request("the request has no body")) };
        self.is_begun = true;
        let deadline = Instant::now() + UPLOAD_DEADLINE;
        let mut rate_floor = RateFloor::new(MIN_UPLOAD_RATE, UPLOAD_RATE_WINDOW);
        let mut received: u64 = 0;
        let mut collected: Vec<Bytes> = Vec::new();
        let mut collected_bytes = 0;
        loop {
            let asked = Instant::now();
            let frame = timeout_at(deadline.min(asked + UPLOAD_IDLE_TIMEOUT), body.frame()).await;
            let frame = frame.map_err(|_| PublishFailure::incomplete("the zip did not arrive in time"))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| PublishFailure::incomplete("the zip broke off before its end"))?;
            let Ok(bytes) = frame.into_data() else { continue };
            received = received.saturating_add(bytes.len() as u64);
            if received > limit {
                return Err(PublishFailure::too_large(limit));
            }
            let floor = rate_floor.note(bytes.len(), asked.elapsed());
            floor.map_err(|_| PublishFailure::incomplete("the zip arrived too slowly"))?;
            collected_bytes += bytes.len();
            collected.push(bytes);
            if collected_bytes >= UPLOAD_WRITE_BYTES {
                upload.write(std::mem::take(&mut collected)).await?;
                collected_bytes = 0;
            }
        }
        upload.write(collected).await?;
        Ok(())
    }

    /// Reads the whole body, a form of at most `limit` bytes. `share` grows to `memory` times the bytes that have arrived.
    pub(super) async fn collect(
        &mut self,
        limit: usize,
        memory: u64,
        share: &mut MemoryShare,
    ) -> Result<Vec<u8>, PublishFailure> {
        let Some(body) = &mut self.input else { return Err(PublishFailure::bad_request("the request has no body")) };
        self.is_begun = true;
        let deadline = Instant::now() + FORM_DEADLINE;
        let mut form = Vec::new();
        loop {
            let frame = timeout_at(deadline, body.frame()).await;
            let frame = frame.map_err(|_| PublishFailure::incomplete("the form did not arrive in time"))?;
            let Some(frame) = frame else { return Ok(form) };
            let frame = frame.map_err(|_| PublishFailure::incomplete("the form broke off before its end"))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if form.len() + bytes.len() > limit {
                return Err(PublishFailure::form_too_large(limit));
            }
            let len = (form.len() + bytes.len()) as u64;
            share.grow_to(len.saturating_mul(memory)).await.map_err(PublishingError::NoMemory)?;
            form.extend_from_slice(&bytes);
        }
    }

    /// Reads the rest of a refused body, up to [`MAX_DISCARDED_BYTES`]: a client that sends all of it before it reads the answer
    /// would see a broken connection instead.
    pub(super) async fn discard(self, parts: &Parts) {
        let Some(mut body) = self.input else { return };
        if !self.is_begun && parts.headers.contains_key(header::EXPECT) {
            return;
        }
        let read = async {
            let mut left = MAX_DISCARDED_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                left = left.saturating_sub(len);
                if left == 0 {
                    break;
                }
            }
        };
        // The connection is closed after the answer, read or not.
        let _ = timeout(DISCARD_TIMEOUT, read).await;
    }
}
