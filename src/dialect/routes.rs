//! The `[[routes]]` tables: which upstreams a name without an upstream may come from, in order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Names, names::NamedUpstream};
use crate::package::{
    DialectName, NameForm, NameRoute, PackageId, PackageName, PackagePattern, PatternError, RouteRule,
};

/// One `[[routes]]` table. The first one that matches a name and the request's dialect decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// A pattern of names, see [`PackagePattern`]; without an upstream.
    pub packages: String,
    /// The dialect that the route holds in; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<DialectName>,
    /// The upstreams that are asked, in this order. Empty: the packages do not exist for the mirror's clients.
    pub upstreams: Vec<String>,
}

/// Why a `[[routes]]` table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteConfigError {
    /// `packages` is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// `packages` names an upstream.
    #[error("a route is for names without an upstream; write for example \"devsapp/*\" or \"fc*\"")]
    PatternWithUpstream,
    /// The upstream is not configured.
    #[error("no upstream is called {0}")]
    UnknownUpstream(String),
    /// The upstream has no packages of that form.
    #[error("{upstream} has no packages of the form {form}{hint}")]
    OtherForm {
        /// The upstream.
        upstream: String,
        /// The form of the names that the pattern matches.
        form: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The upstream stands in the list twice.
    #[error("{0} stands here twice")]
    RepeatedUpstream(String),
    /// An earlier table decides for exactly these packages.
    #[error("table {0} has the same packages, and the first table that matches decides; remove one of the two")]
    Repeated(usize),
}

impl RouteConfigError {
    /// True when the text of the error has an example.
    pub fn has_example(&self) -> bool {
        match self {
            Self::Pattern(_) | Self::PatternWithUpstream => true,
            Self::UnknownUpstream(_) | Self::OtherForm { .. } | Self::RepeatedUpstream(_) | Self::Repeated(_) => false,
        }
    }

    /// The key of the table whose value is wrong.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Pattern(_) | Self::PatternWithUpstream | Self::Repeated(_) => "packages",
            Self::UnknownUpstream(_) | Self::OtherForm { .. } | Self::RepeatedUpstream(_) => "upstreams",
        }
    }
}

/// One route, compiled.
#[derive(Clone, Debug)]
pub(super) struct RouteRow {
    pattern: PackagePattern,
    /// The pattern as it is written.
    text: String,
    dialect: Option<DialectName>,
    upstreams: Vec<Arc<str>>,
}

/// A route as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveRoute {
    /// The pattern.
    pub packages: String,
    /// The dialect; `None` for all.
    pub dialect: Option<DialectName>,
    /// The upstreams, in order.
    pub upstreams: Vec<String>,
    /// Where it comes from.
    pub rule: RouteRule,
}

impl RouteRow {
    /// Compiles a route.
    ///
    /// # Errors
    /// See [`RouteConfigError`].
    pub(super) fn new(
        config: &RouteConfig,
        upstreams: &[NamedUpstream],
        default_owner: Option<&str>,
    ) -> Result<Self, RouteConfigError> {
        let pattern: PackagePattern = config.packages.parse()?;
        if pattern.has_upstream() {
            return Err(RouteConfigError::PatternWithUpstream);
        }
        let mut row = Vec::new();
        for name in &config.upstreams {
            let upstream = upstreams.iter().find(|upstream| *upstream.name == **name);
            let upstream = upstream.ok_or_else(|| RouteConfigError::UnknownUpstream(name.clone()))?;
            let other_form = |form, hint| RouteConfigError::OtherForm { upstream: name.clone(), form, hint };
            let owner = config.packages.split_once('/').map(|(owner, _)| owner);
            let is_dropped = || owner.is_some_and(|owner| upstream.drops_owner(owner));
            match (owner, upstream.form) {
                (None, NameForm::Repository) if default_owner.is_none() && config.packages != "*" => {
                    return Err(other_form("name", "; set names.default_owner, or write owner/name in packages"));
                }
                (Some(_), NameForm::Plain) if !is_dropped() => {
                    return Err(other_form("owner/name", "; its packages have plain names"));
                }
                _ if row.contains(&upstream.name) => return Err(RouteConfigError::RepeatedUpstream(name.clone())),
                _ => row.push(upstream.name.clone()),
            }
        }
        Ok(Self { pattern, text: config.packages.clone(), dialect: config.dialect, upstreams: row })
    }

    /// True when this earlier row decides for everything that `later` matches, because both have one pattern.
    pub(super) fn repeats(&self, later: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&later.text) && self.dialect.is_none_or(|dialect| later.dialect == Some(dialect))
    }

    fn matches(&self, name: &PackageName, dialect: DialectName) -> bool {
        self.dialect.is_none_or(|row| row == dialect) && self.pattern.matches_name(name)
    }
}

/// The routes of plain names and of `devsapp/…` while `names.official` is true. Rows whose upstreams are not configured
/// are left out.
pub(super) fn default_rows(upstreams: &[NamedUpstream]) -> Vec<RouteRow> {
    let rows: [(&str, DialectName, &[&str]); 4] = [
        ("devsapp/*", DialectName::Simple, &["official-2x", "github"]),
        ("*", DialectName::V3, &["official"]),
        ("*", DialectName::Simple, &["official-2x", "official"]),
        ("*", DialectName::Srm, &["official", "official-2x"]),
    ];
    let known = |name: &&&str| upstreams.iter().any(|upstream| *upstream.name == ***name);
    let row = |(packages, dialect, names): (&str, DialectName, &[&str])| {
        let upstreams: Vec<Arc<str>> = names.iter().filter(known).map(|&name| name.into()).collect();
        let pattern = packages.parse().ok()?;
        let text = packages.to_owned();
        (!upstreams.is_empty()).then_some(RouteRow { pattern, text, dialect: Some(dialect), upstreams })
    };
    rows.into_iter().filter_map(row).collect()
}

impl Names {
    /// Where a name without an upstream may come from in a dialect, when no source is recorded for it. The github dialect
    /// answers from forges: a row of all dialects counts there without its registries, a row of its own as it is.
    pub fn route(&self, name: &PackageName, dialect: DialectName) -> NameRoute {
        let of_row = |row: &RouteRow| {
            let fits = |id: &PackageId| {
                dialect != DialectName::Github || row.dialect == Some(dialect) || id.name.form() == NameForm::Repository
            };
            row.upstreams.iter().filter_map(|upstream| self.id_on(upstream, name)).filter(fits).collect()
        };
        if let Some(row) = self.routes.iter().find(|row| row.matches(name, dialect)) {
            return NameRoute { rule: RouteRule::Configured, candidates: of_row(row) };
        }
        let is_plain = name.form() == NameForm::Plain;
        if is_plain && let Some(id) = self.with_default_owner(name) {
            return NameRoute { rule: RouteRule::DefaultOwner, candidates: vec![id] };
        }
        // The lone `*` of a default row is for plain names; a pattern with an owner is for repositories.
        let applies = |row: &&RouteRow| (row.text == "*") == is_plain && row.matches(name, dialect);
        if let Some(row) = self.default_routes.iter().find(applies) {
            return NameRoute { rule: RouteRule::Default, candidates: of_row(row) };
        }
        if is_plain {
            return NameRoute { rule: RouteRule::NoRoute, candidates: Vec::new() };
        }
        let id = PackageId { upstream: self.default_upstream().clone(), name: name.clone() };
        NameRoute { rule: RouteRule::DefaultUpstream, candidates: vec![id] }
    }

    /// The upstreams that plain names may come from in a dialect, each once, in the order of the routes.
    pub fn upstreams_of_plain_names(&self, dialect: DialectName) -> Vec<Arc<str>> {
        let mut upstreams: Vec<Arc<str>> = Vec::new();
        let applies =
            |row: &&RouteRow| row.pattern.matches_plain_names() && row.dialect.is_none_or(|row| row == dialect);
        // A default owner decides before the default rows, and a row for every name before all that follow it.
        let default_rows = if self.default_owner().is_some() { &[][..] } else { &self.default_routes };
        for row in self.routes.iter().chain(default_rows).filter(applies) {
            for upstream in &row.upstreams {
                if !upstreams.contains(upstream) {
                    upstreams.push(upstream.clone());
                }
            }
            if row.text == "*" {
                break;
            }
        }
        upstreams
    }

    /// The package that a name is on an upstream; `None` where the upstream has no packages of that form.
    ///
    /// A plain name on a forge belongs to the default owner; the owner that a registry drops is dropped.
    pub fn id_on(&self, upstream: &str, name: &PackageName) -> Option<PackageId> {
        let upstream = self.upstream(upstream)?;
        let name = match (upstream.form, name.owner()) {
            (NameForm::Repository, Some(_)) | (NameForm::Plain, None) => name.clone(),
            (NameForm::Repository, None) => PackageName::new(self.default_owner()?, name.base_name()).ok()?,
            (NameForm::Plain, Some(owner)) if upstream.drops_owner(owner) => {
                PackageName::plain(name.base_name()).ok()?
            }
            (NameForm::Plain, Some(_)) => return None,
        };
        Some(PackageId { upstream: upstream.name.clone(), name })
    }

    /// The number of the `[[routes]]` table that decides for a name in a dialect, counted from 1.
    pub fn configured_route(&self, name: &PackageName, dialect: DialectName) -> Option<usize> {
        self.routes.iter().position(|row| row.matches(name, dialect)).map(|index| index + 1)
    }

    /// Every route in the order in which they are tried: the `[[routes]]` tables, the default owner, the default routes,
    /// the default upstream.
    pub fn effective_routes(&self) -> Vec<EffectiveRoute> {
        let show = |rule| {
            move |row: &RouteRow| EffectiveRoute {
                packages: row.text.clone(),
                dialect: row.dialect,
                upstreams: row.upstreams.iter().map(|name| name.to_string()).collect(),
                rule,
            }
        };
        let configured = self.routes.iter().map(show(RouteRule::Configured));
        let of_default_upstream = |packages: &str, rule| EffectiveRoute {
            packages: packages.to_owned(),
            dialect: None,
            upstreams: vec![self.default_upstream().to_string()],
            rule,
        };
        let default_owner = self.default_owner().map(|_| of_default_upstream("*", RouteRule::DefaultOwner));
        let defaults = self.default_routes.iter().map(show(RouteRule::Default));
        let rest = of_default_upstream("*/*", RouteRule::DefaultUpstream);
        configured.chain(default_owner).chain(defaults).chain([rest]).collect()
    }
}
