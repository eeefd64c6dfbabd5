//! Work over all packages for a request: beside the connections, and little of it at once.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::error::ApiError;
use crate::registry::RegistryError;

/// Most scans at once: more of them would take the processors from connections and downloads.
const MAX_SCANS: usize = 2;

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
    /// When the scan panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        scan: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        // The semaphore is never closed.
        let place = self.0.clone().acquire_owned().await.ok();
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
