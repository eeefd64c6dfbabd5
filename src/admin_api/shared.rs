//! Uploads of what is stored to the bucket that several mirrors share.

use serde::{Deserialize, Serialize};

use super::request;
use crate::{entry::Key, package::DialectName};

/// Uploads every recorded source, every pin and every stored zip that the bucket does not have.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PushArchives {}

request!(PushArchives, "shared/push", events PushEvent);

/// One step of the uploads.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum PushEvent {
    /// What there is to upload.
    Begin {
        /// The number of zips.
        zips: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The bucket does not take the recorded source of a name: its own record is damaged, or operators have set too many.
    Source {
        /// The name, in lower case.
        name: String,
        /// The dialect.
        dialect: DialectName,
    },
    /// Pins were compared with those of the bucket.
    Pins {
        /// Their number so far.
        pins: u64,
    },
    /// The bucket has other content for a version. That content counts; the zip that was stored here is quarantined.
    Mismatch {
        /// The key.
        key: Key,
    },
    /// A zip was uploaded, or need not be; or a pin that cannot be compared, without a size.
    Zip {
        /// The key.
        key: Key,
        /// Its length, bytes.
        size: u64,
        /// What became of it.
        state: PushState,
    },
    /// The bucket cannot be used at present: only the totals follow, and the uploads can be repeated.
    Stopped {
        /// Why.
        message: String,
    },
    /// The totals, at the end. Without them, the uploads have broken off.
    End(PushSums),
}

/// The totals of the uploads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PushSums {
    /// Pins that the bucket has.
    pub(crate) pins: u64,
    /// Zips that were uploaded.
    pub(crate) uploaded: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Zips that the bucket had before.
    pub(crate) present: u64,
    /// Zips that were evicted or removed in between.
    pub(crate) gone: u64,
    /// Versions with other content in the bucket.
    pub(crate) mismatches: u64,
    /// Zips that are not what is pinned.
    pub(crate) unpinned: u64,
    /// Zips and pins that cannot be read.
    pub(crate) unreadable: u64,
    /// Zips and pins whose pin or mark in the bucket is damaged.
    #[serde(default)]
    pub(crate) damaged: u64,
    /// Recorded sources that the bucket does not take.
    #[serde(default)]
    pub(crate) sources: u64,
}

/// What became of a zip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PushState {
    /// It was uploaded.
    Uploaded,
    /// The bucket has had it before.
    Present,
    /// It was evicted or removed in between.
    Gone,
    /// It is not what is pinned, because other content of its version counts: the bucket does not have it from this mirror.
    Unpinned,
    /// It cannot be read.
    Unreadable,
    /// Its pin or its mark in the bucket is damaged: the bucket does not have it from this mirror.
    Damaged,
}
