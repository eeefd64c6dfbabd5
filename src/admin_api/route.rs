//! Where names come from: shown by dialect, changed by the operator, imported from a bundle.

use serde::{Deserialize, Serialize};

use super::request;
use crate::{entry::RecordedSource, package::DialectName};

/// Asks where a name comes from. No upstream is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowRoute {
    /// An alias, a plain name, `owner/repo` or `upstream:name`.
    pub name: String,
}

request!(ShowRoute, "route", answer RouteReport);

/// Where a name comes from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RouteReport {
    /// The name as it was asked.
    pub name: String,
    /// One entry per dialect that has such names.
    pub dialects: Vec<DialectRoute>,
    /// The packages of all dialects, each once.
    pub packages: Vec<PackageStock>,
}

/// Where a name comes from in one dialect.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DialectRoute {
    /// The dialect.
    pub dialect: DialectName,
    /// What decides.
    pub rule: SourceRule,
    /// The number of the name's `[[routes]]` table, counted from 1. It decides only where no source is recorded.
    pub table: Option<usize>,
    /// The packages that are asked, in order, as `upstream:name`.
    pub asked: Vec<String>,
    /// The recorded source, whether it decides or not.
    pub recorded: Option<RecordedSource>,
}

/// What decides where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceRule {
    /// The name itself: it has its upstream's name in front.
    Named,
    /// `names.aliases`.
    Alias,
    /// It is published on this mirror: no upstream is asked.
    Published,
    /// `host.names` or `host.claim`: it belongs to this mirror, and no upstream is asked.
    Reserved,
    /// The recorded source.
    Recorded,
    /// The recorded source, which has left the route: requests are refused.
    SourceChanged,
    /// A `[[routes]]` table.
    Configured,
    /// `names.default_owner`.
    DefaultOwner,
    /// The default routes, `names.official`.
    Default,
    /// `names.default_upstream`.
    DefaultUpstream,
    /// Nothing: such a name does not exist here.
    NoRoute,
    /// A rule that this version does not have.
    #[serde(other)]
    Other,
}

/// What is stored of a package.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PackageStock {
    /// `upstream:name`.
    pub package: String,
    /// False when `packages.allow` or `packages.deny` refuses it.
    pub allowed: bool,
    /// The number of stored zips.
    pub versions: usize,
    /// The number of stored release documents.
    pub documents: usize,
}

/// Sets the recorded source of a name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetRoute {
    /// A plain name or `owner/repo`.
    pub name: String,
    /// The name of an upstream.
    pub upstream: String,
    /// The dialect; `None` for every one that can have the name from that upstream.
    #[serde(default)]
    pub dialect: Option<DialectName>,
}

request!(SetRoute, "route/set", answer SetRouteReport);

/// What [`SetRoute`] did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetRouteReport {
    /// One entry per dialect.
    pub dialects: Vec<DialectSource>,
}

/// The source of a name in one dialect.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DialectSource {
    /// The dialect.
    pub dialect: DialectName,
    /// The package that the name leads to now, as `upstream:name`.
    pub package: String,
    /// The upstream that was recorded before.
    pub previous: Option<String>,
}

/// Records a source of a bundle, unless one is recorded here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportSource {
    /// What the exporting mirror has recorded.
    pub source: RecordedSource,
    /// True to record nothing.
    #[serde(default)]
    pub dry_run: bool,
}

request!(ImportSource, "import/source", answer ImportedSource);

/// What became of a source of a bundle.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum ImportedSource {
    /// It is recorded now or, in a dry run, would be.
    Recorded,
    /// The same one was recorded before.
    Known,
    /// Another one is recorded here, and stays.
    Different {
        /// The upstream that is recorded here.
        local: String,
    },
    /// It is not recorded: the routes of this mirror do not lead there.
    OffRoute,
}
