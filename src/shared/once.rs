//! What may happen once among all mirrors of a bucket: the first that creates its mark does it.

use bytes::Bytes;

use super::{Bucket, BucketError, object_name::ObjectName, probe::Creation};
use crate::entry::Digest;

/// Largest mark, bytes.
const MAX_MARK_BYTES: usize = 1 << 10;

/// Whether this is the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// It is.
    First,
    /// It has happened before, here or on another mirror.
    Repeated,
}

impl Bucket {
    /// Marks the nonce of a signed request as used.
    ///
    /// # Errors
    /// When the bucket cannot decide; the nonce may be used up then.
    pub async fn spend_nonce(&self, nonce: &Digest) -> Result<Occurrence, BucketError> {
        self.mark(&ObjectName::nonce(nonce)).await
    }

    async fn mark(&self, name: &ObjectName) -> Result<Occurrence, BucketError> {
        // Tells a mark of this call, whose answer was lost, from that of another one.
        let own = Bytes::from(Digest::unique().to_string());
        if self.create(name, own.clone()).await? == Creation::New {
            return Ok(Occurrence::First);
        }
        let found = self.get(name, MAX_MARK_BYTES).await?;
        let is_own = found.is_some_and(|object| object.bytes == own);
        Ok(if is_own { Occurrence::First } else { Occurrence::Repeated })
    }
}
