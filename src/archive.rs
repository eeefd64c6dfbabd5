//! Zip archives: verification during a download, the facts stored beside a zip, and views of a stored zip.
//!
//! [`ZipVerifier`] verifies a zip while it is downloaded and returns its [`ZipFacts`]. With these,
//! [`CentralDirectory::open`] reads the directory of the stored zip; it plans views ([`view`]) and reads small files. This
//! module depends neither on HTTP nor on the cache.
//!
//! Written by hand: no crate verifies a zip whose end has not arrived yet, and none plans a view of a zip without a copy.

use serde::{Deserialize, Serialize};

use crate::{
    origin::VerifyError,
    package::{ModelFinding, PublishManifest},
    value::memory_budget::MemoryBudget,
};

mod archive_reader;
mod central;
mod content;
mod entry_point;
mod entry_reader;
mod folder;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod json_comments;
mod manifest;
mod name;
pub mod package_model;
mod publish;
mod stored_zip;
mod verify;
pub mod view;

#[cfg(test)]
mod tests;

pub use central::CentralDirectory;
pub use folder::FolderFacts;
pub use stored_zip::{DirectoryFacts, FlatView, SmallFile, StoredZipError};

/// Verifies zips of the form that forges produce: adjacent local entries, the central directory, the end record, and no
/// other bytes.
///
/// Every name, size and CRC is checked against the local headers during the download, and against the central directory
/// at its end. Also rejected: encryption, methods other than stored and deflated, several disks, names that leave the
/// folder in which the zip is unpacked, duplicate names, and names below a file.
/// Memory: three fixed buffers, about 150 bytes per entry, and the central directory ([`MAX_CENTRAL_DIRECTORY_BYTES`]).
#[derive(Clone, Debug)]
pub struct ZipVerifier {
    /// Largest number of entries, folders included.
    pub max_entries: usize,
    /// Largest total size of all unpacked entries, in bytes.
    pub max_inflated: u64,
    /// What central directories and lists of entries are counted against.
    pub memory: MemoryBudget,
}

/// Largest central directory with its end records, in bytes. Names, extra fields and comments are part of it.
pub const MAX_CENTRAL_DIRECTORY_BYTES: u64 = 64 << 20;

/// The result of verification, which the cache stores beside the zip as JSON of a few hundred bytes to a few KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZipFacts {
    /// The fields of `publish.yaml` (or `publish.yml`) at the root of the content; all absent without a readable file.
    #[serde(default)]
    pub publish: PublishManifest,
    /// The single top folder of all entries, without slash; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<String>,
    /// Number of entries, folders included.
    pub entries: usize,
    /// Number of entries that are symbolic links.
    pub symlinks: usize,
    /// Total size of all unpacked entries, in bytes.
    pub inflated: u64,
    /// The flat view; `None` if the zip has no top folder and is its own flat view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<FlatView>,
    /// The central directory of a zip without a top folder; `None` if `flat` describes it, and in facts of earlier
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub central: Option<DirectoryFacts>,
    /// For a component or plugin that has none of the files that the command line client can load: the path of the first
    /// one, such as `dist/index.js`. `None` if it has one, in doubt, for packages of other types, and in facts of earlier
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_entry: Option<String>,
    /// Where the package does not conform to the package model; empty if it does, and in doubt. `None` in facts of earlier
    /// releases. See [`package_model`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Vec<ModelFinding>>,
    /// True if the zip contains a `.git` folder; false also in facts of earlier releases.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub git_folder: bool,
}

impl ZipFacts {
    /// Deserialises [`crate::entry::Verified::facts`].
    ///
    /// # Errors
    /// If the value was not written by this or an earlier version of [`ZipVerifier`].
    pub fn from_value(value: &serde_json::Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    /// [`ZipFacts::missing_entry`] of serialised facts: cheap enough for every request.
    pub fn missing_entry_in(value: &serde_json::Value) -> Option<&str> {
        value.get("missing_entry")?.as_str()
    }

    /// [`ZipFacts::model`] of serialised facts: cheap for a package that conforms.
    pub fn model_findings_in(value: &serde_json::Value) -> Option<Vec<ModelFinding>> {
        let findings = value.get("model")?;
        if findings.as_array().is_some_and(Vec::is_empty) {
            return Some(Vec::new());
        }
        Deserialize::deserialize(findings).ok()
    }

    /// Where the central directory is; `None` if verification did not record it.
    pub fn directory(&self) -> Option<DirectoryFacts> {
        let flat = self.flat.as_ref();
        flat.map(|flat| DirectoryFacts { offset: flat.central, digest: flat.central_digest }).or(self.central)
    }
}

/// The error for a bad zip; `clause` completes the sentence and is shown to clients.
fn invalid<T>(clause: impl Into<String>) -> Result<T, VerifyError> {
    Err(VerifyError::Invalid(clause.into()))
}

/// The little-endian integer of `len` (at most 8) bytes at `at`. 0 if `bytes` is too short, which callers check before.
fn le(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.get(at..at + len).unwrap_or_default().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// [`le`] of two bytes.
fn le16(bytes: &[u8], at: usize) -> u16 {
    le(bytes, at, 2) as u16
}

/// [`le`] of four bytes.
fn le32(bytes: &[u8], at: usize) -> u32 {
    le(bytes, at, 4) as u32
}

/// Constants of the zip format (PKWARE's APPNOTE.TXT).
mod format {
    pub(super) const LOCAL_SIGNATURE: &[u8] = b"PK\x03\x04";
    pub(super) const DESCRIPTOR_SIGNATURE: &[u8] = b"PK\x07\x08";
    pub(super) const CENTRAL_SIGNATURE: &[u8] = b"PK\x01\x02";
    pub(super) const END_SIGNATURE: &[u8] = b"PK\x05\x06";
    pub(super) const END64_SIGNATURE: &[u8] = b"PK\x06\x06";
    pub(super) const LOCATOR64_SIGNATURE: &[u8] = b"PK\x06\x07";

    /// Length of the fixed part of a local header, in bytes.
    pub(super) const LOCAL_LEN: usize = 30;
    /// Length of the fixed part of a central directory entry, in bytes.
    pub(super) const CENTRAL_LEN: usize = 46;
    /// Length of the fixed part of the end record, in bytes.
    pub(super) const END_LEN: usize = 22;
    /// Length of the Zip64 locator, in bytes.
    pub(super) const LOCATOR64_LEN: usize = 20;
    /// Length of the fixed part of the Zip64 end record, in bytes.
    pub(super) const END64_LEN: usize = 56;

    /// Flag: a data descriptor with sizes and CRC follows the data.
    pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
    /// Flags of rejected entries: encrypted, patch data, strong encryption, masked headers.
    pub(super) const REJECTED_FLAGS: u16 = 1 | 1 << 5 | 1 << 6 | 1 << 13;
    /// Flags that must be equal in both headers of an entry: the rejected ones, the descriptor and UTF-8.
    pub(super) const COMPARED_FLAGS: u16 = REJECTED_FLAGS | FLAG_DESCRIPTOR | 1 << 11;

    pub(super) const METHOD_STORED: u16 = 0;
    pub(super) const METHOD_DEFLATED: u16 = 8;

    /// Extra field: sizes and offset in 64 bits.
    pub(super) const ZIP64_EXTRA_FIELD: u16 = 0x0001;
    /// Extra field of Info-ZIP: a second name, in UTF-8.
    pub(super) const UNICODE_PATH_EXTRA_FIELD: u16 = 0x7075;
    /// The value of a 32-bit field that stands in the Zip64 extra field instead.
    pub(super) const IN_ZIP64: u64 = 0xffff_ffff;
}

/// Iterates over the extra fields of a header as (id, data); `None` for a field that extends beyond the end.
///
/// Up to three bytes of padding at the end are ignored, as unpackers do.
fn extra_fields(extra: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if extra.len() - at < 4 {
            return None;
        }
        let id = le16(extra, at);
        let len = usize::from(le16(extra, at + 2));
        let start = at + 4;
        let data = extra.get(start..start + len);
        at = data.map_or(extra.len(), |data| start + data.len());
        Some(data.map(|data| (id, data)))
    })
}

/// The 64-bit values of the Zip64 extra field, in order; none if the field is absent.
fn zip64_values(extra: &[u8]) -> impl Iterator<Item = u64> {
    let field = extra_fields(extra).flatten().find(|(id, _)| *id == format::ZIP64_EXTRA_FIELD);
    field.map(|(_, data)| data).unwrap_or_default().chunks_exact(8).map(|value| le(value, 0, 8))
}
