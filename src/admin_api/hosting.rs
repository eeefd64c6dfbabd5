//! Published packages, as an operator keeps them: backup, verification, retention.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FailedPublicationRow, request};
use crate::{entry::Digest, value::Period};

/// The header field of the answer to [`ExportHosted`] with the bytes of zips that follow, approximately.
pub(crate) const EXPORT_BYTES_FIELD: &str = "srm-mirror-export-bytes";

/// Exports every published version. The answer is a tar archive: all records, then the zips.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportHosted {
    /// The zips that earlier exports have: they are left out.
    pub known: Vec<Digest>,
}

request!(ExportHosted, "hosted/export");

/// Compares every record and every byte of every zip with what it should be. Changes nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyHosted {}

request!(VerifyHosted, "hosted/verify", events HostedCheck);

/// One step of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum HostedCheck {
    /// What there is to verify.
    Begin {
        /// The number of versions, deleted ones included.
        versions: usize,
        /// The number of zips; two versions may share one.
        zips: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A zip was hashed.
    Zip {
        /// Its bytes.
        bytes: u64,
    },
    /// Something is not what it should be.
    Damaged(HostedDamage),
    /// The end, with the totals.
    End {
        /// Verified versions.
        versions: u64,
        /// Verified zips.
        zips: u64,
        /// Their bytes.
        bytes: u64,
        /// How much is damaged.
        damaged: u64,
        /// The number of zips that only the shared bucket has and that could not be read from it.
        #[serde(default)]
        unchecked: u64,
    },
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostedDamage {
    /// What is wrong.
    pub kind: DamageKind,
    /// The versions that it concerns, as `name@version`; none for a zip without a record.
    pub names: Vec<String>,
    /// The zip, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// What is wrong with a version or a zip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DamageKind {
    /// The record cannot be read.
    RecordUnreadable,
    /// The record says something else than at the start of the mirror.
    RecordChanged,
    /// A zip that the record names does not exist.
    ZipMissing,
    /// A zip has other bytes than its name and its record say.
    ZipDamaged,
    /// No record names the zip: a record was lost, or a kill left it. The next start removes it.
    ZipWithoutRecord,
    /// A kind that this version does not have.
    #[serde(other)]
    Other,
}

impl DamageKind {
    /// One clause for a person.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::RecordUnreadable => "its record cannot be read",
            Self::RecordChanged => "its record was changed by another program",
            Self::ZipMissing => "its zip is missing",
            Self::ZipDamaged => "its zip is damaged",
            Self::ZipWithoutRecord => "no record names this zip; the next start removes it",
            Self::Other => "it is not what it should be",
        }
    }
}

/// Prunes published versions by rules. A pruned version leaves a tombstone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruneHosted {
    /// The packages that the rules apply to; all where it is absent.
    #[serde(default)]
    pub pattern: Option<String>,
    /// How many of the highest stable versions of a package stay; at least 1.
    pub keep_last: usize,
    /// What was published within this period stays.
    pub younger_than: Period,
    /// True to remove nothing.
    pub dry_run: bool,
}

request!(PruneHosted, "hosted/prune", events PruneEvent);

/// One step of pruning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum PruneEvent {
    /// A version is pruned or, in a dry run, would be.
    Version(PrunedZip),
    /// An earlier zip of a moving version is pruned or, in a dry run, would be.
    EarlierZip(PrunedZip),
    /// One of them cannot be pruned. The others are.
    Failed {
        /// The package.
        package: String,
        /// The version.
        version: String,
        /// Why.
        message: String,
    },
}

/// A pruned zip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrunedZip {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
    /// SHA-256 of the zip.
    pub sha256: Digest,
    /// Its length, bytes.
    pub size: u64,
    /// When it was published.
    pub published_at: Timestamp,
}

/// Lists the publications that failed after the last response that their client reads, the newest first. They are kept for
/// 30 days at most, 500 of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListFailedPublications {
    /// As in [`super::ListArchives`].
    pub pattern: Option<String>,
}

request!(ListFailedPublications, "hosted/failed", answer FailedPublicationList);

/// The publications that failed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct FailedPublicationList {
    /// The publications, the newest first.
    pub failed: Vec<FailedPublicationRow>,
}

/// Counts the published versions that a pattern selects.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CountHosted {
    /// As in [`super::ListArchives`].
    pub pattern: Option<String>,
}

request!(CountHosted, "hosted/count", answer HostedCount);

/// How many published versions there are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HostedCount {
    /// Those that are served.
    pub versions: usize,
}
