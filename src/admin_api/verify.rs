//! Verification of everything that is stored.

use serde::{Deserialize, Serialize};

use super::request;
use crate::entry::{Digest, Key};

/// Hashes the zips that a pattern selects and, where it selects whole packages, their documents. Damaged ones are
/// quarantined and, unless `no_fetch` is set, fetched again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VerifyArchives {
    /// As in [`super::ListArchives`].
    pub pattern: Option<String>,
    /// True to fetch nothing.
    pub no_fetch: bool,
}

request!(VerifyArchives, "verify", events VerifyEvent);

/// One step of a verification.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum VerifyEvent {
    /// What there is to verify.
    Begin {
        /// The number of zips; two keys may share one.
        zips: usize,
        /// Their bytes.
        bytes: u64,
        /// The number of documents.
        documents: usize,
    },
    /// A zip was verified.
    Zip {
        /// SHA-256 of what it should be.
        sha256: Digest,
        /// Its length, bytes.
        size: u64,
        /// The result.
        state: VerifyState,
        /// Why it is still damaged, where there is more to say.
        reason: Option<String>,
        /// The packages and versions that it is stored under.
        names: Vec<String>,
    },
    /// A document was verified.
    Document {
        /// Its key.
        key: Key,
        /// The result.
        state: VerifyState,
        /// Why it is still damaged, where there is more to say.
        reason: Option<String>,
    },
    /// The totals; the command adds them.
    End {
        /// Verified zips.
        zips: u64,
        /// Their bytes.
        bytes: u64,
        /// Verified documents.
        documents: u64,
        /// Zips and documents that were damaged and are good again.
        mended: u64,
        /// Zips and documents that are damaged.
        damaged: u64,
        /// Zips and documents that were evicted or removed before they were verified.
        gone: u64,
    },
}

/// The result of verifying one zip or document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VerifyState {
    /// It is what was stored.
    Good,
    /// It was damaged, and is good again.
    Mended,
    /// It is damaged, and quarantined.
    Damaged,
    /// It was evicted or removed before it was verified.
    Gone,
}
