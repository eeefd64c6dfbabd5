//! The upstream's body as a fill reads it: counted, bounded, and taken up again where it broke off.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use sha2::{Digest as _, Sha256};

use super::ArchiveAsk;
use crate::{
    entry::Digest,
    origin::{FetchError, FetchedBody},
};

/// Wait before the first resumption; doubles each time.
const BACKOFF: Duration = Duration::from_millis(100);

/// One body, over as many upstream answers as it takes.
pub(super) struct Download {
    ask: ArchiveAsk,
    limit: u64,
    resumes_left: u32,
    backoff: Duration,
    body: BoxStream<'static, Result<Bytes, FetchError>>,
    /// The announced length.
    pub(super) len: Option<u64>,
    /// True when it came without a token.
    pub(super) anonymous: bool,
    /// Bytes handed out so far.
    pub(super) received: u64,
}

impl Download {
    /// Asks the upstream; at most `limit` bytes are accepted and `resumes` breaks mended.
    pub(super) async fn open(ask: &ArchiveAsk, limit: u64, resumes: u32) -> Result<Self, FetchError> {
        let FetchedBody { len, anonymous, body } = fetch(ask, limit).await?;
        let ask = ask.clone();
        Ok(Self { ask, limit, resumes_left: resumes, backoff: BACKOFF, body, len, anonymous, received: 0 })
    }

    /// Holds the body to a length that somebody has been told already.
    ///
    /// # Errors
    /// When it announces another one.
    pub(super) fn expect_len(&mut self, told: Option<u64>) -> Result<(), FetchError> {
        if self.len.is_some() && told.is_some() && self.len != told {
            return Err(FetchError::Invalid("the body differs from its first part".into()));
        }
        self.len = self.len.or(told);
        Ok(())
    }

    /// The next bytes; `None` after the last of a body of the announced length.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let chunk = match self.body.next().await {
            Some(chunk) => chunk?,
            None if self.len.is_some_and(|len| len != self.received) => {
                return Err(FetchError::Unreachable("the body ended too early"));
            }
            None => return Ok(None),
        };
        self.received += chunk.len() as u64;
        if self.received > self.limit {
            return Err(FetchError::TooLarge { limit: self.limit });
        }
        if self.len.is_some_and(|len| self.received > len) {
            return Err(FetchError::Invalid("more bytes than announced".into()));
        }
        Ok(Some(chunk))
    }

    /// Begins again from the first byte. Only for a body of which nothing has been used yet.
    ///
    /// # Errors
    /// `error` when it cannot be mended by asking again or has been too often.
    pub(super) async fn restart(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.again(error, None).await
    }

    /// Goes on after a break: asks again, skips what is already there and makes sure that it is the same.
    ///
    /// # Errors
    /// `error` when it cannot be mended by asking again, has been too often, or what comes now is something else.
    pub(super) async fn resume(&mut self, error: FetchError, so_far: Digest) -> Result<(), FetchError> {
        self.again(error, Some(so_far)).await
    }

    async fn again(&mut self, error: FetchError, so_far: Option<Digest>) -> Result<(), FetchError> {
        while is_break(&error) && self.resumes_left > 0 {
            self.resumes_left -= 1;
            tracing::info!(
                key = %self.ask.key, received = self.received, %error,
                left = self.resumes_left, "the body broke off; asking again"
            );
            tokio::time::sleep(self.backoff).await;
            self.backoff *= 2;
            match self.reattach(so_far).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    tracing::warn!(key = %self.ask.key, "the body differs from its first part");
                    break;
                }
                Err(next) if is_break(&next) => {}
                Err(_) => break,
            }
        }
        Err(error)
    }

    /// Asks again and skips to where the body broke off; false when what is skipped is not what came before.
    async fn reattach(&mut self, so_far: Option<Digest>) -> Result<bool, FetchError> {
        let fetched = fetch(&self.ask, self.limit).await?;
        let Some(so_far) = so_far else {
            (self.len, self.body, self.received) = (fetched.len, fetched.body, 0);
            self.anonymous = fetched.anonymous;
            return Ok(true);
        };
        if self.len.is_some() && fetched.len.is_some() && self.len != fetched.len {
            return Ok(false);
        }
        let mut body = fetched.body;
        let mut hash = Sha256::new();
        let mut left = self.received;
        while left > 0 {
            let Some(mut chunk) = body.next().await.transpose()? else { return Ok(false) };
            let skipped = chunk.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len()));
            hash.update(&skipped);
            left -= skipped.len() as u64;
            if !chunk.is_empty() {
                body = stream::iter([Ok(chunk)]).chain(body).boxed();
            }
        }
        self.body = body;
        // What a token helped to fetch is not known to be public.
        self.anonymous &= fetched.anonymous;
        Ok(Digest(hash.finalize().into()) == so_far)
    }
}

async fn fetch(ask: &ArchiveAsk, limit: u64) -> Result<FetchedBody, FetchError> {
    let fetched = ask.origin.fetch(None).await?;
    if fetched.len.is_some_and(|len| len > limit) {
        return Err(FetchError::TooLarge { limit });
    }
    Ok(fetched)
}

/// True for errors that say nothing about the body itself: the connection's fault, not the content's.
fn is_break(error: &FetchError) -> bool {
    matches!(error, FetchError::Unreachable(_) | FetchError::Timeout(_))
}
