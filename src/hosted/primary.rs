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

use std::{
    fmt,
    fs::File,
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    change_notes::ChangeNotes,
    record::{RecordHead, ReleaseRecord},
};
use crate::{clock::ClockReading, entry::Digest};

/// The folder of all records.
pub(super) const RECORDS_FOLDER: &str = "hosted/releases/";
/// How often a replacement by comparison is tried while others change the same object.
pub(super) const COMPARE_ATTEMPTS: usize = 8;

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

/// A record in the primary store.
#[derive(Debug)]
pub(super) struct PrimaryRecord {
    object: PrimaryObject,
    /// With the tag of the object; `None` where it cannot be read.
    pub(super) record: Option<ReleaseRecord>,
}

/// The primary store, and the state of this mirror's work with it.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) objects: Arc<dyn PrimaryStore>,
    pub(super) notes: ChangeNotes,
    /// Held from the read of the present versions to the write of a record: each publication of this mirror sees those
    /// before it.
    pub(super) publishing: Mutex<()>,
    /// True once all records were here, in this process or an earlier one.
    pub(super) is_complete: AtomicBool,
}

impl Primary {
    pub(super) fn new(objects: Arc<dyn PrimaryStore>, is_complete: bool) -> Self {
        Self { objects, notes: ChangeNotes::default(), publishing: Mutex::default(), is_complete: is_complete.into() }
    }

    /// Reads the record of a version; `package` is in lower case.
    pub(super) fn record(&self, package: &str, version: &str) -> Result<Option<PrimaryRecord>, PrimaryUnavailable> {
        let Some(object) = self.objects.read(&record_name(package, version))? else { return Ok(None) };
        let record = serde_json::from_slice::<ReleaseRecord>(&object.bytes).ok();
        let record = record.filter(|record| record.version == version && record.name.eq_ignore_ascii_case(package));
        if record.is_none() {
            tracing::error!(%package, %version, "the record of a published version in the shared bucket cannot be read");
        }
        let tag = Some(object.tag.clone().unwrap_or_default());
        let record = record.map(|record| ReleaseRecord { tag, ..record });
        Ok(Some(PrimaryRecord { object, record }))
    }

    /// Creates the record of a version.
    pub(super) fn create(&self, record: &ReleaseRecord) -> Result<PrimaryWrite, PrimaryUnavailable> {
        self.objects.create(&record_name_of(record), shared_text(record))
    }

    /// Replaces the record of a version.
    pub(super) fn replace(
        &self,
        record: &ReleaseRecord,
        old: &PrimaryRecord,
    ) -> Result<PrimaryWrite, PrimaryUnavailable> {
        self.objects.replace(&record_name_of(record), shared_text(record), &old.object)
    }

    /// Passes every object of a folder to `each`.
    pub(super) fn list(&self, folder: &str, mut each: impl FnMut(ListedRecord)) -> Result<(), PrimaryUnavailable> {
        let mut after: Option<String> = None;
        loop {
            let page = self.objects.list(folder, after.as_deref())?;
            after = page.objects.last().map(|last| last.name.clone());
            page.objects.into_iter().for_each(&mut each);
            if page.is_last || after.is_none() {
                return Ok(());
            }
        }
    }
}

/// The name of a record; `package` is in lower case.
pub(super) fn record_name(package: &str, version: &str) -> String {
    format!("{RECORDS_FOLDER}{package}/{version}.json")
}

/// Splits the name of a record into the package and the version.
pub(super) fn parse_record_name(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(RECORDS_FOLDER)?.strip_suffix(".json")?.split_once('/').filter(|(_, rest)| !rest.contains('/'))
}

/// The object of a zip, as its record names it.
pub(super) fn zip_name(blob: Option<&str>, digest: &Digest) -> String {
    blob.map_or_else(|| format!("hosted/blobs/{:02x}/{digest}", digest.0[0]), str::to_owned)
}

/// A zip that a record needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordedZip {
    pub(super) digest: Digest,
    /// Length in bytes.
    pub(super) len: u64,
    /// The name of its object in the primary store.
    pub(super) object: String,
}

/// The zips that a record needs.
pub(super) fn zips_of(record: &RecordHead) -> Vec<RecordedZip> {
    let present = record.deleted.is_none().then_some((record.digest, record.len, record.blob.as_deref()));
    let previous = record.previous.iter().map(|old| (old.digest, old.len, old.blob.as_deref()));
    let zips = present.into_iter().chain(previous);
    zips.map(|(digest, len, blob)| RecordedZip { digest, len, object: zip_name(blob, &digest) }).collect()
}

/// The objects that the record of a version needs, by the record's name and bytes; `None` where it cannot be
/// understood. What it does not name may be deleted.
pub fn zips_of_record(name: &str, bytes: &[u8]) -> Option<Vec<String>> {
    let (package, version) = parse_record_name(name)?;
    let record: RecordHead = serde_json::from_slice(bytes).ok()?;
    let is_its_own = record.version == version && record.name.eq_ignore_ascii_case(package);
    is_its_own.then(|| zips_of(&record).into_iter().map(|zip| zip.object).collect())
}

fn record_name_of(record: &ReleaseRecord) -> String {
    record_name(&record.name.to_ascii_lowercase(), &record.version)
}

/// A record as all mirrors have it.
fn shared_text(record: &ReleaseRecord) -> Vec<u8> {
    // The keys of all maps are strings, so serialising cannot fail.
    serde_json::to_vec(&ReleaseRecord { tag: None, ..record.clone() }).unwrap_or_default()
}

/// True for records that differ in the tags of their copies at most.
pub(super) fn is_same(one: &ReleaseRecord, other: &ReleaseRecord) -> bool {
    shared_text(one) == shared_text(other)
}
