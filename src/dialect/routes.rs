//! The `[[routes]]` tables: which upstreams a name without an upstream may come from, in order.

use std::sync::Arc;

use super::{Names, route_row::RouteRow};
use crate::package::{DialectName, NameForm, NameRoute, PackageId, PackageName, RouteRule};

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
