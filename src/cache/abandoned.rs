//! A download that no client waits for any more: it goes on while it moves, so that the next client finds the archive.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{download::Download, fill_state::FillState, single_flight::FlightGuard};
use crate::origin::FetchError;

/// How long an abandoned download may be slow, and how often that is checked while nothing arrives.
const ABANDONED_WINDOW: Duration = Duration::from_secs(15);
/// Fewest bytes of an abandoned download in each window: 64 KiB per second.
const MIN_ABANDONED_BYTES: u64 = 15 * (64 << 10);

/// The download of a fill, which ends early when it is abandoned and slow.
pub(super) struct WatchedDownload<'a> {
    pub(super) download: Download,
    guard: &'a FlightGuard<FillState>,
    window: Option<Window>,
}

/// A time without clients.
struct Window {
    began: Instant,
    /// Bytes that had arrived then.
    received: u64,
}

impl<'a> WatchedDownload<'a> {
    pub(super) fn new(download: Download, guard: &'a FlightGuard<FillState>) -> Self {
        Self { download, guard, window: None }
    }

    /// As [`Download::next`].
    ///
    /// # Errors
    /// As [`Download::next`], and [`FetchError::Abandoned`] when no client waited for a whole window in which hardly
    /// anything arrived.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            self.check()?;
            // Dropping a `next` that has not returned loses no bytes.
            if let Ok(chunk) = timeout(ABANDONED_WINDOW, self.download.next()).await {
                return chunk;
            }
        }
    }

    fn check(&mut self) -> Result<(), FetchError> {
        if self.guard.waiting() > 0 {
            self.window = None;
            return Ok(());
        }
        let received = self.download.received;
        let window = self.window.get_or_insert_with(|| Window { began: Instant::now(), received });
        if window.began.elapsed() < ABANDONED_WINDOW {
            return Ok(());
        }
        if received.saturating_sub(window.received) < MIN_ABANDONED_BYTES {
            return Err(FetchError::Abandoned);
        }
        self.window = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{StreamExt as _, stream};

    use super::*;
    use crate::{
        cache::{
            ArchiveRequest, Asker, Pinning,
            fakes::FakeVerifier,
            single_flight::{JoinedFlight, SingleFlight},
        },
        entry::{Document, Key},
        origin::{BoxFuture, DownloadPlace, FetchedBody, Origin},
    };

    /// Sends `bytes` each second, without end.
    struct Dripping {
        bytes: usize,
    }

    impl Origin for Dripping {
        type Fetched = FetchedBody;

        fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
            let chunk = Bytes::from(vec![0; self.bytes]);
            let body = stream::unfold(chunk, |chunk| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok(chunk.clone()), chunk))
            });
            let fetched =
                FetchedBody { len: None, anonymous: true, body: body.boxed(), place: DownloadPlace::default() };
            Box::pin(std::future::ready(Ok(fetched)))
        }
    }

    async fn download(bytes: usize) -> Download {
        let request = ArchiveRequest {
            key: Key::new("k"),
            origin: Arc::new(Dripping { bytes }),
            verify: Arc::new(FakeVerifier::default()),
            pinning: Pinning::Pinned,
            negative: Duration::from_secs(30),
            asker: Asker::default(),
        };
        Download::open(&request, u64::MAX, 0).await.expect("opens")
    }

    #[tokio::test(start_paused = true)]
    async fn thirty_dripping_downloads_without_clients_are_gone_within_a_minute() {
        let flights = SingleFlight::<FillState>::default();
        for n in 0..30 {
            let mut guard = None;
            drop(flights.join(&Key::new(format!("k{n}")), |started| guard = Some(started)));
            let guard = guard.expect("started");
            let started = Instant::now();
            let mut watched = WatchedDownload::new(download(100).await, &guard);
            let error = loop {
                if let Err(error) = watched.next().await {
                    break error;
                }
            };
            assert_eq!(error, FetchError::Abandoned);
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_moves_or_has_a_client_goes_on() {
        let flights = SingleFlight::<FillState>::default();
        for (bytes, has_client) in [(64 << 10, false), (1, true)] {
            let mut guard = None;
            let JoinedFlight { flight, .. } = flights.join(&Key::new("k"), |started| guard = Some(started));
            let client = has_client.then_some(flight);
            let guard = guard.expect("started");
            let mut watched = WatchedDownload::new(download(bytes).await, &guard);
            for _ in 0..300 {
                assert!(watched.next().await.is_ok(), "{bytes} bytes per second");
            }
            drop(client);
        }
    }
}
