//! Where a name without an upstream may come from.

use serde::{Deserialize, Serialize};

use super::PackageId;

/// A dialect as routes and recorded sources name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialectName {
    /// The routes of the Serverless Registry Model; also what commands use.
    Srm,
    /// GitHub's REST API.
    Github,
    /// The 2.x registry.
    Simple,
    /// The 3.x registry.
    V3,
}

impl DialectName {
    /// Every dialect.
    pub const ALL: [Self; 4] = [Self::Srm, Self::Simple, Self::V3, Self::Github];

    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Srm => "srm",
            Self::Github => "github",
            Self::Simple => "simple",
            Self::V3 => "v3",
        }
    }
}

/// What decides where a name comes from when no source is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteRule {
    /// A `[[routes]]` table.
    Configured,
    /// `names.default_owner`.
    DefaultOwner,
    /// A default route of plain names and of `devsapp/…`.
    Default,
    /// `names.default_upstream`: a repository that no route matches.
    DefaultUpstream,
    /// Nothing: a plain name that no route matches.
    NoRoute,
}

/// Where a name may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRoute {
    /// What decides.
    pub rule: RouteRule,
    /// The package on each upstream, in the order in which they are asked.
    pub candidates: Vec<PackageId>,
}

impl NameRoute {
    /// True when the first of the candidates that exists is recorded as the source of the name.
    pub fn is_searched(&self) -> bool {
        !self.candidates.is_empty() && !matches!(self.rule, RouteRule::NoRoute | RouteRule::DefaultUpstream)
    }
}
