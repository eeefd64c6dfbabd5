//! A download that no client waits for any more: it goes on while it moves, so that the next client finds the archive.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{download::Download, fill_state::FillState, single_flight::FlightGuard};
use crate::origin::FetchError;

/// How long an abandoned download may be slow, and how often that is checked while nothing arrives.
const WINDOW: Duration = Duration::from_secs(15);
/// Least bytes of an abandoned download in each window: 64 KiB per second.
const LEAST_BYTES: u64 = 15 * (64 << 10);

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
            if let Ok(chunk) = timeout(WINDOW, self.download.next()).await {
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
        if window.began.elapsed() < WINDOW {
            return Ok(());
        }
        if received.saturating_sub(window.received) < LEAST_BYTES {
            return Err(FetchError::Abandoned);
        }
        self.window = None;
        Ok(())
    }
}
