//! Export and import: what one mirror hands to another. An import is checked as a download is; its claims are not trusted.

use serde::{Deserialize, Serialize};

use super::{BULK_TIMEOUT, request};
use crate::entry::{ExportedArchive, ExportedDocument, Key, RecordedSource};

/// Lists what is needed to import the zips that a pattern selects elsewhere: one claim per zip, then every document, then
/// the recorded sources that lead to the packages of both.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportArchives {
    /// As in [`super::ListArchives`]; the documents are those of every selected package, in whatever version.
    pub pattern: Option<String>,
    /// True for what the shared bucket has, too, where this mirror has nothing of it, or an older list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

request!(ExportArchives, "claims", events ExportedItem);

/// One line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExportedItem {
    /// What is stored about a zip; [`ReadArchive`] has its bytes.
    Zip(ExportedArchive),
    /// A whole document.
    Document(ExportedDocument),
    /// A name that comes from one of the packages.
    Source(RecordedSource),
    /// A zip that only the shared bucket has, at the time of the answer; [`ReadArchive`] has its bytes.
    #[serde(rename = "shared-zip")]
    SharedZip(ExportedArchive),
    /// A version of the shared bucket that cannot be exported.
    #[serde(rename = "left-out")]
    LeftOut {
        /// Its key; the name of its claim where the key is not known.
        key: Key,
        /// Why.
        why: LeftOut,
    },
    /// The last line: the shared bucket cannot be used, so the rest is missing.
    Stopped {
        /// Why, for a person.
        message: String,
    },
}

/// Why a version of the shared bucket is in no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LeftOut {
    /// Its claim cannot be read.
    Unreadable,
    /// Other content is pinned here.
    Mismatch,
    /// The bytes of its claim are missing.
    Missing,
    /// Its bytes do not have their digest.
    Damaged,
}

/// Reads the bytes of a stored zip: they are the body of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadArchive {
    /// Its key.
    pub key: Key,
    /// True to read it from the shared bucket where it is not stored here. Those bytes are not verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

request!(ReadArchive, "zip");

/// Asks what an import of these zips would do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PlanImport(pub Vec<ExportedArchive>);

request!(PlanImport, "import/plan", events PlannedImport);

/// What an import of one zip would do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlannedImport {
    /// Its key.
    pub key: Key,
    /// What would happen.
    pub state: ImportState,
}

/// What the import of a zip would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportState {
    /// The key is no key of a zip, its upstream is not configured, or the zip is too large.
    Refused,
    /// Other content is pinned under the key.
    Conflict,
    /// The shared bucket has pinned other content under the key, which counts: the import is refused, with `force` too.
    Overruled,
    /// The pin of the shared bucket under the key is damaged: the import is refused.
    Damaged,
    /// The same content is on disk, in whatever packing, or a later revision of the same moving version.
    Stored,
    /// It would be stored.
    Wanted,
}

/// Imports a zip. The body of the request is this as one line of JSON, then the bytes of the zip.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportArchive {
    /// True to replace the pin where it has other content.
    #[serde(default)]
    pub force: bool,
    /// What the bytes are claimed to be.
    pub claim: ExportedArchive,
}

request!(ImportArchive, "import/zip", answer ImportReport, within BULK_TIMEOUT);

/// Imports a document, unless the stored one was confirmed at least as late.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ImportDocument(pub ExportedDocument);

request!(ImportDocument, "import/document", answer ImportReport);

/// Asks whether an import would store a document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CheckDocument(pub ExportedDocument);

request!(CheckDocument, "import/document/check", answer ImportReport);

/// What became of an import.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImportReport {
    /// What is stored now.
    pub state: ImportedState,
}

/// The state of something imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportedState {
    /// It is on disk, or one that was confirmed at least as late.
    Stored,
    /// It is not on disk.
    Wanted,
    /// It was not taken: the stored one was confirmed at least as late.
    Older,
}
