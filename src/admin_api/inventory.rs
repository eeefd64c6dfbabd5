//! What is stored: lists, figures, removal, marks, pins.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BULK_TIMEOUT, request};
use crate::{
    entry::{Digest, Key},
    package::ModelFinding,
    value::Period,
};

/// Lists the stored zips that a pattern selects. An absent pattern selects all of them, an empty one is an error: it may
/// be an unset variable.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListArchives {
    /// Such as `devsapp/*`, `fc*`, `official:*`, `devsapp/fc3@1.*`, or `*` for everything.
    pub pattern: Option<String>,
    /// The order of the list.
    pub sort: InventoryOrder,
    /// The most zips of the list.
    pub limit: Option<usize>,
    /// True to list the findings about the package model, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub findings: bool,
}

request!(ListArchives, "stock", events ArchiveRow);

/// The order in which stored zips are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InventoryOrder {
    /// Upstream, package, version.
    #[default]
    Name,
    /// Largest first.
    Size,
    /// Oldest first.
    Age,
    /// Least recently used first.
    Used,
    /// Most hits first.
    Hits,
}

/// What a zip was fetched by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefKind {
    /// A tag.
    #[default]
    Tag,
    /// A full commit.
    Commit,
    /// A moving version of a registry, such as `dev`: its content changes.
    Moving,
}

/// One stored zip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ArchiveRow {
    /// Its key.
    pub key: Key,
    /// The name of its upstream.
    pub upstream: String,
    /// `owner/repo`, in lower case because the key has it so, or a plain name.
    pub package: String,
    /// What it was fetched by.
    pub kind: RefKind,
    /// The tag or the commit.
    pub version: String,
    /// Its length, bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// When it was fetched.
    pub stored_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
    /// Answers from memory or disk since it was stored.
    pub hits: u64,
    /// Bytes that these answers took.
    pub served: u64,
    /// True when it is never evicted.
    pub kept: bool,
    /// True when its digest is pinned.
    pub pinned: bool,
    /// The commit it was made from, where that is known.
    pub commit: Option<String>,
    /// Where it does not conform to the package model. `None` where that was not asked for, and where an earlier release
    /// has verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<ModelFinding>>,
}

/// Asks for the figures of the cache.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadStats {}

request!(ReadStats, "stats", answer Stats);

/// What uses the space, and what it has answered. Hits and bytes served are those of the zips that are stored now, since
/// they were stored.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// The memory tier.
    pub memory: MemoryStats,
    /// The disk tier.
    pub disk: DiskStats,
    /// The zips of each upstream.
    pub upstreams: BTreeMap<String, StatsSum>,
    /// The number of packages with stored zips.
    pub packages: usize,
    /// The packages with the most bytes.
    pub top: Vec<PackageStats>,
    /// The packages with the most hits.
    pub busiest: Vec<PackageStats>,
    /// The number of running downloads.
    pub downloads: usize,
    /// The credentials of the upstreams. No secrets.
    #[serde(default)]
    pub credentials: Vec<CredentialStats>,
    /// The requests that wait for an upstream now; no empty queue.
    #[serde(default)]
    pub queues: Vec<QueueStats>,
    /// Requests and connections that were refused since the start, by the key of the limit in `[clients]`.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

/// The requests that wait for a place at the gate of one upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct QueueStats {
    /// The name of the upstream.
    pub upstream: String,
    /// `documents` or `downloads`.
    pub places: String,
    /// The number of requests.
    pub waiting: usize,
}

/// The state of one credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CredentialStats {
    /// The name of its upstream.
    pub upstream: String,
    /// The variable's or the file's name; for a GitHub App its id.
    pub credential: String,
    /// For whose packages it is out of use.
    pub refused: Vec<RefusedCredential>,
    /// Requests left until `reset`.
    pub remaining: Option<u64>,
    /// When the quota is restored.
    pub reset: Option<Timestamp>,
    /// For how many seconds no request is sent with it.
    pub paused_s: Option<u64>,
}

/// One refusal of a credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefusedCredential {
    /// Whose packages; absent for all.
    pub owner: Option<String>,
    /// The class of the reason, such as `bad-credential`.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// The figures of the memory tier.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemoryStats {
    /// Bytes in use.
    pub bytes: u64,
    /// The most bytes.
    pub limit: u64,
    /// The number of zips.
    pub objects: u64,
    /// Answers from memory.
    pub hits: u64,
    /// Bytes that these answers took.
    pub served: u64,
}

/// The figures of the disk tier.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskStats {
    /// Bytes in use.
    pub bytes: u64,
    /// The most bytes: `disk.limit`.
    pub limit: u64,
    /// The number of zips.
    pub objects: u64,
    /// Bytes of zips with their sidecars.
    pub zips: u64,
    /// Bytes of documents.
    pub documents: u64,
    /// Bytes of quarantined files.
    pub quarantine: u64,
    /// Answers from disk.
    pub hits: u64,
    /// Bytes that these answers took.
    pub served: u64,
}

/// A sum over stored zips.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StatsSum {
    /// Their number.
    pub zips: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What they have answered.
    pub hits: u64,
    /// Bytes that these answers took.
    pub served: u64,
}

/// The figures of one package.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PackageStats {
    /// The sum over its zips.
    #[serde(flatten)]
    pub sum: StatsSum,
    /// The name of its upstream.
    pub upstream: String,
    /// `owner/repo`, or a plain name.
    pub package: String,
}

/// Removes the zips that a pattern selects, and the documents of packages that are selected in every version.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoveArchives {
    /// What is removed; it is required.
    pub pattern: Option<String>,
    /// True to report what would be removed and remove nothing.
    pub dry_run: bool,
    /// Remove nothing but what a dry run has found.
    pub plan: Option<RemovalPlan>,
    /// Remove the pins too: the next fetch may have other content.
    pub forget: bool,
}

request!(RemoveArchives, "rm", answer RemovalReport, within BULK_TIMEOUT);

/// Removes quarantined files, and zips that were not used for a period and are not kept.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CollectGarbage {
    /// The zips that `unused` applies to; all where it is absent.
    pub pattern: Option<String>,
    /// True to report what would be removed and remove nothing.
    pub dry_run: bool,
    /// Remove nothing but what a dry run has found.
    pub plan: Option<RemovalPlan>,
    /// Remove zips that were not used for this long; none where it is absent.
    pub unused: Option<Period>,
}

request!(CollectGarbage, "gc", answer RemovalReport, within BULK_TIMEOUT);

/// What a dry run has found: a removal after it leaves the zips that were stored since.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemovalPlan {
    /// When the dry run began.
    pub planned_at: Timestamp,
    /// The keys that were marked as kept while nothing was stored under them.
    #[serde(default)]
    pub marks: BTreeSet<Key>,
}

/// How much was removed or, after a dry run, would be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemovalReport {
    /// The number of zips.
    pub zips: usize,
    /// Bytes on disk that are freed.
    pub bytes: u64,
    /// The number of documents.
    pub documents: usize,
    /// The number of pins.
    pub forgotten: usize,
    /// The number of marks on keys under which nothing is stored.
    pub marks: usize,
    /// Bytes of quarantined files.
    pub quarantine: u64,
    /// For the removal after a dry run.
    pub plan: RemovalPlan,
    /// True when nothing was removed.
    pub dry_run: bool,
    /// True when the other mirrors of the bucket remove what they have of it, too.
    #[serde(default)]
    pub spreads: bool,
}

/// Marks the zips that a pattern selects as never to be evicted, or takes the mark away.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeepArchives {
    /// What is marked; it is required.
    pub pattern: Option<String>,
    /// False to take the mark away.
    pub kept: bool,
    /// True to report what would change and change nothing.
    pub dry_run: bool,
}

impl Default for KeepArchives {
    fn default() -> Self {
        Self { pattern: None, kept: true, dry_run: false }
    }
}

request!(KeepArchives, "keep", answer KeepReport, within BULK_TIMEOUT);

/// How many marks were changed or, after a dry run, would be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeepReport {
    /// The number of zips that were selected.
    pub zips: usize,
    /// The number of those that have, or would have, the mark that was asked for.
    pub marked: usize,
    /// The mark that was asked for.
    pub kept: bool,
    /// The number of marks taken from keys under which nothing is stored.
    pub marks: usize,
    /// True when nothing was changed.
    pub dry_run: bool,
    /// True when the other mirrors of the bucket mark what they have of it, too.
    #[serde(default)]
    pub spreads: bool,
}

/// Lists the stored zips that a pattern selects, with the time at which each was first seen.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListPins {
    /// As in [`ListArchives`].
    pub pattern: Option<String>,
}

request!(ListPins, "pins", events PinnedArchive);

/// A stored zip and when it was first seen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PinnedArchive {
    /// The zip.
    #[serde(flatten)]
    pub archive: ArchiveRow,
    /// When its key was first seen.
    pub first_seen: Timestamp,
}
