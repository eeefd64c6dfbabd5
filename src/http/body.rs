//! Response bodies: empty, bytes, a filled template or a stream. Each reports once how it ended.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};

use super::{
    send_memory::SendMemory,
    template::{CHUNK_BYTES, FilledTemplate},
};
use crate::value::memory_budget::MemoryBudget;

/// Why a body could not be completed. The server then closes the connection ([RFC 9112 §8]).
///
/// [RFC 9112 §8]: https://www.rfc-editor.org/rfc/rfc9112#section-8
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Most bytes of a frame for HTTP/2: the largest that every client accepts (RFC 9113 §4.2).
const MAX_HTTP2_FRAME_BYTES: usize = 16 << 10;

/// Most bytes of one part of a stream.
const MAX_STREAM_PART_BYTES: u64 = 256 << 10;

/// A response body.
pub struct Body {
    content: BodyContent,
    /// Most bytes of one frame.
    max_frame: usize,
    /// What is left of a longer part of the content.
    rest: Bytes,
    /// Nothing follows `rest`.
    rest_is_last: bool,
    /// Counts the content until the connection has sent it; `None` for HTTP/1, where the number of connections bounds it.
    memory: Option<SendMemory>,
    sent: u64,
    outcome: BodyOutcome,
    /// Called once, when the body ends or is dropped.
    on_end: Option<Box<dyn FnOnce(BodyEnd) + Send>>,
}

enum BodyContent {
    Bytes(Bytes),
    Template(Box<FilledTemplate>),
    Stream { stream: BoxStream<'static, Result<Bytes, BodyError>>, len: Option<u64> },
}

/// The content of a body that can be sent again. Clones share its bytes.
#[derive(Clone, Debug)]
pub(crate) enum RepeatableContent {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A template, put together while it is sent.
    Template(Box<FilledTemplate>),
}

impl RepeatableContent {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Template(filled) => usize::try_from(filled.left()).unwrap_or(usize::MAX),
        }
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyOutcome {
    /// Every byte was passed to the connection.
    Complete,
    /// The client disconnected, or was disconnected, before the end.
    Aborted,
    /// The source failed, and the server closed the connection.
    Broken,
}

impl BodyOutcome {
    /// The outcome as one word, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Broken => "broken",
        }
    }
}

/// The end of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEnd {
    /// Bytes passed to the connection.
    pub sent: u64,
    /// How it ended.
    pub outcome: BodyOutcome,
    /// Why it was broken off, for the log.
    pub reason: Option<String>,
}

impl Body {
    /// An empty body.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// A body of `bytes`.
    pub fn full(bytes: Bytes) -> Self {
        let outcome = if bytes.is_empty() { BodyOutcome::Complete } else { BodyOutcome::Aborted };
        Self::new(BodyContent::Bytes(bytes), outcome)
    }

    /// A body of a filled template.
    pub(crate) fn template(filled: FilledTemplate) -> Self {
        match filled.as_bytes() {
            Some(bytes) => Self::full(bytes),
            None => Self::repeat(RepeatableContent::Template(Box::new(filled))),
        }
    }

    /// A body with this content.
    pub(crate) fn repeat(content: RepeatableContent) -> Self {
        match content {
            RepeatableContent::Bytes(bytes) => Self::full(bytes),
            RepeatableContent::Template(filled) => Self::new(BodyContent::Template(filled), BodyOutcome::Aborted),
        }
    }

    /// A body of the chunks of `stream`, `len` bytes in total; `None` if unknown. An error of the stream closes the
    /// connection.
    pub fn stream(stream: BoxStream<'static, Result<Bytes, BodyError>>, len: Option<u64>) -> Self {
        Self::new(BodyContent::Stream { stream, len }, BodyOutcome::Aborted)
    }

    /// The body of a response that is not sent, because the connection is broken instead: empty, and reported as broken.
    pub(crate) fn unsent() -> Self {
        Self::new(BodyContent::Bytes(Bytes::new()), BodyOutcome::Broken)
    }

    fn new(content: BodyContent, outcome: BodyOutcome) -> Self {
        Self {
            content,
            max_frame: usize::MAX,
            rest: Bytes::new(),
            rest_is_last: false,
            memory: None,
            sent: 0,
            outcome,
            on_end: None,
        }
    }

    /// The body in frames of at most [`MAX_HTTP2_FRAME_BYTES`], for HTTP/2: what hyper polls is then what the client has
    /// room for, and a client that stops reading is seen. The last byte of a body of several frames is a frame of its own:
    /// hyper polls it when everything before it fits into the client's window.
    ///
    /// A connection has many streams, so what clients do not read is counted in `memory`: before a part of the content is
    /// made, until it is sent. The body is broken off where that finds no room.
    pub fn in_http2_frames(mut self, memory: &MemoryBudget) -> Self {
        self.max_frame = MAX_HTTP2_FRAME_BYTES;
        self.memory = Some(SendMemory::new(memory.clone()));
        self
    }

    /// About how many bytes of memory the next part of the content takes.
    fn next_part_bytes(&self) -> u64 {
        match &self.content {
            // Longer bytes are shared by all readers, and the cache that holds them counts them.
            BodyContent::Bytes(bytes) if bytes.len() > CHUNK_BYTES => 0,
            BodyContent::Bytes(bytes) => bytes.len() as u64,
            BodyContent::Template(filled) => filled.left().min(CHUNK_BYTES as u64),
            BodyContent::Stream { len, .. } => {
                len.map_or(MAX_STREAM_PART_BYTES, |len| len.saturating_sub(self.sent).min(MAX_STREAM_PART_BYTES))
            }
        }
    }

    /// Calls `on_end` once, when the body ends or is dropped.
    pub fn on_end(mut self, on_end: impl FnOnce(BodyEnd) + Send + 'static) -> Self {
        self.on_end = Some(Box::new(on_end));
        self
    }

    /// The content that is not sent yet, so that it can be sent again; `None` for a stream.
    pub(crate) fn repeatable(&self) -> Option<RepeatableContent> {
        match &self.content {
            BodyContent::Bytes(bytes) => Some(RepeatableContent::Bytes(bytes.clone())),
            BodyContent::Template(filled) => Some(RepeatableContent::Template(filled.clone())),
            BodyContent::Stream { .. } => None,
        }
    }

    /// How much of the next `len` bytes is one frame; `last`: nothing follows them.
    fn next_frame_len(&self, len: usize, last: bool) -> usize {
        let is_tail = last && self.sent > 0 && len > 1 && self.max_frame < usize::MAX;
        if len > self.max_frame {
            self.max_frame
        } else if is_tail {
            len - 1
        } else {
            len
        }
    }

    /// Reports how the body ended, once; `error` is why it was broken off.
    fn finish(&mut self, outcome: BodyOutcome, error: Option<&BodyError>) {
        self.outcome = outcome;
        if let Some(on_end) = self.on_end.take() {
            on_end(BodyEnd { sent: self.sent, outcome, reason: error.map(ToString::to_string) });
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.rest.is_empty()
            && this.memory.is_some()
            && let bytes = this.next_part_bytes()
            && let Some(memory) = &mut this.memory
            && let Err(error) = ready!(memory.poll_reserve(cx, bytes))
        {
            let error = error.into();
            this.finish(BodyOutcome::Broken, Some(&error));
            return Poll::Ready(Some(Err(error)));
        }
        let (next, last) = match &mut this.content {
            _ if !this.rest.is_empty() => (Some(Ok(std::mem::take(&mut this.rest))), this.rest_is_last),
            BodyContent::Bytes(bytes) if bytes.is_empty() => (None, true),
            BodyContent::Bytes(bytes) => (Some(Ok(std::mem::take(bytes))), true),
            BodyContent::Template(filled) => {
                let chunk = filled.next_chunk();
                (chunk.map(Ok), filled.left() == 0)
            }
            BodyContent::Stream { stream, len } => match stream.as_mut().poll_next(cx) {
                Poll::Pending => {
                    // Nothing waits for the client.
                    this.memory.as_mut().map(SendMemory::give_back);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(bytes))) => {
                    // hyper stops polling once it has `Content-Length` bytes.
                    let last = len.is_some_and(|len| this.sent + bytes.len() as u64 >= len);
                    (Some(Ok(bytes)), last)
                }
                Poll::Ready(next) => (next, true),
            },
        };
        match next {
            Some(Ok(mut bytes)) => {
                if let Some(memory) = &mut this.memory {
                    bytes = memory.hold(bytes);
                }
                let cut = this.next_frame_len(bytes.len(), last);
                if cut < bytes.len() {
                    this.rest = bytes.split_off(cut);
                    this.rest_is_last = last;
                }
                this.sent += bytes.len() as u64;
                if last && this.rest.is_empty() {
                    this.finish(BodyOutcome::Complete, None);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => {
                this.finish(BodyOutcome::Broken, Some(&error));
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish(BodyOutcome::Complete, None);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_content_sent = match &self.content {
            BodyContent::Bytes(bytes) => bytes.is_empty(),
            BodyContent::Template(filled) => filled.left() == 0,
            BodyContent::Stream { .. } => false,
        };
        is_content_sent && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            BodyContent::Bytes(bytes) => SizeHint::with_exact((bytes.len() + self.rest.len()) as u64),
            BodyContent::Template(filled) => SizeHint::with_exact(filled.left() + self.rest.len() as u64),
            BodyContent::Stream { len: Some(len), .. } => SizeHint::with_exact(len.saturating_sub(self.sent)),
            BodyContent::Stream { len: None, .. } => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.finish(self.outcome, None);
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("sent", &self.sent).field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    fn with_reports(body: Body) -> (Body, mpsc::Receiver<BodyEnd>) {
        let (sender, reports) = mpsc::channel();
        (body.on_end(move |end| sender.send(end).expect("the receiver lives")), reports)
    }

    fn chunks(chunks: Vec<Result<&'static str, &'static str>>) -> BoxStream<'static, Result<Bytes, BodyError>> {
        stream::iter(chunks).map(|chunk| chunk.map(Bytes::from).map_err(Into::into)).boxed()
    }

    #[tokio::test]
    async fn body_reports_once_whether_it_was_completed_broken_or_aborted() {
        let (body, reports) = with_reports(Body::stream(chunks(vec![Ok("ab"), Ok("c")]), None));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "abc");
        assert_eq!(
            reports.iter().collect::<Vec<_>>(),
            [BodyEnd { sent: 3, outcome: BodyOutcome::Complete, reason: None }]
        );

        let (body, reports) = with_reports(Body::stream(chunks(vec![Ok("ab"), Err("no")]), Some(9)));
        assert!(body.collect().await.is_err());
        let reason = Some("no".to_owned());
        assert_eq!(reports.iter().collect::<Vec<_>>(), [BodyEnd { sent: 2, outcome: BodyOutcome::Broken, reason }]);

        let (mut body, reports) = with_reports(Body::stream(chunks(vec![Ok("ab"), Ok("c")]), Some(3)));
        body.frame().await.expect("one").expect("good");
        drop(body);
        assert_eq!(
            reports.iter().collect::<Vec<_>>(),
            [BodyEnd { sent: 2, outcome: BodyOutcome::Aborted, reason: None }]
        );

        let (mut body, reports) = with_reports(
            Body::full(vec![7; MAX_HTTP2_FRAME_BYTES + 2].into()).in_http2_frames(&MemoryBudget::unlimited()),
        );
        body.frame().await.expect("one").expect("good");
        drop(body);
        let sent = MAX_HTTP2_FRAME_BYTES as u64;
        assert_eq!(reports.iter().collect::<Vec<_>>(), [BodyEnd { sent, outcome: BodyOutcome::Aborted, reason: None }]);

        let (mut body, reports) = with_reports(Body::full(Bytes::from_static(b"abc")));
        body.frame().await.expect("one").expect("good");
        drop(body);
        assert_eq!(
            reports.iter().collect::<Vec<_>>(),
            [BodyEnd { sent: 3, outcome: BodyOutcome::Complete, reason: None }]
        );
    }

    #[tokio::test]
    async fn frames_for_http_2_are_short_and_the_last_byte_of_several_comes_alone() {
        const MAX: usize = MAX_HTTP2_FRAME_BYTES;
        for (len, expected) in [
            (0, vec![]),
            (3, vec![3]),
            (MAX, vec![MAX]),
            (MAX + 1, vec![MAX, 1]),
            (MAX + 2, vec![MAX, 1, 1]),
            (2 * MAX, vec![MAX, MAX - 1, 1]),
            (2 * MAX + 9, vec![MAX, MAX, 8, 1]),
        ] {
            let content: Bytes = (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
            let part = content.clone();
            let streamed = Body::stream(stream::iter([Ok(part)]).boxed(), Some(len as u64));
            for (body, kind) in [(Body::full(content.clone()), "bytes"), (streamed, "stream")] {
                let mut body = body.in_http2_frames(&MemoryBudget::unlimited());
                let mut lens = Vec::new();
                let mut bytes = Vec::new();
                while let Some(frame) = body.frame().await {
                    let data = frame.expect("good").into_data().expect("data");
                    lens.push(data.len());
                    bytes.extend_from_slice(&data);
                    let left = http_body::Body::size_hint(&body).exact();
                    assert_eq!(left, Some((len - bytes.len()) as u64), "{kind} {len}");
                }
                lens.retain(|len| *len > 0);
                assert!(lens == expected && content == bytes, "{kind} {len}: {lens:?}");
            }
        }
    }
}
