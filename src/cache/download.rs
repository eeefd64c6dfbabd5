//! The upstream's body as a fill reads it: counted, bounded, and resumed where it broke off.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use sha2::{Digest as _, Sha256};

use super::ArchiveRequest;
use crate::{
    entry::Digest,
    origin::{DownloadPlace, FetchError, FetchedBody},
};

/// Delay before the first resumption; it doubles with each resumption.
const FIRST_RESUME_DELAY: Duration = Duration::from_millis(100);
/// Longest delay before a resumption.
const MAX_RESUME_DELAY: Duration = Duration::from_secs(10);

/// One body, from as many upstream responses as it takes.
pub(super) struct Download {
    request: ArchiveRequest,
    max_bytes: u64,
    resumes_left: u32,
    resume_delay: Duration,
    body: BoxStream<'static, Result<Bytes, FetchError>>,
    /// Held until the download is dropped, so that places bound the verifications too.
    place: DownloadPlace,
    /// The announced length.
    pub(super) len: Option<u64>,
    /// True when it was fetched without a token.
    pub(super) anonymous: bool,
    /// Bytes handed out so far.
    pub(super) received: u64,
}

/// Whether a new response continues the body.
enum Reattached {
    Continues,
    Differs,
}

impl Download {
    /// Asks the upstream. At most `max_bytes` are accepted and `resumes` breaks repaired.
    pub(super) async fn open(request: &ArchiveRequest, max_bytes: u64, resumes: u32) -> Result<Self, FetchError> {
        let FetchedBody { len, anonymous, body, place } = fetch(request, max_bytes).await?;
        Ok(Self {
            request: request.clone(),
            max_bytes,
            resumes_left: resumes,
            resume_delay: FIRST_RESUME_DELAY,
            body,
            place,
            len,
            anonymous,
            received: 0,
        })
    }

    /// The next bytes; `None` after the last one of a body of the announced length.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let chunk = match self.body.next().await {
            Some(chunk) => chunk?,
            None if self.len.is_some_and(|len| len != self.received) => {
                return Err(FetchError::Unreachable("the body ended too early"));
            }
            None => return Ok(None),
        };
        self.received += chunk.len() as u64;
        if self.received > self.max_bytes {
            return Err(FetchError::TooLarge { limit: self.max_bytes });
        }
        if self.len.is_some_and(|len| self.received > len) {
            return Err(FetchError::Invalid("more bytes than announced".into()));
        }
        Ok(Some(chunk))
    }

    /// Starts again from the first byte. Only while no byte of the body has been used.
    ///
    /// # Errors
    /// `error` when a new request cannot repair it or no resumption is left.
    pub(super) async fn restart(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.retry(error, None).await
    }

    /// Continues after a break: asks again, skips the bytes received so far and compares them with `prefix_digest`.
    ///
    /// # Errors
    /// `error` when a new request cannot repair it, no resumption is left, or the body now begins otherwise.
    pub(super) async fn resume(&mut self, error: FetchError, prefix_digest: Digest) -> Result<(), FetchError> {
        self.retry(error, Some(prefix_digest)).await
    }

    async fn retry(&mut self, error: FetchError, prefix_digest: Option<Digest>) -> Result<(), FetchError> {
        // A place must not be held while another is waited for.
        self.body = stream::empty().boxed();
        self.place = DownloadPlace::default();
        while is_break(&error) && self.resumes_left > 0 && self.request.origin.may_retry() {
            self.resumes_left -= 1;
            tracing::info!(
                key = %self.request.key, received = self.received, %error,
                left = self.resumes_left, "the body broke off; asking again"
            );
            tokio::time::sleep(self.resume_delay).await;
            self.resume_delay = (self.resume_delay * 2).min(MAX_RESUME_DELAY);
            match self.reattach(prefix_digest).await {
                Ok(Reattached::Continues) => return Ok(()),
                Ok(Reattached::Differs) => {
                    tracing::warn!(key = %self.request.key, "the body differs from its first part");
                    break;
                }
                Err(next) if is_break(&next) => {}
                Err(_) => break,
            }
        }
        Err(error)
    }

    /// Asks again and skips to where the body broke off.
    async fn reattach(&mut self, prefix_digest: Option<Digest>) -> Result<Reattached, FetchError> {
        let fetched = fetch(&self.request, self.max_bytes).await?;
        let Some(prefix_digest) = prefix_digest else {
            self.len = fetched.len;
            self.body = fetched.body;
            self.place = fetched.place;
            self.received = 0;
            self.anonymous = fetched.anonymous;
            return Ok(Reattached::Continues);
        };
        if self.len.is_some() && fetched.len.is_some() && self.len != fetched.len {
            return Ok(Reattached::Differs);
        }
        let mut body = fetched.body;
        let mut hash = Sha256::new();
        let mut left = self.received;
        while left > 0 {
            let Some(mut chunk) = body.next().await.transpose()? else { return Ok(Reattached::Differs) };
            let skipped = chunk.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len()));
            hash.update(&skipped);
            left -= skipped.len() as u64;
            if !chunk.is_empty() {
                body = stream::iter([Ok(chunk)]).chain(body).boxed();
            }
        }
        self.body = body;
        self.place = fetched.place;
        // A body of which a token fetched any part is not known to be public.
        self.anonymous &= fetched.anonymous;
        let same = Digest(hash.finalize().into()) == prefix_digest;
        Ok(if same { Reattached::Continues } else { Reattached::Differs })
    }
}

async fn fetch(request: &ArchiveRequest, max_bytes: u64) -> Result<FetchedBody, FetchError> {
    let fetched = request.origin.fetch(None).await?;
    if fetched.len.is_some_and(|len| len > max_bytes) {
        return Err(FetchError::TooLarge { limit: max_bytes });
    }
    Ok(fetched)
}

/// True for errors of the connection and for a shortage of places, which say nothing about the body. False for a download
/// that is too slow: it would begin again from its first byte.
fn is_break(error: &FetchError) -> bool {
    matches!(error, FetchError::Unreachable(_) | FetchError::Timeout(_) | FetchError::Busy { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        cache::{Asker, Pinning, fakes::FakeVerifier},
        entry::{Document, Key},
        origin::{BoxFuture, Origin},
    };

    /// The first `breaks` bodies break off in their middle. `places` has a clone for each place that is held.
    struct BreakingOrigin {
        breaks: usize,
        fetches: AtomicUsize,
        places: Arc<()>,
    }

    impl Origin for BreakingOrigin {
        type Fetched = FetchedBody;

        fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
            let breaks = self.fetches.fetch_add(1, Ordering::Relaxed) < self.breaks;
            let end = if breaks { Err(FetchError::Unreachable("it broke")) } else { Ok(Bytes::from_static(b" end")) };
            let body = stream::iter([Ok(Bytes::from_static(b"begin")), end]).boxed();
            let place = DownloadPlace::new(self.places.clone());
            Box::pin(std::future::ready(Ok(FetchedBody { len: Some(9), anonymous: true, body, place })))
        }
    }

    async fn broken(breaks: usize) -> (Download, Arc<()>, FetchError) {
        let places = Arc::new(());
        let request = ArchiveRequest {
            key: Key::new("k"),
            origin: Arc::new(BreakingOrigin { breaks, fetches: AtomicUsize::new(0), places: places.clone() }),
            verify: Arc::new(FakeVerifier::default()),
            pinning: Pinning::Pinned,
            negative: Duration::from_secs(30),
            asker: Asker::default(),
        };
        let mut download = Download::open(&request, u64::MAX, 20).await.expect("opens");
        assert_eq!(download.next().await.expect("begins").as_deref(), Some(&b"begin"[..]));
        let error = download.next().await.expect_err("it broke");
        (download, places, error)
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_was_resumed_holds_a_place_until_it_is_dropped() {
        let (mut download, places, error) = broken(1).await;
        download.resume(error, Digest::of(b"begin")).await.expect("continues");
        // One is the test's, one the origin's.
        assert_eq!(Arc::strong_count(&places), 3);
        assert_eq!(download.next().await.expect("continues").as_deref(), Some(&b" end"[..]));
        assert_eq!(download.next().await, Ok(None));
        drop(download);
        assert_eq!(Arc::strong_count(&places), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_between_resumptions_is_bounded() {
        let (mut download, _places, mut error) = broken(20).await;
        let began = tokio::time::Instant::now();
        while let Ok(()) = download.resume(error.clone(), Digest::of(b"begin")).await {
            match download.next().await {
                Err(next) => error = next,
                Ok(chunk) => {
                    assert_eq!(chunk.as_deref(), Some(&b" end"[..]));
                    break;
                }
            }
        }
        assert_eq!(download.received, 9);
        assert!(began.elapsed() < MAX_RESUME_DELAY * 20, "{:?}", began.elapsed());
    }
}
