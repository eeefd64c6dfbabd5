//! The `[[routes]]` tables, compiled, and the routes to the official registries.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::named_upstream::NamedUpstream;
use crate::package::{DialectName, NameForm, PackageName, PackagePattern, PatternError};

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
    pub(super) pattern: PackagePattern,
    /// The pattern as it is written.
    pub(super) text: String,
    pub(super) dialect: Option<DialectName>,
    pub(super) upstreams: Vec<Arc<str>>,
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

    pub(super) fn matches(&self, name: &PackageName, dialect: DialectName) -> bool {
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
