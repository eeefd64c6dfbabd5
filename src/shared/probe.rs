//! Whether the bucket arbitrates: of several who create one object, it must accept one.

use bytes::Bytes;
use http::StatusCode;

use super::{
    Arbiter, BucketError, BucketOperation,
    bucket::{Bucket, SmallObject, WriteCondition},
    object_name::ObjectName,
    status::Arbitration,
};
use crate::entry::Digest;

/// How often a write is tried whose outcome is unclear.
const DECISION_ATTEMPTS: usize = 3;

/// The outcome of [`Bucket::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creation {
    /// It was created by this request, or one that this mirror sent before.
    New,
    /// It exists: the bucket accepted another request, perhaps an earlier one of this mirror whose answer was lost.
    Exists,
}

/// The outcome of [`Bucket::replace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replacement {
    /// It was replaced.
    Replaced,
    /// It has changed, or the outcome is unclear: it must be read again.
    Changed,
}

impl Bucket {
    /// Finds out whether the bucket arbitrates: creates a fresh object twice, and deletes it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn probe(&self) -> Result<Arbitration, BucketError> {
        if let Some(known) = self.arbitration.get() {
            return Ok(*known);
        }
        let mut found = Arbitration::Absent;
        for (condition, arbitration) in [
            (WriteCondition::Absent, Arbitration::ByCondition),
            (WriteCondition::AbsentByOwnHeader, Arbitration::ByOwnHeader),
        ] {
            if self.refuses_second(condition).await? {
                found = arbitration;
                break;
            }
        }
        // A concurrent probe has found the same.
        let _ = self.arbitration.set(found);
        Ok(found)
    }

    /// True if the second of two writes under `condition` is refused.
    async fn refuses_second(&self, condition: WriteCondition<'_>) -> Result<bool, BucketError> {
        let name = ObjectName::probe(&Digest::unique().to_string());
        let first = self.put(&name, Bytes::from_static(b"first"), condition).await?;
        if matches!(first, StatusCode::NOT_IMPLEMENTED | StatusCode::BAD_REQUEST) {
            return Ok(false);
        }
        if !first.is_success() {
            return self.note(BucketOperation::Decide, Err(BucketError::Status(first.as_u16())));
        }
        let second = self.put(&name, Bytes::from_static(b"second"), condition).await?;
        self.note(BucketOperation::Decide, Ok(()))?;
        if let Err(error) = self.delete(&name).await {
            tracing::debug!(%error, "the object of the probe stays in the bucket");
        }
        match second {
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Ok(true),
            second if second.is_success() => Ok(false),
            second => Err(BucketError::Status(second.as_u16())),
        }
    }

    /// Creates a small object, unless there is one. Of several requests at once, also of other mirrors, one creates it.
    pub(super) async fn create(&self, name: &ObjectName, bytes: Bytes) -> Result<Creation, BucketError> {
        let condition = match (self.probe().await?, self.arbiter) {
            (Arbitration::ByCondition, _) => WriteCondition::Absent,
            (Arbitration::ByOwnHeader, _) => WriteCondition::AbsentByOwnHeader,
            (Arbitration::Absent, Arbiter::Owner) => {
                if self.len(name).await?.is_some() {
                    return Ok(Creation::Exists);
                }
                WriteCondition::None
            }
            (Arbitration::Absent, Arbiter::Bucket) => return Err(BucketError::NotArbitrating),
        };
        let mut last = BucketError::Unreachable;
        for _ in 0..DECISION_ATTEMPTS {
            match self.put(name, bytes.clone(), condition).await {
                Ok(status) if status.is_success() => {
                    return self.note(BucketOperation::Decide, Ok(Creation::New));
                }
                // A lost race is also answered 409 or 500: whether the object exists says what it was.
                Ok(status)
                    if status == StatusCode::PRECONDITION_FAILED
                        || status == StatusCode::CONFLICT
                        || status.is_server_error() =>
                {
                    if self.len(name).await?.is_some() {
                        return self.note(BucketOperation::Decide, Ok(Creation::Exists));
                    }
                    last = BucketError::Status(status.as_u16());
                }
                Ok(status) => {
                    return self.note(BucketOperation::Decide, Err(BucketError::Status(status.as_u16())));
                }
                // It may have been written: the next attempt is refused then.
                Err(error @ BucketError::Unreachable) => last = error,
                Err(error) => return Err(error),
            }
        }
        self.note(BucketOperation::Decide, Err(last))
    }

    /// Replaces a small object that was read, unless it has changed since.
    pub(super) async fn replace(
        &self,
        name: &ObjectName,
        bytes: Bytes,
        old: &SmallObject,
    ) -> Result<Replacement, BucketError> {
        let condition = old.etag.as_deref().map_or(WriteCondition::None, WriteCondition::Unchanged);
        let status = self.put(name, bytes, condition).await?;
        match status {
            status if status.is_success() => self.note(BucketOperation::Decide, Ok(Replacement::Replaced)),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT | StatusCode::NOT_FOUND => {
                self.note(BucketOperation::Decide, Ok(Replacement::Changed))
            }
            status if status.is_server_error() => Ok(Replacement::Changed),
            status => self.note(BucketOperation::Decide, Err(BucketError::Status(status.as_u16()))),
        }
    }
}
