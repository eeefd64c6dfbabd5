//! Events that may happen once among all mirrors of a bucket: the mirror that creates the object of an event has it.

use bytes::Bytes;

use super::{Bucket, BucketError, object_name::ObjectName, probe::Creation};
use crate::entry::Digest;

/// Largest object of an event, bytes.
const MAX_EVENT_OBJECT_BYTES: usize = 1 << 10;

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
        self.create_once(&ObjectName::nonce(nonce)).await
    }

    async fn create_once(&self, name: &ObjectName) -> Result<Occurrence, BucketError> {
        // Distinguishes an object that this call wrote, and whose answer was lost, from that of another call.
        let own = Bytes::from(Digest::unique().to_string());
        if self.create(name, own.clone()).await? == Creation::New {
            return Ok(Occurrence::First);
        }
        let found = self.get(name, MAX_EVENT_OBJECT_BYTES).await?;
        let is_own = found.is_some_and(|object| object.bytes == own);
        Ok(if is_own { Occurrence::First } else { Occurrence::Repeated })
    }
}
