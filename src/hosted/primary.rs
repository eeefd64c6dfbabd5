//! The records and zips of the primary store by their names, and what is left to note there.

use std::sync::{Arc, atomic::AtomicBool};

use parking_lot::Mutex;

use super::{
    change_notes::ChangeNotes,
    primary_store::{ListedRecord, PrimaryObject, PrimaryStore, PrimaryUnavailable, PrimaryWrite},
    record::{RecordHead, ReleaseRecord},
};
use crate::entry::Digest;

/// The folder of all records.
pub(super) const RECORDS_FOLDER: &str = "hosted/releases/";

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
