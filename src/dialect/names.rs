//! Resolves names in paths, in commands and in the configuration to packages.

use std::{collections::BTreeMap, sync::Arc};

use super::{RESERVED_SEGMENTS, named_upstream::NamedUpstream, names_error::PackageError, route_row::RouteRow};
use crate::package::{FolderPackage, PackageId, PackageName, PackagePattern, PackageRef};

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
    pub(super) upstreams: Vec<NamedUpstream>,
    pub(super) default_upstream: Arc<str>,
    pub(super) default_owner: Option<String>,
    /// The `[[routes]]` tables.
    pub(super) routes: Vec<RouteRow>,
    /// The routes to the official registries; empty with [`OfficialRoutes::Off`].
    pub(super) default_routes: Vec<RouteRow>,
    /// Keyed by `name` or `owner/name` in lower case. None is [`PackageRef::Routed`].
    pub(super) aliases: BTreeMap<String, PackageRef>,
    /// The patterns of names that belong to this mirror.
    pub(super) reserved: Vec<PackagePattern>,
}

impl Names {
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
}

pub(super) fn contains_ignoring_case(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}
