//! The primary store of published packages where several mirrors share one: objects by name, behind [`PrimaryStore`]. The
//! app implements it over the bucket; this module depends on no S3 client.
//!
//! Under `hosted/` it has
//! - `blobs/ab/{sha256}`: the zips, written under their digest, or `{sha256}.{n}` where earlier names of the same bytes may be
//!   deleted at any time; a record names the object of its zip;
//! - `releases/{package in lower case}/{version}.json`: one record per version, created once. That create-only write is the
//!   publication. Every later change (hidden, kept, deleted, another zip of a moving version) is a replacement by comparison;
//! - `names/{package in lower case}.json`: the spelling of a package's name, created once before its first record;
//! - `reservations/{package in lower case}/{version}.json`: the present reservation of a version, replaced by comparison;
//! - `changes.json`: which packages have changed lately, replaced by comparison.
//!
//! The directory of a mirror is a copy of the records and of some zips: it may be lost.

use std::{fmt, fs::File, io, time::Duration};

use crate::{clock::ClockReading, entry::Digest};

/// How often a replacement by comparison is tried while others change the same object.
pub(super) const COMPARE_ATTEMPTS: usize = 8;
/// The error after [`COMPARE_ATTEMPTS`] at an object that other mirrors kept changing.
pub(super) const CONTENDED: PrimaryUnavailable = PrimaryUnavailable { retry_after: Duration::from_secs(1) };

/// A store of objects that several mirrors share. Names have letters, digits and `._-/`. All methods block, each with a
/// deadline, and may be called on threads that may block only.
pub(crate) trait PrimaryStore: fmt::Debug + Send + Sync {
    /// Records that this mirror has written a change, which the other mirrors are to read. Does not block.
    fn note_written(&self);

    /// Reads a small object; `None` where there is none.
    fn read(&self, name: &str) -> Result<Option<PrimaryObject>, PrimaryUnavailable>;

    /// Creates a small object, unless there is one.
    fn create(&self, name: &str, bytes: Vec<u8>) -> Result<PrimaryWrite, PrimaryUnavailable>;

    /// Replaces a small object, unless it has changed since it was read.
    fn replace(&self, name: &str, bytes: Vec<u8>, old: &PrimaryObject) -> Result<PrimaryWrite, PrimaryUnavailable>;

    /// Some of the objects whose names begin with `folder`, in order: those after the name `after`.
    fn list(&self, folder: &str, after: Option<&str>) -> Result<PrimaryPage, PrimaryUnavailable>;

    /// The name under which a zip may be stored before a record names it: other names may be deleted at any time.
    fn unmarked_zip(&self, digest: &Digest) -> Result<ZipName, PrimaryUnavailable>;

    /// False where a record may no longer name a zip: its name was looked for too long ago. Does not block.
    fn may_be_named(&self, looked_at: &ClockReading) -> bool;

    /// Writes a zip, unless there is an object of this name and length.
    fn upload(&self, name: &str, zip: &File, len: u64) -> Result<(), PrimaryUnavailable>;

    /// Passes the bytes of a zip of this length to `write`. They may be others than those that were uploaded.
    fn download(
        &self,
        name: &str,
        len: u64,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), PrimaryDownloadError>;
}

/// A name under which a zip may be stored before a record names it.
#[derive(Debug)]
pub(crate) struct ZipName {
    /// The name.
    pub(crate) name: String,
    /// When it was found to be safe from deletion; see [`PrimaryStore::may_be_named`].
    pub(crate) looked_at: ClockReading,
}

/// A small object.
#[derive(Clone, Debug)]
pub(crate) struct PrimaryObject {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Changes with them; `None` where the store has none.
    pub(crate) tag: Option<String>,
}

/// Whether an object was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrimaryWrite {
    /// It was.
    Done,
    /// Another write was first, perhaps an earlier one of this mirror whose answer was lost: it must be read.
    Refused,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct PrimaryPage {
    /// Names with their tags.
    pub(crate) objects: Vec<ListedRecord>,
    /// True where no more objects follow.
    pub(crate) is_last: bool,
}

/// An object in a list.
#[derive(Debug)]
pub(crate) struct ListedRecord {
    /// Its name.
    pub(crate) name: String,
    /// As a read of the object has it.
    pub(crate) tag: Option<String>,
}

/// The primary store cannot be used at present. The cause is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the shared bucket, which keeps the published packages, cannot be used at present; try again in {} s",
    retry_after.as_secs().max(1)
)]
pub(crate) struct PrimaryUnavailable {
    /// When to try again.
    pub(crate) retry_after: Duration,
}

/// Why a zip is not downloaded.
#[derive(Debug)]
pub(crate) enum PrimaryDownloadError {
    /// The store cannot be used.
    Unavailable(PrimaryUnavailable),
    /// It has no such zip, or one of another length.
    Damaged,
    /// The bytes could not be written.
    Write(io::Error),
}

/// Computes the new bytes of a small object from the present ones; `None`: it stays as it is.
pub(super) type ObjectChange<'c> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'c;

/// Changes a small object by comparison: `change` is called again where another mirror was first. `Refused` after
/// [`COMPARE_ATTEMPTS`].
///
/// # Errors
/// When the primary store cannot be used; the object may be changed then.
pub(super) fn update(
    objects: &dyn PrimaryStore,
    name: &str,
    change: &mut ObjectChange<'_>,
) -> Result<PrimaryWrite, PrimaryUnavailable> {
    for _ in 0..COMPARE_ATTEMPTS {
        let object = objects.read(name)?;
        let Some(bytes) = change(object.as_ref().map(|object| &*object.bytes)) else { return Ok(PrimaryWrite::Done) };
        let written = match &object {
            None => objects.create(name, bytes)?,
            Some(object) => objects.replace(name, bytes, object)?,
        };
        if written == PrimaryWrite::Done {
            return Ok(written);
        }
    }
    Ok(PrimaryWrite::Refused)
}
