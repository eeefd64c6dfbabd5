//! Requests that files are read again while the program runs.

use std::{future::pending, sync::Arc};

use tokio::sync::watch;

/// Requests that certificates and credentials are read again from their files, as SIGHUP does. Clones belong to the same
/// mirror.
#[derive(Clone, Debug, Default)]
pub struct ReloadHandle(Arc<watch::Sender<u64>>);

/// The requests made through a [`ReloadHandle`], for one reader of files.
#[derive(Debug)]
pub struct ReloadRequests(watch::Receiver<u64>);

impl ReloadHandle {
    /// Requests a reload and returns at once; the result is logged. Open connections keep their certificate.
    pub fn request(&self) {
        self.0.send_modify(|requests| *requests = requests.wrapping_add(1));
    }

    /// All requests, those made before this call included: as one.
    pub fn requests(&self) -> ReloadRequests {
        let mut receiver = self.0.subscribe();
        if *receiver.borrow() > 0 {
            receiver.mark_changed();
        }
        ReloadRequests(receiver)
    }
}

impl ReloadRequests {
    /// Waits for the next request. Those made since the last one count as one.
    pub async fn next(&mut self) {
        // Without a handle there is no further request.
        if self.0.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reader_of_files_sees_each_request_and_also_one_made_before_it_began() {
        let handle = ReloadHandle::default();
        let mut early = handle.requests();
        handle.request();
        handle.request();
        let mut late = handle.requests();
        early.next().await;
        late.next().await;
        let nothing = tokio::time::timeout(std::time::Duration::ZERO, early.next()).await;
        assert!(nothing.is_err(), "two requests count as one");
    }
}
