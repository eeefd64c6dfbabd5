//! Removal of documents, in the bucket too.

use std::io;

use jiff::Timestamp;

use crate::{
    blocking::spawn_blocking,
    cache::{Cache, RemovedDocument},
    entry::Key,
};

/// Most documents that were left in the bucket and are removed in one step.
const LEFT_DOCUMENTS_STEP: usize = 500;
/// Documents that are removed from the bucket at the same time ...
const CONCURRENT_REMOVED_DOCUMENTS: usize = 16;
/// ... and of those that were left there: fewer than the failures in a row after which no request is sent to the bucket.
const CONCURRENT_LEFT_DOCUMENTS: usize = 2;

/// Removes documents here and in the bucket.
pub(crate) struct DocumentRemoval<'a> {
    cache: &'a Cache,
}

impl<'a> DocumentRemoval<'a> {
    pub(super) fn new(cache: &'a Cache) -> Self {
        Self { cache }
    }

    /// Removes documents, in the bucket too, at once or when it can be used: the next request of each fetches it in full.
    ///
    /// # Errors
    /// The first one, when a document cannot be removed from disk; the others are removed all the same.
    pub(crate) async fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        if let Some((bucket, removals)) = self.cache.bucket().zip(self.cache.removals().cloned())
            // The bucket first: otherwise a request in between would take the document from there again.
            && let Err(error) = bucket.remove_documents(keys).await
        {
            tracing::warn!(%error, "lists that were removed are removed from the bucket later");
            let at = self.cache.clock().now();
            let left: Vec<_> = keys.iter().map(|key| RemovedDocument { key: key.clone(), at }).collect();
            spawn_blocking(move || removals.leave_documents(&left)).await??;
        }
        self.cache.document_tiers().remove_all(keys).await
    }

    /// Removes documents that were removed on another mirror at this time, in the bucket too, at once or when it can be used.
    /// Those that were fetched, confirmed or imported later stay.
    ///
    /// # Errors
    /// As [`DocumentRemoval::remove_all`].
    pub(super) async fn remove_until(&self, keys: Vec<Key>, at: Timestamp) -> io::Result<()> {
        let documents: Vec<_> = keys.into_iter().map(|key| RemovedDocument { key, at }).collect();
        if let Some((bucket, removals)) = self.cache.bucket().zip(self.cache.removals().cloned()) {
            let removed = bucket.remove_documents_until(&documents, CONCURRENT_REMOVED_DOCUMENTS).await;
            self.cache.document_tiers().remove_same(&removed.found).await?;
            if let Some(error) = removed.error {
                tracing::warn!(%error, "lists that were removed are removed from the bucket later");
                let documents = documents.clone();
                spawn_blocking(move || removals.leave_documents(&documents)).await??;
            }
        }
        self.cache.document_tiers().remove_until(&documents).await
    }

    /// Removes the documents that could not be removed from the bucket, and what a request has taken from it since. Those that
    /// were written there later stay.
    ///
    /// # Errors
    /// When the bucket does not remove one, or the disk cannot be written: those that are left are tried again by the next call,
    /// those after that one first.
    pub(crate) async fn remove_left(&self) -> io::Result<()> {
        let Some((bucket, removals)) = self.cache.bucket().zip(self.cache.removals().cloned()) else { return Ok(()) };
        loop {
            let documents = removals.left_documents(LEFT_DOCUMENTS_STEP);
            if documents.is_empty() {
                return Ok(());
            }
            let removed = bucket.remove_documents_until(&documents, CONCURRENT_LEFT_DOCUMENTS).await;
            self.cache.document_tiers().remove_same(&removed.found).await?;
            if let Some(key) = removed.last_refused {
                removals.set_refused(key);
            }
            let removals = removals.clone();
            spawn_blocking(move || removals.remove_left_documents(&removed.done)).await??;
            if let Some(error) = removed.error {
                return Err(io::Error::other(error));
            }
        }
    }
}
