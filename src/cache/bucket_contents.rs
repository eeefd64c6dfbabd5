//! Reads the content of the bucket, page by page, for a bundle. Each request is repeated for some seconds while the bucket
//! fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::BucketTier;
use crate::{
    entry::{Document, ExportedArchive, Key, Pin},
    origin::{FetchError, FetchedBody},
    shared::{BucketError, KeyFolder, KeyPage, ListedKey, with_patience},
};

/// A zip that is read from the bucket. It is not verified.
pub struct ClaimedZip {
    /// Its length by its claim, bytes.
    pub len: u64,
    /// Its bytes.
    pub body: BoxStream<'static, Result<Bytes, FetchError>>,
}

/// Reads from a bucket; repeats each request for some seconds while the bucket fails.
pub struct BucketReader(Arc<BucketTier>);

impl BucketReader {
    /// A reader of the bucket of this tier.
    pub fn new(bucket: Arc<BucketTier>) -> Self {
        Self(bucket)
    }

    /// The keys of a folder after an object, at most 1,000.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn keys_after(&self, folder: KeyFolder, after: Option<&str>) -> Result<KeyPage, BucketError> {
        with_patience(|| self.0.bucket().keys_after(folder, after)).await
    }

    /// The description of a zip that the bucket has a claim for; `None` where it was forgotten since it was listed.
    ///
    /// # Errors
    /// When the bucket cannot be asked; `Damaged` where the object is no claim, or that of another key.
    pub async fn claimed(&self, listed: &ListedKey) -> Result<Option<ExportedArchive>, BucketError> {
        let claim = with_patience(|| self.0.archives.listed(listed)).await?;
        Ok(claim.map(|claim| ExportedArchive { key: claim.key, first_seen: claim.first_seen, meta: claim.meta }))
    }

    /// Opens the zip of a key; `None` where the bucket has no claim for it, or lacks the bytes of the claim.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn open_claimed(&self, key: &Key) -> Result<Option<ClaimedZip>, BucketError> {
        let opened = with_patience(|| async {
            let Some(claim) = self.0.archives.find(key).await? else { return Ok(None) };
            self.0.archives.open(&claim).await.map(|body| Some((claim.meta.len, body)))
        });
        match opened.await {
            Ok(opened) => Ok(opened.map(|(len, FetchedBody { body, .. })| ClaimedZip { len, body })),
            Err(BucketError::Damaged) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A document of the bucket, at any age.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn stored_document(&self, key: &Key) -> Result<Option<Document>, BucketError> {
        let found = with_patience(|| self.0.documents.find(key, self.0.clock.now())).await?;
        Ok(found.document)
    }

    /// What is pinned in the bucket.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn pinned(&self, key: &Key) -> Result<Option<Pin>, BucketError> {
        with_patience(|| self.0.archives.pinned(key)).await
    }
}
