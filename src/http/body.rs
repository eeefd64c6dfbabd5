//! Response bodies: empty, bytes or a stream. Each reports once how it ended.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};

/// Why a body could not be completed. The server then closes the connection ([RFC 9112 §8]).
///
/// [RFC 9112 §8]: https://www.rfc-editor.org/rfc/rfc9112#section-8
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body.
pub struct Body {
    content: BodyContent,
    sent: u64,
    outcome: BodyOutcome,
    /// Called once, when the body ends or is dropped.
    on_end: Option<Box<dyn FnOnce(BodyEnd) + Send>>,
}

enum BodyContent {
    Bytes(Bytes),
    Stream { stream: BoxStream<'static, Result<Bytes, BodyError>>, len: Option<u64> },
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
        Self { content: BodyContent::Bytes(bytes), sent: 0, outcome, on_end: None }
    }

    /// A body of the chunks of `stream`, `len` bytes in total; `None` if unknown. An error of the stream closes the
    /// connection.
    pub fn stream(stream: BoxStream<'static, Result<Bytes, BodyError>>, len: Option<u64>) -> Self {
        Self { content: BodyContent::Stream { stream, len }, sent: 0, outcome: BodyOutcome::Aborted, on_end: None }
    }

    /// Calls `on_end` once, when the body ends or is dropped.
    pub fn on_end(mut self, on_end: impl FnOnce(BodyEnd) + Send + 'static) -> Self {
        self.on_end = Some(Box::new(on_end));
        self
    }

    /// The whole body; `None` for a stream. Empty once the bytes were passed to the connection.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            BodyContent::Bytes(bytes) => Some(bytes),
            BodyContent::Stream { .. } => None,
        }
    }

    /// `error` is why the body is broken off.
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
        let (next, last) = match &mut this.content {
            BodyContent::Bytes(bytes) if bytes.is_empty() => (None, true),
            BodyContent::Bytes(bytes) => (Some(Ok(std::mem::take(bytes))), true),
            BodyContent::Stream { stream, len } => match stream.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => {
                    // hyper stops polling once it has `Content-Length` bytes.
                    let last = len.is_some_and(|len| this.sent + bytes.len() as u64 >= len);
                    (Some(Ok(bytes)), last)
                }
                Poll::Ready(next) => (next, true),
            },
        };
        match next {
            Some(Ok(bytes)) => {
                this.sent += bytes.len() as u64;
                if last {
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
        matches!(&self.content, BodyContent::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            BodyContent::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
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

        let (mut body, reports) = with_reports(Body::full(Bytes::from_static(b"abc")));
        body.frame().await.expect("one").expect("good");
        drop(body);
        assert_eq!(
            reports.iter().collect::<Vec<_>>(),
            [BodyEnd { sent: 3, outcome: BodyOutcome::Complete, reason: None }]
        );
    }
}
