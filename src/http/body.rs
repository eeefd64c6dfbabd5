//! Response bodies: nothing, bytes, or a stream; each tells at its end what became of it.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};

/// Why a body could not be completed; the connection under it is then broken (RFC 9112 §8).
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body.
pub struct Body {
    content: Content,
    sent: u64,
    end: End,
    /// Hears once what became of the body, at the latest when it is dropped.
    watcher: Option<Box<dyn FnOnce(BodyEnd) + Send>>,
}

enum Content {
    Bytes(Bytes),
    Stream { stream: BoxStream<'static, Result<Bytes, BodyError>>, len: Option<u64> },
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte was handed to the connection.
    Complete,
    /// The client went away first.
    Aborted,
    /// The source failed: the client sees a broken connection.
    Broken,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyEnd {
    /// Bytes handed to the connection.
    pub sent: u64,
    /// How it ended.
    pub end: End,
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        let end = if bytes.is_empty() { End::Complete } else { End::Aborted };
        Self { content: Content::Bytes(bytes), sent: 0, end, watcher: None }
    }

    /// A stream, of `len` bytes where that is known. An error in it breaks the connection.
    pub fn stream(stream: BoxStream<'static, Result<Bytes, BodyError>>, len: Option<u64>) -> Self {
        Self { content: Content::Stream { stream, len }, sent: 0, end: End::Aborted, watcher: None }
    }

    /// Calls `watcher` once, when the body has ended or is dropped.
    pub fn watched(mut self, watcher: impl FnOnce(BodyEnd) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// All of the body, where it is in memory and nothing of it has been taken.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Bytes(bytes) => Some(bytes),
            Content::Stream { .. } => None,
        }
    }

    fn ended(&mut self, end: End) {
        self.end = end;
        if let Some(watcher) = self.watcher.take() {
            watcher(BodyEnd { sent: self.sent, end });
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let (next, last) = match &mut this.content {
            Content::Bytes(bytes) if bytes.is_empty() => (None, true),
            Content::Bytes(bytes) => (Some(Ok(std::mem::take(bytes))), true),
            Content::Stream { stream, len } => match stream.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => {
                    // hyper stops asking once it has all the bytes that were announced.
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
                    this.ended(End::Complete);
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => {
                this.ended(End::Broken);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.ended(End::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream { len: Some(len), .. } => SizeHint::with_exact(len.saturating_sub(self.sent)),
            Content::Stream { len: None, .. } => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.ended(self.end);
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("sent", &self.sent).field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    fn watched(body: Body) -> (Body, mpsc::Receiver<BodyEnd>) {
        let (tell, told) = mpsc::channel();
        (body.watched(move |end| tell.send(end).expect("heard")), told)
    }

    fn parts(parts: Vec<Result<&'static str, &'static str>>) -> BoxStream<'static, Result<Bytes, BodyError>> {
        stream::iter(parts).map(|part| part.map(Bytes::from).map_err(Into::into)).boxed()
    }

    #[tokio::test]
    async fn a_body_tells_once_whether_it_was_completed_broken_or_left() {
        let (body, told) = watched(Body::stream(parts(vec![Ok("ab"), Ok("c")]), None));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "abc");
        assert_eq!(told.iter().collect::<Vec<_>>(), [BodyEnd { sent: 3, end: End::Complete }]);

        let (body, told) = watched(Body::stream(parts(vec![Ok("ab"), Err("no")]), Some(9)));
        assert!(body.collect().await.is_err());
        assert_eq!(told.iter().collect::<Vec<_>>(), [BodyEnd { sent: 2, end: End::Broken }]);

        let (mut body, told) = watched(Body::stream(parts(vec![Ok("ab"), Ok("c")]), Some(3)));
        body.frame().await.expect("one").expect("good");
        drop(body);
        assert_eq!(told.iter().collect::<Vec<_>>(), [BodyEnd { sent: 2, end: End::Aborted }]);

        let (mut body, told) = watched(Body::full(Bytes::from_static(b"abc")));
        body.frame().await.expect("one").expect("good");
        drop(body);
        assert_eq!(told.iter().collect::<Vec<_>>(), [BodyEnd { sent: 3, end: End::Complete }]);
    }
}
