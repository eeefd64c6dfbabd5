//! Documents in the bucket: hints that spare requests to upstreams, and the last known state while these fail.
//!
//! A document is replaced by comparison, and only by one that an upstream confirmed later. A lost race, or a lost
//! bucket, costs one more request to the upstream.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Bucket, BucketError,
    bucket::SmallObject,
    json::{parse, to_json},
    object_name::ObjectName,
};
use crate::entry::{Digest, Document, DocumentMeta, ExportedDocument, Key};

/// Documents that several mirrors share.
pub struct SharedDocuments {
    bucket: Arc<Bucket>,
    /// Largest document, bytes.
    max_bytes: usize,
}

/// A document in the bucket.
#[derive(Debug, Serialize, Deserialize)]
struct StoredDocument {
    /// Grows with every replacement: equal bodies are different objects.
    generation: u64,
    document: ExportedDocument,
}

/// What the bucket had under a document's key, for the write that follows.
pub struct BucketDocument {
    /// The document; its body has the digest of its meta.
    pub document: Option<Document>,
    /// The object that was read, and its generation.
    object: Option<(SmallObject, u64)>,
}

impl SharedDocuments {
    /// The documents in a bucket.
    pub fn new(bucket: Arc<Bucket>, max_bytes: usize) -> Self {
        // The body is a JSON text within a JSON text.
        Self { bucket, max_bytes: max_bytes.saturating_mul(2) }
    }

    /// Reads a document. Dates in the future become `now`: another mirror's clock may be fast.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn find(&self, key: &Key, now: Timestamp) -> Result<BucketDocument, BucketError> {
        let found = self.bucket.get(&ObjectName::document(key), self.max_bytes).await?;
        let Some(object) = found else { return Ok(BucketDocument { document: None, object: None }) };
        // A damaged document is replaced by the next one.
        let Ok(stored) = parse::<StoredDocument>(&object.bytes, |stored| &stored.document.key, key) else {
            return Ok(BucketDocument { document: None, object: Some((object, 0)) });
        };
        let ExportedDocument { meta, body, .. } = stored.document;
        let intact = Digest::of(body.as_bytes()) == meta.digest;
        let meta =
            DocumentMeta { validated_at: meta.validated_at.min(now), changed_at: meta.changed_at.min(now), ..meta };
        let document = intact.then(|| Document { meta: Arc::new(meta), body: body.into() });
        Ok(BucketDocument { document, object: Some((object, stored.generation)) })
    }

    /// Deletes a document.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn remove(&self, key: &Key) -> Result<(), BucketError> {
        self.bucket.delete(&ObjectName::document(key)).await
    }

    /// Deletes a document that was written at this time at the latest, by the clock that says `now`. Returns its meta
    /// where it was deleted and could be read.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn remove_until(
        &self,
        key: &Key,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Arc<DocumentMeta>>, BucketError> {
        let document = match self.find(key, now).await {
            Ok(BucketDocument { object: None, .. }) => return Ok(None),
            Ok(BucketDocument { object: Some((object, _)), .. })
                if object.written_after(now).is_some_and(|written| written > until) =>
            {
                return Ok(None);
            }
            Ok(found) => found.document,
            // It is too large to be read.
            Err(BucketError::Damaged) => None,
            Err(error) => return Err(error),
        };
        self.remove(key).await?;
        Ok(document.map(|document| document.meta))
    }

    /// Writes a document in place of what was found, unless another mirror has written one since.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn put(&self, key: &Key, document: &Document, found: BucketDocument) -> Result<(), BucketError> {
        // Normalised JSON is UTF-8.
        let Ok(body) = String::from_utf8(document.body.to_vec()) else { return Ok(()) };
        let exported = ExportedDocument { key: key.clone(), meta: (*document.meta).clone(), body };
        let generation = found.object.as_ref().map_or(0, |(_, generation)| generation.saturating_add(1));
        let bytes = to_json(&StoredDocument { generation, document: exported })?;
        if bytes.len() > self.max_bytes {
            return Ok(());
        }
        let name = ObjectName::document(key);
        match found.object {
            None => self.bucket.create(&name, bytes).await.map(drop),
            Some((object, _)) => self.bucket.replace(&name, bytes, &object).await.map(drop),
        }
    }
}
