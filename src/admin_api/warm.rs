//! Warming: storing lists and zips before clients ask for them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FailureCode, request};
use crate::{entry::Digest, package::DialectName};

/// Stores the release list and the latest release of a package, and returns them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WarmLists {
    /// A plain name, `owner/repo`, `upstream:name`, or an alias.
    pub package: String,
    /// The dialect whose routes decide where a name without an upstream comes from; srm where it is absent.
    #[serde(default)]
    pub dialect: Option<DialectName>,
}

request!(WarmLists, "warm/lists", answer WarmListsAnswer, within std::time::Duration::from_secs(600));

/// The answer to [`WarmLists`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum WarmListsAnswer {
    /// Both are stored.
    Stored(WarmedLists),
    /// They are not.
    Failed(WarmFailure),
}

/// What is known of a package's releases.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WarmedLists {
    /// Its releases, in the upstream's order.
    pub releases: Vec<ReleaseRow>,
    /// The tag that the upstream calls latest.
    pub latest: Option<String>,
    /// The quota of its upstream.
    pub quota: Option<UpstreamQuota>,
    /// The package at its source, as `upstream:name`, where that is known.
    #[serde(default)]
    pub package: Option<String>,
}

/// A release, and what is known of its zip. The plain routes of a mirror list the same fields, but for the last two.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReleaseRow {
    /// Its tag.
    #[serde(alias = "tag_name")]
    pub tag: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was published, where the upstream says so.
    pub published_at: Option<Timestamp>,
    /// True when it is never the latest release.
    #[serde(default)]
    pub prerelease: bool,
    /// True when its zip is known to be stored.
    #[serde(default)]
    pub stored: bool,
    /// The length of its zip in bytes, where it is known.
    #[serde(default)]
    pub len: Option<u64>,
}

/// What an upstream still allows. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpstreamQuota {
    /// The name of the upstream.
    pub upstream: String,
    /// Requests left until the quota is reset.
    pub remaining: Option<u64>,
    /// Seconds until then.
    pub reset_in: Option<u64>,
}

/// Asks when a version was first seen. Nothing is fetched.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetFirstSeen {
    /// As in [`WarmLists`].
    pub package: String,
    /// A tag or a commit.
    pub version: String,
}

request!(GetFirstSeen, "warm/first-seen", answer FirstSeen);

/// The answer to [`GetFirstSeen`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FirstSeen {
    /// `None` for a version that was never seen.
    pub first_seen: Option<Timestamp>,
}

/// Asks whether a version is on disk. Nothing is fetched.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetStoredState {
    /// As in [`WarmLists`].
    pub package: String,
    /// A tag or a commit.
    pub version: String,
}

request!(GetStoredState, "warm/stored", answer StoredState);

/// The answer to [`GetStoredState`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredState {
    /// True when it is on disk, by the index.
    pub stored: bool,
    /// The most bytes on disk: `disk.limit`.
    pub limit: u64,
}

/// Stores the zip of a version: starts its fill or joins it, and reports it to its end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WarmArchive {
    /// As in [`WarmLists`].
    pub package: String,
    /// A tag, a branch, a commit, or a name that is resolved in this order.
    pub version: String,
}

request!(WarmArchive, "warm/zip", events WarmEvent);

/// One step of a fill. Nothing follows `Stored` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum WarmEvent {
    /// Bytes arrived.
    Progress {
        /// Bytes so far.
        bytes: u64,
        /// The announced length.
        total: Option<u64>,
    },
    /// The zip is on disk.
    Stored(FilledArchive),
    /// It is not.
    Failed(WarmFailure),
}

/// A zip that is stored now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilledArchive {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length, bytes.
    pub len: u64,
    /// True when it was stored before the request.
    pub cached: bool,
    /// Its tag, where the version was resolved to one.
    pub tag: Option<String>,
    /// Its full commit, where that is known.
    pub commit: Option<String>,
    /// The quota of its upstream.
    pub quota: Option<UpstreamQuota>,
}

/// Why lists or a zip are not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WarmFailure {
    /// The cause.
    pub code: FailureCode,
    /// One or two sentences for a person.
    pub message: String,
    /// Seconds after which another attempt may help.
    pub retry_after: Option<u64>,
    /// The quota of the upstream.
    pub quota: Option<UpstreamQuota>,
}
