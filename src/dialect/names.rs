//! Resolves names in paths, in commands and in the configuration to packages.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    AliasError, Config, DialectName, HostedNameError, HostedNames, RESERVED_SEGMENTS, aliases,
    routes::{RouteConfig, RouteConfigError, RouteRow, default_rows},
    srm::is_route_word,
    v3,
};
use crate::package::{FolderPackage, NameError, NameForm, PackageId, PackageName, PackagePattern, PackageRef};

/// An upstream as names refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUpstream {
    /// Its configured name.
    pub name: Arc<str>,
    /// The form of its packages' names.
    pub form: NameForm,
    /// An owner that may stand in front of a plain name, and is dropped.
    pub dropped_owner: Option<&'static str>,
    /// True for the packages that are published on this mirror.
    pub is_hosted: bool,
}

impl NamedUpstream {
    /// A forge.
    pub fn forge(name: &str) -> Self {
        Self { name: name.into(), form: NameForm::Repository, dropped_owner: None, is_hosted: false }
    }

    /// A registry, whose packages have plain names.
    pub fn registry(name: &str, dropped_owner: Option<&'static str>) -> Self {
        Self { name: name.into(), form: NameForm::Plain, dropped_owner, is_hosted: false }
    }

    /// True when this owner in front of a plain name is dropped.
    pub(super) fn drops_owner(&self, owner: &str) -> bool {
        self.dropped_owner.is_some_and(|dropped| dropped.eq_ignore_ascii_case(owner))
    }
}

/// Whether plain names that nothing else decides about come from the official registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfficialRoutes {
    /// They do.
    On,
    /// They come from nowhere.
    Off,
}

/// The upstreams, the aliases, the routes and the default owner. Immutable.
#[derive(Clone, Debug)]
pub struct Names {
    upstreams: Vec<NamedUpstream>,
    default_upstream: Arc<str>,
    default_owner: Option<String>,
    /// The `[[routes]]` tables.
    pub(super) routes: Vec<RouteRow>,
    /// The routes to the official registries; empty with [`OfficialRoutes::Off`].
    pub(super) default_routes: Vec<RouteRow>,
    /// Keyed by `name` or `owner/name` in lower case. None is [`PackageRef::Routed`].
    aliases: BTreeMap<String, PackageRef>,
    /// The patterns of names that belong to this mirror.
    pub(super) reserved: Vec<PackagePattern>,
}

/// A name in the configuration that cannot be used. The text is one line: key, value, reason and an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// The name of an upstream.
    #[error("upstreams.{name}: {reason}; write for example [upstreams.github]")]
    Upstream {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `names.default_upstream` names no configured upstream.
    #[error("names.default_upstream = \"{0}\": no upstream has this name; write for example \"github\"")]
    DefaultUpstream(String),
    /// `names.default_owner` is no owner.
    #[error("names.default_owner = \"{owner}\": {reason}; write for example \"devsapp\"")]
    DefaultOwner {
        /// The value.
        owner: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// An entry of `host.names` or `host.claim`.
    #[error("host.{key} has \"{name}\": {reason}")]
    Hosted {
        /// The key.
        key: &'static str,
        /// The entry.
        name: String,
        /// What is wrong with it.
        reason: HostedNameError,
    },
    /// A `[[routes]]` table.
    #[error("routes, table {number}: {}: {reason}", reason.key())]
    Route {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: RouteConfigError,
    },
    /// An entry of `names.aliases`.
    #[error("names.aliases.{key} = \"{package}\": {reason}; write for example {key} = \"devsapp/fc3\"")]
    Alias {
        /// The key as TOML writes it.
        key: String,
        /// The value.
        package: String,
        /// What is wrong with either.
        reason: AliasError,
    },
}

/// Why a text is no package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// The owner or the repository is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The upstream is not configured.
    #[error("no upstream is called {0}")]
    UnknownUpstream(String),
}

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

    /// Parses `owner/repo` on the default upstream, or `upstream:name`.
    pub(super) fn parse_id(&self, text: &str) -> Result<PackageId, PackageError> {
        let (upstream, name) = text.split_once(':').unwrap_or((&self.default_upstream, text));
        let upstream = self.upstream(upstream).ok_or_else(|| PackageError::UnknownUpstream(upstream.to_owned()))?;
        let name = match name.split_once('/') {
            Some((owner, rest)) if upstream.drops_owner(owner) => rest,
            _ => name,
        };
        Ok(PackageId { upstream: upstream.name.clone(), name: PackageName::parse_as(upstream.form, name)? })
    }

    /// Parses a package as an operator writes it: an alias, `fc3`, `owner/repo` or `upstream:name`.
    ///
    /// # Errors
    /// See [`PackageError`].
    pub fn parse_package(&self, text: &str) -> Result<PackageRef, PackageError> {
        match self.alias(text) {
            Some(package) => Ok(package.clone()),
            None if text.contains(':') => Ok(self.parse_id(text)?.into()),
            None => Ok(PackageRef::Routed(text.parse()?)),
        }
    }

    /// The upstream of repositories that name none.
    pub fn default_upstream(&self) -> &Arc<str> {
        &self.default_upstream
    }

    pub(super) fn default_owner(&self) -> Option<&str> {
        self.default_owner.as_deref()
    }

    /// Every upstream.
    pub fn upstreams(&self) -> &[NamedUpstream] {
        &self.upstreams
    }

    /// The upstream of this name; compares with case.
    pub fn upstream(&self, name: &str) -> Option<&NamedUpstream> {
        self.upstreams.iter().find(|upstream| *upstream.name == *name)
    }

    /// Every alias of a package (`name` or `owner/name`, lower case), in the order of the names.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &PackageId)> {
        self.aliases.iter().filter_map(|(key, package)| match package {
            PackageRef::Id(package) => Some((key.as_str(), package)),
            PackageRef::Folder(_) | PackageRef::Routed(_) => None,
        })
    }

    /// Every folder that an alias names, in the order of the names.
    pub fn folders(&self) -> impl Iterator<Item = &Arc<FolderPackage>> {
        self.aliases.values().filter_map(|package| match package {
            PackageRef::Folder(folder) => Some(folder),
            PackageRef::Id(_) | PackageRef::Routed(_) => None,
        })
    }

    /// The package or the folder of an alias.
    pub(super) fn alias(&self, key: &str) -> Option<&PackageRef> {
        if self.aliases.is_empty() {
            return None;
        }
        self.aliases.get(&key.to_ascii_lowercase())
    }

    /// A name without an upstream: the alias of that name, else to be routed.
    pub(super) fn reference(&self, name: PackageName) -> PackageRef {
        match self.alias(&name.to_string()) {
            Some(package) => package.clone(),
            None => PackageRef::Routed(name),
        }
    }

    /// A plain name as the default owner's repository; `None` without a default owner.
    pub(super) fn with_default_owner(&self, name: &PackageName) -> Option<PackageId> {
        let pair = PackageName::new(self.default_owner()?, name.base_name()).ok()?;
        Some(match self.alias(&pair.to_string()) {
            Some(PackageRef::Id(package)) => package.clone(),
            // No alias of the form `owner/name` names a folder.
            _ => PackageId { upstream: self.default_upstream.clone(), name: pair },
        })
    }

    pub(super) fn is_reserved(&self, first: &str) -> bool {
        contains_ignoring_case(&RESERVED_SEGMENTS, first)
            || self.upstreams.iter().any(|upstream| upstream.name.eq_ignore_ascii_case(first))
    }

    /// True if `/owner/repo/{route word}` always leads to this package in the srm dialect.
    pub(super) fn has_short_path(&self, package: &PackageId) -> bool {
        let Some(owner) = package.name.owner() else { return false };
        let shadowed =
            self.is_reserved(owner) || (is_route_word(package.name.base_name()) && self.alias(owner).is_some());
        !shadowed && self.leads_to(&package.name, DialectName::Srm, package)
    }

    /// True if a name without an upstream leads to this package and to no other.
    pub(super) fn leads_to(&self, name: &PackageName, dialect: DialectName, package: &PackageId) -> bool {
        match self.reference(name.clone()) {
            PackageRef::Id(id) => id == *package,
            PackageRef::Folder(_) => false,
            PackageRef::Routed(name) if HostedNames::of(self).has(package) => {
                HostedNames::of(self).id(&name, dialect).is_some_and(|id| id == *package)
            }
            PackageRef::Routed(name) => self.route(&name, dialect).candidates == std::slice::from_ref(package),
        }
    }

    /// The name of a package in the v3 dialect: an alias, a plain name, `owner__repo`, `{upstream}__name` or
    /// `{upstream}__owner__repo`.
    ///
    /// `None` if the owner contains `__` and no alias exists: then no name can be parsed back.
    pub fn v3_name(&self, package: &PackageId) -> Option<String> {
        v3::name(self, package)
    }

    /// The name in the v3 dialect that leads to this package whatever the routes say: `{upstream}__name` or
    /// `{upstream}__owner__repo`. `None` if it cannot be parsed back.
    pub fn v3_name_on_upstream(&self, package: &PackageId) -> Option<String> {
        v3::name_on_upstream(self, package)
    }

    /// The path of a package below `/repos/` in the github dialect: `owner/repo` or `upstream/owner/repo`; for a plain
    /// name an alias with an owner, or the owner that the registry drops. A plain name without either has no path that
    /// leads to it: `upstream/name`.
    pub fn api_path(&self, package: &PackageId) -> String {
        let leads = |name: &PackageName| self.leads_to(name, DialectName::Github, package);
        let name = match package.name.form() {
            NameForm::Repository => Some(package.name.clone()).filter(leads),
            NameForm::Plain => {
                let aliases = self.aliases().filter(|(_, aliased)| *aliased == package);
                let dropped = self.upstream(&package.upstream).and_then(|upstream| upstream.dropped_owner);
                let with_dropped = dropped.and_then(|owner| PackageName::new(owner, package.name.base_name()).ok());
                let aliases = aliases.filter_map(|(key, _)| PackageName::parse_as(NameForm::Repository, key).ok());
                aliases.chain(with_dropped).find(leads)
            }
        };
        name.map_or_else(|| format!("{}/{}", package.upstream, package.name), |name| name.to_string())
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

fn contains_ignoring_case(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}
