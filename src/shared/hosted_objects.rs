//! The objects of published packages in the bucket: small ones that are created once or replaced by comparison, and zips.
//! Their content is defined in [`crate::hosted`].

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};

use super::{
    Bucket, BucketError, ChangeNotices, ObjectPage,
    blob_name::BlobFolder,
    bucket::SmallObject,
    damaged_objects::DamagedObjects,
    marks::{is_mark_outdated, unmarked_name},
    object_name::ObjectName,
    probe::{Creation, Replacement},
};
use crate::{
    clock::{Clock, ClockReading},
    entry::Digest,
};

/// Largest small object, bytes.
pub(super) const MAX_HOSTED_OBJECT_BYTES: usize = 16 << 20;
/// How often a zip is uploaded whose outcome is unclear.
const UPLOAD_ATTEMPTS: usize = 2;

/// The objects of published packages.
pub struct HostedObjects {
    bucket: Arc<Bucket>,
    clock: Clock,
    damaged_marks: DamagedObjects,
}

/// The name under which a zip may be stored and named by a record.
#[derive(Clone, Debug)]
pub struct UnmarkedZip {
    /// The name.
    pub name: String,
    /// When its mark was looked for.
    pub looked_at: ClockReading,
}

/// A small object.
#[derive(Clone, Debug)]
pub struct HostedObject {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its tag, without quotation marks.
    pub etag: Option<String>,
}

/// Whether a small object was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectWrite {
    /// It was.
    Written,
    /// There is one, or another one than was read; or the outcome is unclear.
    Refused,
}

/// Why a zip is not downloaded.
#[derive(Debug)]
pub enum ObjectDownloadError {
    /// The bucket's fault; `Damaged` where it has no such object, or one of another length.
    Bucket(BucketError),
    /// The bytes could not be written.
    Write(io::Error),
}

impl From<BucketError> for ObjectDownloadError {
    fn from(error: BucketError) -> Self {
        Self::Bucket(error)
    }
}

impl HostedObjects {
    /// The objects in a bucket.
    pub fn new(bucket: Arc<Bucket>, clock: Clock) -> Self {
        Self { bucket, clock, damaged_marks: DamagedObjects::default() }
    }

    /// Notices of changes in the bucket.
    pub fn notices(&self) -> &ChangeNotices {
        &self.bucket.notices
    }

    /// Reads a small object; `None` where there is none.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn read(&self, name: &str) -> Result<Option<HostedObject>, BucketError> {
        let found = self.bucket.get(&ObjectName::of_hosted(name)?, MAX_HOSTED_OBJECT_BYTES).await?;
        Ok(found.map(|object| HostedObject { bytes: object.bytes, etag: object.etag.map(unquoted) }))
    }

    /// Creates a small object.
    ///
    /// # Errors
    /// When the bucket cannot decide; the object may be there then.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<ObjectWrite, BucketError> {
        match self.bucket.create(&ObjectName::of_hosted(name)?, bytes).await? {
            Creation::New => Ok(ObjectWrite::Written),
            Creation::Exists => Ok(ObjectWrite::Refused),
        }
    }

    /// Replaces a small object that was read.
    ///
    /// # Errors
    /// When the bucket cannot be asked; the object may be replaced then.
    pub async fn replace(&self, name: &str, bytes: Bytes, old: HostedObject) -> Result<ObjectWrite, BucketError> {
        let old = SmallObject { bytes: old.bytes, etag: old.etag, answered_at: None, modified_at: None };
        match self.bucket.replace(&ObjectName::of_hosted(name)?, bytes, &old).await {
            Ok(Replacement::Replaced) => Ok(ObjectWrite::Written),
            // What is there then says whether it was replaced.
            Ok(Replacement::Changed) | Err(BucketError::Unreachable) => Ok(ObjectWrite::Refused),
            Err(error) => Err(error),
        }
    }

    /// Some of the objects of a folder, after a name.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn list(&self, folder: &str, after: Option<&str>) -> Result<ObjectPage, BucketError> {
        let mut page = self.bucket.list(folder, after).await?;
        page.objects.iter_mut().for_each(|object| object.etag = object.etag.take().map(unquoted));
        Ok(page)
    }

    /// The name under which the zip of a digest may be stored and named by a record, while [`Self::may_be_named`]. One
    /// request.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn unmarked_zip(&self, digest: &Digest) -> Result<UnmarkedZip, BucketError> {
        let looked_at = self.clock.reading();
        let name = unmarked_name(&self.bucket, BlobFolder::Published, digest).await;
        if matches!(name, Err(BucketError::Damaged)) {
            let mark = BlobFolder::Published.mark(digest);
            if self.damaged_marks.insert(&mark) {
                tracing::error!(object = %mark, "the mark of a published zip in the shared bucket cannot be read");
            }
        }
        Ok(UnmarkedZip { name: name?.to_string(), looked_at })
    }

    /// False when the mark of a zip was looked for so long ago that a record may no longer name the zip.
    pub fn may_be_named(&self, looked_at: &ClockReading) -> bool {
        !is_mark_outdated(&self.clock, looked_at)
    }

    /// Writes a zip, unless there is an object of its name and length.
    ///
    /// # Errors
    /// When the bucket cannot be asked; the call may be repeated.
    pub async fn upload(
        &self,
        name: &str,
        len: u64,
        bytes: impl Fn() -> BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<(), BucketError> {
        let name = ObjectName::of_hosted(name)?;
        let mut attempt = 1;
        loop {
            if self.bucket.len(&name).await? == Some(len) {
                return Ok(());
            }
            match self.bucket.upload(&name, bytes(), len).await {
                Err(BucketError::Unreachable) if attempt < UPLOAD_ATTEMPTS => attempt += 1,
                written => return written,
            }
        }
    }

    /// Passes the bytes of a zip of this length to `write`, which may block.
    ///
    /// # Errors
    /// [`ObjectDownloadError`].
    pub async fn download(
        &self,
        name: &str,
        len: u64,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ObjectDownloadError> {
        let body = self.bucket.open(&ObjectName::of_hosted(name)?).await?.ok_or(BucketError::Damaged)?;
        if body.len.is_some_and(|found| found != len) {
            return Err(BucketError::Damaged.into());
        }
        let mut parts = body.bytes;
        let mut received: u64 = 0;
        while let Some(part) = parts.next().await {
            let part = part?;
            received = received.saturating_add(part.len() as u64);
            if received > len {
                return Err(BucketError::Damaged.into());
            }
            write(&part).map_err(ObjectDownloadError::Write)?;
        }
        // A body without a length may end early.
        if received == len { Ok(()) } else { Err(BucketError::Unreachable.into()) }
    }
}

/// A tag as lists and heads of all services have it.
fn unquoted(etag: String) -> String {
    etag.trim_matches('"').to_owned()
}
