//! Marks of zips that may be deleted, so that a deletion, which knows no condition, never meets a claim.
//!
//! A zip that no claim names gets a mark, the object `gc/{digest}`. It has a generation: names of the bytes with this
//! generation or an earlier one are never claimed again. A mirror that is about to claim bytes reads the mark first,
//! and stores the bytes under a later name if there is one. So only a mirror that read before the mark was written can
//! still claim a marked name: it writes its claim within [`MAX_CLAIM_AGE`], or reads the mark again. A zip is deleted
//! when its mark is older than the grace, at least [`MIN_GRACE`], and no claim that was read after that time names it.
//!
//! The same holds for published zips, whose records are their claims, and whose marks are `gc/hosted/{digest}`.
//!
//! Marks stay: a deletion may arrive late, so a name that was deleted is never used again.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Bucket, BucketError,
    blob_name::{BlobFolder, BlobName},
    bucket::SmallObject,
    json::to_json,
    probe::{Creation, Replacement},
};
use crate::{
    clock::{Clock, ClockReading},
    entry::Digest,
};

/// The longest time between the read of a mark and the claim.
const MAX_CLAIM_AGE: Duration = Duration::from_secs(30 * 60);
/// The shortest time between a mark and the deletion: twice as long, so that a request that was sent in time has also
/// arrived or failed.
pub const MIN_GRACE: Duration = Duration::from_secs(60 * 60);
/// Largest mark, bytes.
const MAX_BLOB_MARK_BYTES: usize = 4 << 10;
/// How often the write of a mark is tried while others change it.
const MARK_ATTEMPTS: usize = 3;

/// The content of a mark.
#[derive(Debug, Serialize, Deserialize)]
struct BlobMark {
    digest: Digest,
    /// Names of this generation and of earlier ones are never claimed again.
    generation: u32,
}

/// A mark that was read.
#[derive(Debug)]
pub(super) struct StoredMark {
    pub(super) generation: u32,
    /// When it was written, by the service's clock.
    pub(super) marked_at: Option<Timestamp>,
    object: SmallObject,
}

/// True when a mark was read so long ago that it must be read again before a claim.
pub(super) fn is_mark_outdated(clock: &Clock, looked_at: &ClockReading) -> bool {
    clock.age(looked_at) > MAX_CLAIM_AGE
}

/// The name under which bytes may be stored and claimed.
pub(super) async fn unmarked_name(
    bucket: &Bucket,
    folder: BlobFolder,
    digest: &Digest,
) -> Result<BlobName, BucketError> {
    let mark = read_mark(bucket, folder, digest).await?;
    let generation = mark.map_or(Some(0), |mark| mark.generation.checked_add(1)).ok_or(BucketError::Damaged)?;
    Ok(BlobName { folder, digest: *digest, generation })
}

/// The mark of a digest, if there is one.
pub(super) async fn read_mark(
    bucket: &Bucket,
    folder: BlobFolder,
    digest: &Digest,
) -> Result<Option<StoredMark>, BucketError> {
    let Some(object) = bucket.get(&folder.mark(digest), MAX_BLOB_MARK_BYTES).await? else { return Ok(None) };
    let mark: BlobMark = serde_json::from_slice(&object.bytes).map_err(|_| BucketError::Damaged)?;
    if mark.digest != *digest {
        return Err(BucketError::Damaged);
    }
    Ok(Some(StoredMark { generation: mark.generation, marked_at: object.modified_at, object }))
}

/// Marks a name; `found` is the mark of its digest. Another collector may do the same at once.
pub(super) async fn mark(bucket: &Bucket, name: &BlobName, found: Option<StoredMark>) -> Result<(), BucketError> {
    let BlobName { folder, digest, generation } = *name;
    let object = folder.mark(&digest);
    let bytes = to_json(&BlobMark { digest, generation })?;
    let mut found = found;
    for _ in 0..MARK_ATTEMPTS {
        let is_written = match &found {
            None => bucket.create(&object, bytes.clone()).await? == Creation::New,
            // A mark never goes back: names that were deleted stay unclaimed.
            Some(mark) if mark.generation >= generation => true,
            Some(mark) => bucket.replace(&object, bytes.clone(), &mark.object).await? == Replacement::Replaced,
        };
        if is_written {
            return Ok(());
        }
        found = read_mark(bucket, folder, &digest).await?;
    }
    Err(BucketError::Status(http::StatusCode::CONFLICT.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_to_claim_is_over_before_half_of_the_shortest_grace_is() {
        assert!(MAX_CLAIM_AGE * 2 <= MIN_GRACE);
        let clock = Clock::default();
        let looked_at = clock.reading();
        clock.advance(MAX_CLAIM_AGE - Duration::from_secs(60));
        assert!(!is_mark_outdated(&clock, &looked_at));
        clock.advance(Duration::from_secs(61));
        assert!(is_mark_outdated(&clock, &looked_at));
    }
}
