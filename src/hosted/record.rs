//! The record of one version: the data that is stored beside its zip.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::upload::UploadedZip;
use crate::entry::{Digest, Verified};

/// How many earlier zips of a moving version are kept, the newest ones.
pub(super) const MAX_PREVIOUS_ZIPS: usize = 100;

/// One version. The file is replaced as a whole, and only to change `yanked`, `deleted`, or what a moving version is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReleaseRecord {
    /// The name of the package in the spelling of its first publication.
    pub(crate) name: String,
    /// The version.
    pub(crate) version: String,
    /// SHA-256 of the zip.
    pub(crate) digest: Digest,
    /// Length of the zip in bytes.
    pub(crate) len: u64,
    /// The principal who published it.
    pub(crate) publisher: String,
    /// When.
    pub(crate) published_at: Timestamp,
    /// Who has taken it out of the lists, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) yanked: Option<StateChange>,
    /// Who has deleted it, and when: the record is a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted: Option<StateChange>,
    /// Who has marked it as never to be pruned, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<StateChange>,
    /// The earlier zips of a moving version, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) previous: Vec<ReplacedZip>,
    /// The object of the zip in the primary store. `None`: the one that is named by the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<String>,
    /// What was sent beside the zip.
    #[serde(default)]
    pub(crate) form: PublishForm,
    /// What verification found in the zip.
    pub(crate) verified: Verified,
    /// The tag of the record in the primary store that this is a copy of; empty where it is there and its tag is not known.
    /// `None`: it is not known to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<String>,
}

/// The part of a record that the index in memory is made of: the rest is skipped while reading.
#[derive(Debug, Deserialize)]
pub(super) struct RecordHead {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) digest: Digest,
    pub(super) len: u64,
    pub(super) publisher: String,
    pub(super) published_at: Timestamp,
    #[serde(default)]
    pub(super) yanked: Option<StateChange>,
    #[serde(default)]
    pub(super) deleted: Option<StateChange>,
    #[serde(default)]
    pub(super) kept: Option<StateChange>,
    #[serde(default)]
    pub(super) blob: Option<String>,
    #[serde(default)]
    pub(super) tag: Option<String>,
    #[serde(default)]
    pub(super) previous: Vec<ReplacedZip>,
}

/// Who has changed the state of a version, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateChange {
    /// The principal.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Timestamp,
}

/// An earlier zip of a moving version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplacedZip {
    /// Its SHA-256.
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Who had published it.
    pub(crate) publisher: String,
    /// When.
    pub(crate) published_at: Timestamp,
    /// As [`ReleaseRecord::blob`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<String>,
}

/// What a client sends beside the zip; empty where it sends the zip alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PublishForm {
    /// The notes of the version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) version_body: String,
}

/// A version that is to be published.
#[derive(Clone, Debug)]
pub(crate) struct NewRelease {
    /// The name of the package.
    pub(crate) name: String,
    /// The version.
    pub(crate) version: super::VersionNumber,
    /// Who publishes it.
    pub(crate) publisher: String,
    /// Now.
    pub(crate) at: Timestamp,
    /// What was sent beside the zip.
    pub(crate) form: PublishForm,
    /// What verification found in the zip.
    pub(crate) verified: Verified,
}

impl ReleaseRecord {
    /// The record of a version with this zip.
    pub(super) fn new(release: NewRelease, zip: &UploadedZip) -> Self {
        Self {
            name: release.name,
            version: release.version.to_string(),
            digest: zip.digest,
            len: zip.len,
            publisher: release.publisher,
            published_at: release.at,
            yanked: None,
            deleted: None,
            kept: None,
            previous: Vec::new(),
            blob: None,
            form: release.form,
            verified: release.verified,
            tag: None,
        }
    }

    /// The zips that the version needs, with their lengths and the names of their objects; none once it is deleted.
    pub(super) fn zips_mut(&mut self) -> impl Iterator<Item = (Digest, u64, &mut Option<String>)> {
        let present = self.deleted.is_none().then_some((self.digest, self.len, &mut self.blob));
        let previous = self.previous.iter_mut().map(|old| (old.digest, old.len, &mut old.blob));
        present.into_iter().chain(previous)
    }

    /// Makes it a tombstone.
    pub(super) fn delete(&mut self, deleted: StateChange) {
        self.deleted = Some(deleted);
        self.previous.clear();
    }

    /// The tombstone of a version whose record is lost. Only the deletion is known.
    pub(super) fn tombstone(name: &str, version: &str, deleted: StateChange) -> Self {
        let unknown = Digest([0; 32]);
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            digest: unknown,
            len: 0,
            publisher: String::new(),
            published_at: Timestamp::UNIX_EPOCH,
            yanked: None,
            deleted: Some(deleted),
            kept: None,
            previous: Vec::new(),
            blob: None,
            form: PublishForm::default(),
            verified: Verified { manifest: unknown, commit: None, facts: serde_json::Value::Null },
            tag: None,
        }
    }
}

impl RecordHead {
    /// The zips that the version needs, with their lengths; none once it is deleted.
    pub(super) fn zips(&self) -> impl Iterator<Item = (Digest, u64)> {
        let present = self.deleted.is_none().then_some((self.digest, self.len));
        let previous = self.previous.iter().map(|replaced| (replaced.digest, replaced.len));
        present.into_iter().chain(previous)
    }
}

impl From<&ReleaseRecord> for RecordHead {
    fn from(record: &ReleaseRecord) -> Self {
        let record = record.clone();
        Self {
            name: record.name,
            version: record.version,
            digest: record.digest,
            len: record.len,
            publisher: record.publisher,
            published_at: record.published_at,
            yanked: record.yanked,
            deleted: record.deleted,
            kept: record.kept,
            blob: record.blob,
            tag: record.tag,
            previous: record.previous,
        }
    }
}
