//! HTTP requests whose answers are bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response, redirect::Policy};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use crate::value::ByteSize;

/// Longest time for a connection.
pub(in crate::cli) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The mirror cannot be reached, or stopped answering (`EX_UNAVAILABLE`).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct Unavailable(pub(in crate::cli) String);

/// An answer that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum AnswerError {
    /// It is larger than expected.
    #[error("the mirror's answer is larger than {0}")]
    TooLarge(ByteSize),
    /// It is not the JSON that was expected.
    #[error("the mirror's answer is malformed")]
    Malformed(#[source] serde_json::Error),
}

/// A client that uses no proxy, follows no redirect, and trusts these certificate authorities: none for plain HTTP, which
/// then works on a system that has none.
pub(in crate::cli) fn client_builder(trusted: &[Certificate]) -> ClientBuilder {
    let builder = Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT);
    builder.tls_certs_only(trusted.iter().cloned())
}

/// Sends a request; the head of its answer must arrive within `limit`.
///
/// # Errors
/// [`Unavailable`].
pub(in crate::cli) async fn send(request: RequestBuilder, limit: Duration) -> anyhow::Result<Response> {
    match timeout(limit, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(unreachable(error).into()),
        Err(_) => Err(silent(limit).into()),
    }
}

/// Reads the next bytes of a body, which must arrive within `limit`; `None` at its end.
///
/// # Errors
/// [`Unavailable`].
pub(in crate::cli) async fn read_chunk(response: &mut Response, limit: Duration) -> anyhow::Result<Option<Bytes>> {
    match timeout(limit, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(unreachable(error).into()),
        Err(_) => Err(silent(limit).into()),
    }
}

/// The least average rate of a body: one that arrives more slowly would not end in any useful time.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct MinAverageRate {
    started: Instant,
    received: u64,
}

impl MinAverageRate {
    /// Bytes per second that a body must reach on average.
    const BYTES_PER_SECOND: u64 = 10 << 10;
    /// Time before the average counts: the mirror may resume a broken download, and verifies a zip before it sends its
    /// last bytes.
    const GRACE: Duration = Duration::from_secs(600);

    /// Begins with a body that begins now.
    pub(in crate::cli) fn new() -> Self {
        Self { started: Instant::now(), received: 0 }
    }

    /// Counts received bytes.
    ///
    /// # Errors
    /// [`Unavailable`] when all of them took too long.
    pub(in crate::cli) fn count(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.received = self.received.saturating_add(bytes as u64);
        let elapsed = self.started.elapsed();
        let due = elapsed.saturating_sub(Self::GRACE).as_secs().saturating_mul(Self::BYTES_PER_SECOND);
        if self.received < due {
            let seconds = elapsed.as_secs();
            let text = format!("the mirror is too slow: {} in {seconds} s", ByteSize(self.received));
            return Err(Unavailable(text).into());
        }
        Ok(())
    }
}

/// Reads a whole body of at most `max_bytes`. `limit` is the longest time between two parts of it; [`MinAverageRate`] is the
/// least rate of all of it.
///
/// # Errors
/// [`Unavailable`] or [`AnswerError::TooLarge`].
pub(in crate::cli) async fn read_body(
    response: &mut Response,
    max_bytes: usize,
    limit: Duration,
) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut rate = MinAverageRate::new();
    while let Some(chunk) = read_chunk(response, limit).await? {
        rate.count(chunk.len())?;
        body.extend_from_slice(&chunk);
        if body.len() > max_bytes {
            return Err(AnswerError::TooLarge(ByteSize(max_bytes as u64)).into());
        }
    }
    Ok(body)
}

/// Reads a JSON value.
///
/// # Errors
/// [`AnswerError::Malformed`].
pub(in crate::cli) fn parse_json<T: DeserializeOwned>(text: &[u8]) -> anyhow::Result<T> {
    Ok(serde_json::from_slice(text).map_err(AnswerError::Malformed)?)
}

fn unreachable(error: reqwest::Error) -> Unavailable {
    Unavailable(format!("the mirror cannot be reached: {}", error.without_url()))
}

fn silent(limit: Duration) -> Unavailable {
    Unavailable(format!("the mirror sent nothing for {} s", limit.as_secs()))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with this text and then says nothing more.
    async fn stalled(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
            socket.write_all(answer.as_bytes()).await.expect("written");
            std::future::pending::<()>().await;
        });
        url
    }

    fn get(url: &str) -> RequestBuilder {
        client_builder(&[]).build().expect("a client").get(url)
    }

    const SHORT: Duration = Duration::from_millis(200);
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n12345";

    #[tokio::test]
    async fn a_mirror_that_sends_no_head_is_unavailable() {
        let error = send(get(&stalled("").await), SHORT).await.expect_err("no answer");
        assert!(error.is::<Unavailable>(), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_unavailable() {
        let mut response = send(get(&stalled(HEAD).await), CONNECT_TIMEOUT).await.expect("a head");
        let error = read_body(&mut response, 100, SHORT).await.expect_err("95 bytes are missing");
        assert!(error.is::<Unavailable>(), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_unavailable() {
        let mut rate = MinAverageRate::new();
        tokio::time::advance(Duration::from_secs(600)).await;
        rate.count(1).expect("the first minutes are free");
        tokio::time::advance(Duration::from_secs(100)).await;
        rate.count(1 << 20).expect("10 KiB/s after them");
        tokio::time::advance(Duration::from_secs(100)).await;
        let error = rate.count(1).expect_err("no longer 10 KiB/s");
        assert!(error.is::<Unavailable>(), "{error}");
    }

    #[tokio::test]
    async fn a_body_above_its_limit_is_refused_before_its_end() {
        let mut response = send(get(&stalled(HEAD).await), CONNECT_TIMEOUT).await.expect("a head");
        let error = read_body(&mut response, 4, CONNECT_TIMEOUT).await.expect_err("5 bytes came");
        assert!(matches!(error.downcast_ref(), Some(AnswerError::TooLarge(ByteSize(4)))), "{error}");
    }
}
