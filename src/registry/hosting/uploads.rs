//! The versions that are being uploaded: one upload of each at a time.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::publishing_error::PublishingError;

/// Most uploads at once.
const MAX_UPLOADS: usize = 32;
/// Longest wait for the end of another upload of the same version.
pub(super) const MAX_WAIT_FOR_UPLOAD: Duration = Duration::from_secs(10);

/// The versions that are being uploaded.
#[derive(Clone, Default)]
pub(super) struct Uploads(Arc<UploadTable>);

#[derive(Default)]
struct UploadTable {
    running: Mutex<HashSet<String>>,
    /// Notified when one of them ends.
    ended: Notify,
}

impl Uploads {
    /// Takes the place of a version. Waits while another upload of it is under way, so that the publisher gets the outcome of
    /// that one: the version is published, or may be.
    ///
    /// # Errors
    /// `BeingPublished` when it takes longer than [`MAX_WAIT_FOR_UPLOAD`]; `TooManyUploads`.
    pub(super) async fn acquire(&self, key: &str) -> Result<UploadPlace, PublishingError> {
        let deadline = Instant::now() + MAX_WAIT_FOR_UPLOAD;
        loop {
            let mut ended = pin!(self.0.ended.notified());
            // Before the table is read: an upload that ends afterwards is not missed.
            ended.as_mut().enable();
            match self.try_acquire(key) {
                Err(PublishingError::BeingPublished) => {}
                place => return place,
            }
            timeout_at(deadline, ended).await.map_err(|_| PublishingError::BeingPublished)?;
        }
    }

    fn try_acquire(&self, key: &str) -> Result<UploadPlace, PublishingError> {
        let mut running = self.0.running.lock();
        if running.contains(key) {
            return Err(PublishingError::BeingPublished);
        }
        if running.len() >= MAX_UPLOADS {
            return Err(PublishingError::TooManyUploads);
        }
        running.insert(key.to_owned());
        Ok(UploadPlace { uploads: self.clone(), key: key.to_owned() })
    }
}

/// The right to upload a version, the only one at its time.
pub(super) struct UploadPlace {
    uploads: Uploads,
    key: String,
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        self.uploads.0.running.lock().remove(&self.key);
        self.uploads.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_waits_for_another_one_of_its_version_at_most_ten_seconds() {
        let uploads = Uploads::default();
        let first = uploads.acquire("acme-x/1.0.0").await.expect("free");
        let other = uploads.acquire("acme-x/1.0.1").await;
        assert!(other.is_ok(), "another version does not wait");
        let began = Instant::now();
        let refused = uploads.acquire("acme-x/1.0.0").await;
        assert!(matches!(refused, Err(PublishingError::BeingPublished)));
        assert_eq!(began.elapsed(), MAX_WAIT_FOR_UPLOAD);
        let (second, ()) = tokio::join!(uploads.acquire("acme-x/1.0.0"), async { drop(first) });
        assert!(second.is_ok(), "free again");
        assert_eq!(began.elapsed(), MAX_WAIT_FOR_UPLOAD, "at once");
    }
}
