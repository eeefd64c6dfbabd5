//! Scans over all packages for requests: on blocking threads, a bounded number at once.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::error::ApiError;
use crate::{blocking::spawn_blocking, registry::RegistryError};

/// Most scans at once: more would take the processors from connections and downloads.
const MAX_SCANS: usize = 2;
/// Longest wait of a scan for others to end: a scan over a million packages takes milliseconds.
const SCAN_PATIENCE: Duration = Duration::from_secs(2);

/// Runs scans on the pool for blocking work.
pub(super) struct PackageScans(Arc<Semaphore>);

impl Default for PackageScans {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_SCANS)))
    }
}

impl PackageScans {
    /// Runs a scan once fewer than [`MAX_SCANS`] run. It goes on when the caller leaves.
    ///
    /// # Errors
    /// `Overloaded` when others take too long, `NotCollected` when the scan panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        scan: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = timeout(SCAN_PATIENCE, self.0.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let place = place.ok().and_then(Result::ok).ok_or(ApiError::Overloaded)?;
        let scan = spawn_blocking(move || {
            let found = scan();
            drop(place);
            found
        });
        scan.await.map_err(|_| RegistryError::NotCollected.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_scan_waits_for_others_for_a_bounded_time() {
        let scans = PackageScans::default();
        let places = scans.0.clone().acquire_many_owned(MAX_SCANS as u32).await.expect("open");
        let begun = tokio::time::Instant::now();
        assert!(matches!(scans.run(|| ()).await, Err(ApiError::Overloaded)));
        assert_eq!(begun.elapsed(), SCAN_PATIENCE);
        drop(places);
        assert!(scans.run(|| ()).await.is_ok());
    }

    #[tokio::test]
    async fn scans_leave_the_connections_their_thread_and_wait_for_each_other() {
        let scans = Arc::new(PackageScans::default());
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (ends, running): (Vec<_>, Vec<_>) = (0..=MAX_SCANS)
            .map(|number| {
                let scans = scans.clone();
                let begun = begun.clone();
                let (end, ended) = mpsc::channel();
                let scan = move || {
                    begun.send(number).expect("a receiver");
                    ended.recv().expect("a sender");
                    number
                };
                (end, tokio::spawn(async move { scans.run(scan).await.ok() }))
            })
            .unzip();
        // This test has one thread: it goes on while scans run.
        for _ in 0..MAX_SCANS {
            begins.recv().await.expect("a scan begins");
        }
        assert!(begins.try_recv().is_err() && scans.0.available_permits() == 0);
        for end in ends {
            end.send(()).expect("it runs or waits");
        }
        let mut found = Vec::new();
        for scan in running {
            found.push(scan.await.expect("no panic"));
        }
        assert_eq!(found, (0..=MAX_SCANS).map(Some).collect::<Vec<_>>());
    }
}
