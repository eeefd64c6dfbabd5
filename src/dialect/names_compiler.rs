//! Compiles `[names]` and `[[routes]]` of the configuration.

use std::collections::BTreeMap;

use super::{
    Config, RESERVED_SEGMENTS, aliases,
    named_upstream::NamedUpstream,
    names::{Names, OfficialRoutes, contains_ignoring_case},
    names_error::{AliasError, NamesError},
    route_row::{RouteConfig, RouteConfigError, RouteRow, default_rows},
};
use crate::package::{NameForm, PackageName};

impl Names {
    /// Checks `[names]` and `[[routes]]` against the configured upstreams.
    ///
    /// # Errors
    /// The first name that cannot be used.
    pub fn new(
        config: &Config,
        routes: &[RouteConfig],
        upstreams: Vec<NamedUpstream>,
        official: OfficialRoutes,
    ) -> Result<Self, NamesError> {
        check_upstreams(&upstreams)?;
        let default_upstream = upstreams.iter().find(|upstream| *upstream.name == *config.default_upstream);
        let default_upstream = default_upstream.filter(|upstream| upstream.form == NameForm::Repository);
        let default_upstream =
            default_upstream.ok_or_else(|| NamesError::DefaultUpstream(config.default_upstream.clone()))?.name.clone();
        if let Some(owner) = &config.default_owner {
            PackageName::new(owner, "x").map_err(|reason| NamesError::DefaultOwner { owner: owner.clone(), reason })?;
        }
        let default_owner = config.default_owner.clone();
        let compile = |(index, row): (usize, &RouteConfig)| {
            let row = RouteRow::new(row, &upstreams, default_owner.as_deref());
            row.map_err(|reason| NamesError::Route { number: index + 1, reason })
        };
        let routes = routes.iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()?;
        for (index, row) in routes.iter().enumerate() {
            if let Some(earlier) = routes[..index].iter().position(|earlier| earlier.repeats(row)) {
                let reason = RouteConfigError::Repeated(earlier + 1);
                return Err(NamesError::Route { number: index + 1, reason });
            }
        }
        let default_routes = match official {
            OfficialRoutes::On => default_rows(&upstreams),
            OfficialRoutes::Off => Vec::new(),
        };
        let aliases = BTreeMap::new();
        let reserved = Vec::new();
        let mut names = Self { upstreams, default_upstream, default_owner, routes, default_routes, aliases, reserved };
        let mut aliases = BTreeMap::new();
        for (key, value) in &config.aliases {
            let wrong = |reason| NamesError::Alias {
                key: if key.contains('/') { format!("\"{key}\"") } else { key.clone() },
                package: value.clone(),
                reason,
            };
            aliases::check_key(&names, key).map_err(wrong)?;
            let package = aliases::parse_value(&names, key, value).map_err(wrong)?;
            if aliases.insert(key.to_ascii_lowercase(), package).is_some() {
                return Err(wrong(AliasError::Duplicate));
            }
        }
        names.aliases = aliases;
        Ok(names)
    }
}

fn check_upstreams(upstreams: &[NamedUpstream]) -> Result<(), NamesError> {
    for (index, NamedUpstream { name, .. }) in upstreams.iter().enumerate() {
        let wrong = |reason| Err(NamesError::Upstream { name: name.to_string(), reason });
        if PackageName::plain(name).is_err() || name.contains("__") {
            return wrong("a name may only have letters, digits, dot, dash and single underscores");
        }
        if contains_ignoring_case(&RESERVED_SEGMENTS, name) {
            return wrong("the name is reserved for a route of the mirror");
        }
        if upstreams[..index].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            return wrong("the name is taken by another upstream");
        }
    }
    Ok(())
}
