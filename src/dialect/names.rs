//! Resolves names in paths, in commands and in the configuration to packages.

use std::{collections::BTreeMap, sync::Arc};

use super::{Config, RESERVED_SEGMENTS, srm::is_route_word, v3};
use crate::package::{NameError, PackageId, PackageName};

/// The upstreams, the aliases and the default owner. Immutable.
#[derive(Clone, Debug)]
pub struct Names {
    upstreams: Vec<Arc<str>>,
    default_upstream: Arc<str>,
    default_owner: Option<String>,
    /// Keyed by `name` or `owner/name` in lower case.
    aliases: BTreeMap<String, PackageId>,
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

/// Why an alias cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// The key is no name.
    #[error("the name's {0}")]
    Name(NameError),
    /// The first segment of the key is reserved.
    #[error("no path reaches it, {0} is a route of the mirror or an upstream")]
    Unreachable(String),
    /// Two keys are equal without case.
    #[error("another alias has this name; names compare without case")]
    Duplicate,
    /// The value is no package.
    #[error(transparent)]
    Package(PackageError),
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
    /// A plain name that is no alias, without a default owner.
    #[error(
        "{0} is no alias and names.default_owner is not set; write owner/repo, or set names.default_owner, for example \
         to \"devsapp\""
    )]
    NoDefaultOwner(String),
}

impl Names {
    /// Checks the `[names]` section against the names of the configured upstreams.
    ///
    /// # Errors
    /// The first name that cannot be used.
    pub fn new(config: &Config, upstreams: &[&str]) -> Result<Self, NamesError> {
        for (index, name) in upstreams.iter().enumerate() {
            let wrong = |reason| Err(NamesError::Upstream { name: (*name).to_owned(), reason });
            if PackageName::new(name, name).is_err() || name.contains("__") {
                return wrong("a name may only have letters, digits, dot, dash and single underscores");
            }
            if contains_ignoring_case(&RESERVED_SEGMENTS, name) {
                return wrong("the name is reserved for a route of the mirror");
            }
            if contains_ignoring_case(&upstreams[..index], name) {
                return wrong("the name is taken by another upstream");
            }
        }
        let upstreams: Vec<Arc<str>> = upstreams.iter().map(|name| Arc::from(*name)).collect();
        let default_upstream = upstreams.iter().find(|name| ***name == *config.default_upstream).cloned();
        let default_upstream =
            default_upstream.ok_or_else(|| NamesError::DefaultUpstream(config.default_upstream.clone()))?;
        if let Some(owner) = &config.default_owner {
            PackageName::new(owner, "x").map_err(|reason| NamesError::DefaultOwner { owner: owner.clone(), reason })?;
        }
        let default_owner = config.default_owner.clone();
        let mut names = Self { upstreams, default_upstream, default_owner, aliases: BTreeMap::new() };
        let mut aliases = BTreeMap::new();
        for (key, value) in &config.aliases {
            let wrong = |reason| NamesError::Alias {
                key: if key.contains('/') { format!("\"{key}\"") } else { key.clone() },
                package: value.clone(),
                reason,
            };
            names.check_alias(key).map_err(wrong)?;
            let package = names.parse_without_aliases(value).map_err(|error| wrong(AliasError::Package(error)))?;
            if aliases.insert(key.to_ascii_lowercase(), package).is_some() {
                return Err(wrong(AliasError::Duplicate));
            }
        }
        names.aliases = aliases;
        Ok(names)
    }

    fn check_alias(&self, key: &str) -> Result<(), AliasError> {
        let (first, second) = key.split_once('/').unwrap_or((key, "x"));
        PackageName::new(first, second).map_err(AliasError::Name)?;
        if self.is_reserved(first) {
            return Err(AliasError::Unreachable(first.to_owned()));
        }
        Ok(())
    }

    /// Parses `owner/repo` or `upstream:owner/repo`.
    fn parse_without_aliases(&self, text: &str) -> Result<PackageId, PackageError> {
        let (upstream, name) = match text.split_once(':') {
            None => (&self.default_upstream, text),
            Some((upstream, name)) => {
                let found = self.upstream(upstream);
                (found.ok_or_else(|| PackageError::UnknownUpstream(upstream.to_owned()))?, name)
            }
        };
        Ok(PackageId { upstream: upstream.clone(), name: name.parse()? })
    }

    /// Parses a package as an operator writes it: an alias, `fc3`, `owner/repo` or `upstream:owner/repo`.
    ///
    /// # Errors
    /// See [`PackageError`].
    pub fn parse_package(&self, text: &str) -> Result<PackageId, PackageError> {
        if let Some(package) = self.alias(text) {
            return Ok(package.clone());
        }
        if text.contains(['/', ':']) {
            return self.parse_without_aliases(text);
        }
        match self.resolve_plain_name(text) {
            Some(package) => Ok(package?),
            None => Err(PackageError::NoDefaultOwner(text.to_owned())),
        }
    }

    /// The upstream of paths that name none.
    pub fn default_upstream(&self) -> &Arc<str> {
        &self.default_upstream
    }

    /// The upstream of this name; compares with case.
    pub fn upstream(&self, name: &str) -> Option<&Arc<str>> {
        self.upstreams.iter().find(|upstream| ***upstream == *name)
    }

    /// Every alias (`name` or `owner/name`, lower case) with its package, in the order of the names.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &PackageId)> {
        self.aliases.iter().map(|(key, package)| (key.as_str(), package))
    }

    /// The package of an alias.
    pub(super) fn alias(&self, key: &str) -> Option<&PackageId> {
        if self.aliases.is_empty() {
            return None;
        }
        self.aliases.get(&key.to_ascii_lowercase())
    }

    /// Resolves `owner/repo` without an upstream: the alias of that form, else the repository on the default upstream.
    pub(super) fn resolve_pair(&self, owner: &str, repo: &str) -> Result<PackageId, NameError> {
        let name = PackageName::new(owner, repo)?;
        Ok(match self.alias(&name.to_string()) {
            Some(package) => package.clone(),
            None => PackageId { upstream: self.default_upstream.clone(), name },
        })
    }

    /// Resolves a plain name below the default owner; `None` if no default owner is set.
    pub(super) fn resolve_plain_name(&self, name: &str) -> Option<Result<PackageId, NameError>> {
        self.default_owner.as_deref().map(|owner| self.resolve_pair(owner, name))
    }

    fn is_reserved(&self, first: &str) -> bool {
        contains_ignoring_case(&RESERVED_SEGMENTS, first)
            || self.upstreams.iter().any(|name| name.eq_ignore_ascii_case(first))
    }

    /// True if `/owner/repo/{route word}` is parsed as this package.
    pub(super) fn has_short_path(&self, package: &PackageId) -> bool {
        let owner = package.name.owner();
        let repo = package.name.repo();
        let shadowed = self.is_reserved(owner) || (is_route_word(repo) && self.alias(owner).is_some());
        !shadowed && self.is_pair(package)
    }

    /// True if `owner/repo` without an upstream resolves to this package.
    fn is_pair(&self, package: &PackageId) -> bool {
        self.resolve_pair(package.name.owner(), package.name.repo()).is_ok_and(|found| found == *package)
    }

    /// The name of a package in the v3 dialect: an alias, a plain name, `owner__repo` or `{upstream}__owner__repo`.
    ///
    /// `None` if the owner contains `__` and no alias exists: then no name can be parsed back.
    pub fn v3_name(&self, package: &PackageId) -> Option<String> {
        v3::name(self, package)
    }

    /// The path of a package below `/repos/` in the github dialect: `owner/repo` or `upstream/owner/repo`.
    pub fn api_path(&self, package: &PackageId) -> String {
        if self.is_pair(package) { package.name.to_string() } else { format!("{}/{}", package.upstream, package.name) }
    }
}

fn contains_ignoring_case(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}
