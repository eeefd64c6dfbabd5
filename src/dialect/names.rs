//! From names in a path or in a configuration to packages.

use std::{collections::BTreeMap, sync::Arc};

use super::{Config, RESERVED, srm::is_route_word, v3};
use crate::package::{NameError, PackageId, PackageName};

/// Everything that gives a name its meaning: the upstreams, the aliases and the default owner. Never changes.
#[derive(Clone, Debug)]
pub struct Names {
    upstreams: Vec<Arc<str>>,
    default_upstream: Arc<str>,
    default_owner: Option<String>,
    /// By `name` or `owner/name` in lower case.
    aliases: BTreeMap<String, PackageId>,
}

impl Names {
    /// Checks the section against the configured upstreams' names.
    ///
    /// # Errors
    /// One line that names the key, its value, the reason and an example.
    pub fn build(config: &Config, upstreams: &[&str]) -> Result<Self, String> {
        for (at, name) in upstreams.iter().enumerate() {
            let wrong = |why: &str| Err(format!("upstreams.{name}: {why}; write for example [upstreams.github]"));
            if PackageName::new(name, name).is_err() || name.contains("__") {
                return wrong("a name may only have letters, digits, dot, dash and single underscores");
            }
            if is_one_of(name, &RESERVED) {
                return wrong("the name is reserved for a route of the mirror");
            }
            if is_one_of(name, &upstreams[..at]) {
                return wrong("the name is taken by another upstream");
            }
        }
        let upstreams: Vec<Arc<str>> = upstreams.iter().map(|name| Arc::from(*name)).collect();
        let Some(default_upstream) = upstreams.iter().find(|name| ***name == *config.default_upstream).cloned() else {
            return Err(format!(
                "names.default_upstream = \"{}\": no upstream has this name; write for example \"github\"",
                config.default_upstream
            ));
        };
        if let Some(owner) = &config.default_owner {
            PackageName::new(owner, "x")
                .map_err(|why| format!("names.default_owner = \"{owner}\": {why}; write for example \"devsapp\""))?;
        }
        let default_owner = config.default_owner.clone();
        let mut names = Self { upstreams, default_upstream, default_owner, aliases: BTreeMap::new() };
        let mut aliases = BTreeMap::new();
        for (key, value) in &config.aliases {
            let shown = if key.contains('/') { format!("\"{key}\"") } else { key.clone() };
            let wrong = |why: String| {
                format!("names.aliases.{shown} = \"{value}\": {why}; write for example {shown} = \"devsapp/fc3\"")
            };
            names.check_alias(key).map_err(wrong)?;
            let package = names.written(value).map_err(wrong)?;
            if aliases.insert(key.to_ascii_lowercase(), package).is_some() {
                return Err(wrong("another alias has this name, names compare without case".into()));
            }
        }
        names.aliases = aliases;
        Ok(names)
    }

    fn check_alias(&self, key: &str) -> Result<(), String> {
        let (first, second) = key.split_once('/').unwrap_or((key, "x"));
        PackageName::new(first, second).map_err(|why| format!("the name's {why}"))?;
        if self.is_reserved(first) {
            return Err(format!("no path reaches it, {first} is a route of the mirror or an upstream"));
        }
        Ok(())
    }

    /// Reads `owner/repo` or `upstream:owner/repo`, without aliases.
    fn written(&self, text: &str) -> Result<PackageId, String> {
        let (upstream, name) = match text.split_once(':') {
            None => (&self.default_upstream, text),
            Some((upstream, name)) => {
                (self.upstream(upstream).ok_or_else(|| format!("no upstream is called {upstream}"))?, name)
            }
        };
        let name = name.parse().map_err(|why: NameError| why.0)?;
        Ok(PackageId { upstream: upstream.clone(), name })
    }

    /// Reads a package as an operator writes it: `fc3`, `owner/repo` or `upstream:owner/repo`.
    ///
    /// # Errors
    /// A clause that says what is wrong with it.
    pub fn package(&self, text: &str) -> Result<PackageId, String> {
        if let Some(package) = self.alias(text) {
            return Ok(package.clone());
        }
        if text.contains(['/', ':']) {
            return self.written(text);
        }
        match self.plain(text) {
            Some(found) => found.map_err(|why| why.0),
            None => Err(format!(
                "{text} is no alias and names.default_owner is not set; write owner/repo, or set names.default_owner, \
                 for example to \"devsapp\""
            )),
        }
    }

    /// The upstream of paths that name none.
    pub fn default_upstream(&self) -> &Arc<str> {
        &self.default_upstream
    }

    /// The upstream of exactly this name.
    pub fn upstream(&self, name: &str) -> Option<&Arc<str>> {
        self.upstreams.iter().find(|upstream| ***upstream == *name)
    }

    /// Every alias (`name` or `owner/name`, lower case) and its package, in the order of the names.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &PackageId)> {
        self.aliases.iter().map(|(key, package)| (key.as_str(), package))
    }

    /// The package an alias stands for.
    pub(super) fn alias(&self, key: &str) -> Option<&PackageId> {
        if self.aliases.is_empty() {
            return None;
        }
        self.aliases.get(&key.to_ascii_lowercase())
    }

    /// `owner/repo` where no upstream is named: an alias of that spelling, else on the default upstream.
    pub(super) fn pair(&self, owner: &str, repo: &str) -> Result<PackageId, NameError> {
        let name = PackageName::new(owner, repo)?;
        Ok(match self.alias(&name.to_string()) {
            Some(package) => package.clone(),
            None => PackageId { upstream: self.default_upstream.clone(), name },
        })
    }

    /// A plain name under the default owner; `None` where there is no default owner.
    pub(super) fn plain(&self, name: &str) -> Option<Result<PackageId, NameError>> {
        self.default_owner.as_deref().map(|owner| self.pair(owner, name))
    }

    fn is_reserved(&self, first: &str) -> bool {
        is_one_of(first, &RESERVED) || self.upstreams.iter().any(|name| name.eq_ignore_ascii_case(first))
    }

    /// True when `/owner/repo/{route word}` is read as this package.
    pub(super) fn is_direct(&self, package: &PackageId) -> bool {
        let owner = package.name.owner();
        let repo = package.name.repo();
        let shadowed = self.is_reserved(owner) || (is_route_word(repo) && self.alias(owner).is_some());
        !shadowed && self.is_pair(package)
    }

    /// True when `owner/repo` without an upstream means this package.
    fn is_pair(&self, package: &PackageId) -> bool {
        self.pair(package.name.owner(), package.name.repo()).is_ok_and(|found| found == *package)
    }

    /// The name of this package in the v3 dialect: an alias, a plain name, `owner__repo` or `{upstream}__owner__repo`.
    ///
    /// `None` for the few that have none: an owner with `__` in it.
    pub fn v3_name(&self, package: &PackageId) -> Option<String> {
        v3::name(self, package)
    }

    /// The package in a path of the github dialect, behind `/repos/`: `owner/repo` or `upstream/owner/repo`.
    pub fn api_path(&self, package: &PackageId) -> String {
        if self.is_pair(package) { package.name.to_string() } else { format!("{}/{}", package.upstream, package.name) }
    }
}

fn is_one_of(name: &str, taken: &[&str]) -> bool {
    taken.iter().any(|other| other.eq_ignore_ascii_case(name))
}
