//! What a zip says of itself: its entries, their CRCs, the commit, `publish.yaml` and the flat view's plan.
//!
//! [`ZipVerifier`] judges a zip while it is being downloaded and yields the [`ZipFacts`] that are kept beside it;
//! [`flat`] plans the same zip without its top folder. Nothing here knows HTTP or the cache.

use serde::{Deserialize, Serialize};

use crate::{origin::VerifyError, package::PublishManifest};

mod central;
pub mod flat;
mod local;
mod manifest;
mod name;
mod publish;
mod source;
mod verify;

#[cfg(test)]
mod tests;

/// Judges zips as a forge makes them: local entries back to back, the central directory, the end record, nothing else.
///
/// Every name, size and CRC is checked, by the local headers as the bytes arrive and by the central directory at the
/// end. Refused are also: encryption, methods other than stored and deflated, several disks, names that
/// could leave the folder they are unpacked in, and names that occur twice or lie beneath a file.
/// Memory: three fixed buffers, some 150 bytes an entry, and the central directory ([`MAX_CENTRAL_DIRECTORY_BYTES`]).
#[derive(Clone, Debug)]
pub struct ZipVerifier {
    /// Most entries, folders included.
    pub max_entries: usize,
    /// Most bytes that all entries may unpack to.
    pub max_inflated: u64,
}

/// Largest central directory with its end records, bytes: names, extra fields and comments count here.
pub const MAX_CENTRAL_DIRECTORY_BYTES: u64 = 64 << 20;

/// What verification learns of a zip and the cache keeps beside it, as JSON of a few hundred bytes at most a few KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZipFacts {
    /// What `publish.yaml` (or `publish.yml`) at the root of the content says; all absent where there is none to be read.
    #[serde(default)]
    pub publish: PublishManifest,
    /// The single top folder that everything is in, without slash; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<String>,
    /// Number of entries, folders included.
    pub entries: usize,
    /// Number of entries that are symbolic links.
    pub symlinks: usize,
    /// Bytes that all entries unpack to.
    pub inflated: u64,
    /// The flat view; absent where the zip is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<flat::FlatView>,
}

impl ZipFacts {
    /// Reads what [`ZipVerifier`] put into [`crate::entry::Verified::facts`].
    ///
    /// # Errors
    /// When the value is not what a verifier of this or an earlier version wrote.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }
}

/// The verdict on a bad zip.
fn invalid<T>(clause: impl Into<String>) -> Result<T, VerifyError> {
    Err(VerifyError::Invalid(clause.into()))
}

/// The little-endian number of `len` (at most 8) bytes at `at`; 0 where `bytes` is too short, which callers rule out first.
fn le(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.get(at..at + len).unwrap_or_default().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// As [`le`], of two bytes.
fn le16(bytes: &[u8], at: usize) -> u16 {
    le(bytes, at, 2) as u16
}

/// As [`le`], of four bytes.
fn le32(bytes: &[u8], at: usize) -> u32 {
    le(bytes, at, 4) as u32
}

/// The numbers of APPNOTE.TXT, the zip format's specification.
mod sign {
    pub(super) const LOCAL: &[u8] = b"PK\x03\x04";
    pub(super) const DESCRIPTOR: &[u8] = b"PK\x07\x08";
    pub(super) const CENTRAL: &[u8] = b"PK\x01\x02";
    pub(super) const END: &[u8] = b"PK\x05\x06";
    pub(super) const END64: &[u8] = b"PK\x06\x06";
    pub(super) const LOCATOR64: &[u8] = b"PK\x06\x07";

    /// Fixed part of a local header, bytes.
    pub(super) const LOCAL_LEN: usize = 30;
    /// Fixed part of a central directory record, bytes.
    pub(super) const CENTRAL_LEN: usize = 46;
    /// Fixed part of the end record, bytes.
    pub(super) const END_LEN: usize = 22;
    /// The Zip64 locator, bytes.
    pub(super) const LOCATOR64_LEN: usize = 20;
    /// Fixed part of the Zip64 end record, bytes.
    pub(super) const END64_LEN: usize = 56;

    /// Flag: sizes and CRC follow the data.
    pub(super) const FLAG_DESCRIPTOR: u16 = 1 << 3;
    /// Flags that are refused: encrypted, patch data, strong encryption, masked headers.
    pub(super) const FLAGS_REFUSED: u16 = 1 | 1 << 5 | 1 << 6 | 1 << 13;
    /// Flags that both headers of an entry must agree on: those refused, the descriptor and UTF-8.
    pub(super) const FLAGS_COMPARED: u16 = FLAGS_REFUSED | FLAG_DESCRIPTOR | 1 << 11;

    pub(super) const STORED: u16 = 0;
    pub(super) const DEFLATED: u16 = 8;

    /// Extra field: sizes and offset of 64 bits.
    pub(super) const EXTRA_ZIP64: u16 = 0x0001;
    /// Extra field of Info-ZIP: the name once more, in UTF-8.
    pub(super) const EXTRA_UNICODE_PATH: u16 = 0x7075;
    /// A 32-bit field whose value is in the Zip64 extra field.
    pub(super) const IN_ZIP64: u64 = 0xffff_ffff;
}

/// The fields of an extra area as (id, data, start of the data in `extra`); `None` in place of one that runs past the end.
///
/// Up to three bytes of padding at the end are overlooked, as all unpackers do.
fn extra_fields(extra: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8], usize)>> {
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
        Some(data.map(|data| (id, data, start)))
    })
}
