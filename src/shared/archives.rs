//! Zips in the bucket: their pins, which the bucket arbitrates, their bytes, and the claims that lead to these.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Bucket, BucketError, ListedKey,
    blob_name::{BlobFolder, BlobName},
    bucket::ObjectBody,
    json::{parse, to_json},
    marks::{is_mark_outdated, unmarked_name},
    object_name::ObjectName,
    probe::{Creation, Replacement},
};
use crate::{
    clock::Clock,
    entry::{Key, Meta, Pin},
    origin::{DownloadPlace, FetchError, FetchedBody},
};

/// Largest description of a zip, bytes: the findings of its verification are a part of it.
pub(super) const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// How often the write of a claim is tried while others change it.
const CLAIM_ATTEMPTS: usize = 3;

/// Zips that several mirrors share.
pub struct SharedArchives {
    bucket: Arc<Bucket>,
    clock: Clock,
}

/// Records that the bucket has the zip of a key, and in which object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The key.
    pub key: Key,
    /// When a mirror first saw the key.
    pub first_seen: Timestamp,
    /// The name of the object with the bytes, without the configured prefix.
    blob: String,
    /// The description of the zip.
    #[serde(flatten)]
    pub meta: Meta,
}

/// The fields that a pin and a claim have in common.
#[derive(Deserialize)]
struct SeenKey {
    key: Key,
    first_seen: Timestamp,
}

/// What the bucket has as the pin of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedPin {
    /// It has this content: this mirror's, or the same of another one.
    Agreed(Pin),
    /// Another mirror was first, with other content.
    Other(Pin),
}

/// What [`SharedArchives::upload`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveUpload {
    /// The bucket has the zip already.
    Present,
    /// The zip or its claim was written.
    Written,
}

impl Claim {
    /// The pin that the claim agrees with: a claim is written after its pin was accepted.
    pub fn pin(&self) -> Pin {
        let Meta { digest, len, ref verified, .. } = self.meta;
        Pin { key: self.key.clone(), digest, len, first_seen: self.first_seen, verified: verified.clone() }
    }

    fn blob(&self) -> Option<BlobName> {
        BlobName::parse(BlobFolder::Fetched, &self.blob)
    }
}

impl SharedArchives {
    /// The zips in a bucket.
    pub fn new(bucket: Arc<Bucket>, clock: Clock) -> Self {
        Self { bucket, clock }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The claim of a key. One request.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn find(&self, key: &Key) -> Result<Option<Claim>, BucketError> {
        let found = self.bucket.get(&ObjectName::claim(key), MAX_DESCRIPTION_BYTES).await?;
        found.map(|object| parse::<Claim>(&object.bytes, |claim| &claim.key, key)).transpose()
    }

    /// Reads a listed claim; `None` where it was forgotten since. One request.
    ///
    /// # Errors
    /// When the bucket cannot be asked; `Damaged` where the object is no claim, or that of another key.
    pub async fn listed(&self, listed: &ListedKey) -> Result<Option<Claim>, BucketError> {
        let name = ObjectName::listed(listed.name.clone());
        let Some(found) = self.bucket.get(&name, MAX_DESCRIPTION_BYTES).await? else { return Ok(None) };
        let claim = serde_json::from_slice::<Claim>(&found.bytes).ok();
        claim.filter(|claim| ObjectName::claim(&claim.key) == name).map(Some).ok_or(BucketError::Damaged)
    }

    /// Pins content, unless a mirror has pinned other content before. One request where it is new.
    ///
    /// # Errors
    /// When the bucket cannot decide: nothing is known to be pinned then.
    pub async fn settle(&self, pin: &Pin) -> Result<SharedPin, BucketError> {
        let name = ObjectName::pin(&pin.key);
        match self.bucket.create(&name, to_json(pin)?).await? {
            Creation::New => Ok(SharedPin::Agreed(pin.clone())),
            Creation::Exists => {
                let settled = self.pinned(&pin.key).await?.ok_or(BucketError::Damaged)?;
                let agrees = settled.verified.manifest == pin.verified.manifest;
                Ok(if agrees { SharedPin::Agreed(settled) } else { SharedPin::Other(settled) })
            }
        }
    }

    /// What is pinned under a key. One request.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn pinned(&self, key: &Key) -> Result<Option<Pin>, BucketError> {
        let found = self.bucket.get(&ObjectName::pin(key), MAX_DESCRIPTION_BYTES).await?;
        found.map(|object| parse::<Pin>(&object.bytes, |pin| &pin.key, key)).transpose()
    }

    /// Opens the zip of a claim.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or does not have the bytes.
    pub async fn open(&self, claim: &Claim) -> Result<FetchedBody, BucketError> {
        let body = self.bucket.open(&claim.blob().ok_or(BucketError::Damaged)?.object()).await?;
        let ObjectBody { len, bytes } = body.ok_or(BucketError::Damaged)?;
        if len.is_some_and(|len| len != claim.meta.len) {
            return Err(BucketError::Damaged);
        }
        let body = bytes.map(|chunk| chunk.map_err(to_fetch_error)).boxed();
        let len = Some(claim.meta.len);
        Ok(FetchedBody { len, anonymous: claim.meta.anonymous, body, place: DownloadPlace::default() })
    }

    /// Makes the zip of a key available: uploads the bytes where the bucket does not have them, and claims them. The pin
    /// must be settled.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or refuses; the call may be repeated.
    pub async fn upload(
        &self,
        key: &Key,
        first_seen: Timestamp,
        meta: &Meta,
        bytes: impl Fn() -> BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<ArchiveUpload, BucketError> {
        let name = ObjectName::claim(key);
        for _ in 0..CLAIM_ATTEMPTS {
            let found = self.bucket.get(&name, MAX_DESCRIPTION_BYTES).await?;
            let present = found.as_ref().and_then(|object| parse::<Claim>(&object.bytes, |claim| &claim.key, key).ok());
            if let Some(present) = &present {
                if self.has_blob(present).await? {
                    // Another packing of the same content is as good.
                    return Ok(ArchiveUpload::Present);
                }
                if let Some(blob) = present.blob().filter(|blob| blob.digest == meta.digest) {
                    self.bucket.upload(&blob.object(), bytes(), meta.len).await?;
                    return Ok(ArchiveUpload::Written);
                }
            }
            let looked_at = self.clock.reading();
            let blob = unmarked_name(&self.bucket, BlobFolder::Fetched, &meta.digest).await?;
            self.upload_blob(&blob.object(), meta.len, &bytes).await?;
            if is_mark_outdated(&self.clock, &looked_at) {
                // The bytes are there; only the mark must be read again.
                continue;
            }
            let claim = to_json(&Claim { key: key.clone(), first_seen, blob: blob.to_string(), meta: meta.clone() })?;
            let is_written = match &found {
                None => self.bucket.create(&name, claim).await? == Creation::New,
                // It is damaged, or leads to bytes that the bucket no longer has.
                Some(object) => self.bucket.replace(&name, claim, object).await? == Replacement::Replaced,
            };
            if is_written {
                return Ok(ArchiveUpload::Written);
            }
        }
        Err(BucketError::Status(http::StatusCode::CONFLICT.as_u16()))
    }

    async fn has_blob(&self, claim: &Claim) -> Result<bool, BucketError> {
        let Some(blob) = claim.blob() else { return Ok(false) };
        Ok(self.bucket.len(&blob.object()).await? == Some(claim.meta.len))
    }

    async fn upload_blob(
        &self,
        blob: &ObjectName,
        len: u64,
        bytes: &impl Fn() -> BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<(), BucketError> {
        if self.bucket.len(blob).await? == Some(len) {
            return Ok(());
        }
        self.bucket.upload(blob, bytes(), len).await
    }

    /// Deletes the pin and the claim of a key. The bytes stay. The claim is first: a mirror that finds one pins its
    /// content.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn forget(&self, key: &Key) -> Result<(), BucketError> {
        self.bucket.delete(&ObjectName::claim(key)).await?;
        self.bucket.delete(&ObjectName::pin(key)).await
    }

    /// Deletes the pin and the claim of a key where they agree with `pin`: a mirror may have written them again, before it
    /// read that the pin was removed. One that was first seen later stays.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn forget_pin(&self, pin: &Pin) -> Result<(), BucketError> {
        if self.find(&pin.key).await?.is_some_and(|claim| claim.pin().is_same_sight(pin)) {
            self.bucket.delete(&ObjectName::claim(&pin.key)).await?;
        }
        match self.pinned(&pin.key).await {
            Ok(Some(settled)) if settled.is_same_sight(pin) => self.bucket.delete(&ObjectName::pin(&pin.key)).await,
            Ok(_) | Err(BucketError::Damaged) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the pin and the claim of a key where they were first seen at this time at the latest.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn forget_until(&self, key: &Key, until: Timestamp) -> Result<(), BucketError> {
        for name in [ObjectName::claim(key), ObjectName::pin(key)] {
            let Some(found) = self.bucket.get(&name, MAX_DESCRIPTION_BYTES).await? else { continue };
            let seen = parse::<SeenKey>(&found.bytes, |seen| &seen.key, key);
            if seen.is_ok_and(|seen| seen.first_seen <= until) {
                self.bucket.delete(&name).await?;
            }
        }
        Ok(())
    }

    /// Deletes the bytes of a claim, which do not have their digest, so that the next upload writes them again.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn discard_damaged(&self, claim: &Claim) -> Result<(), BucketError> {
        self.bucket.delete(&claim.blob().ok_or(BucketError::Damaged)?.object()).await
    }
}

/// The error of a fetch from the bucket.
pub(super) fn to_fetch_error(error: BucketError) -> FetchError {
    match error {
        BucketError::TimedOut => FetchError::Timeout("the shared bucket"),
        _ => FetchError::Unreachable("the shared bucket"),
    }
}
