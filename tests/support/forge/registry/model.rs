//! The content of a registry: packages with plain names, and their versions.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::super::{
    model::{Tree, beijing, utc},
    pack::Archive,
    spec::Spec,
};
use super::options::{Times, TypeNames};

/// 2024-01-01T00:00:00Z; every publication is an hour later than the previous one.
const EPOCH: i64 = 1_704_067_200;

/// The type of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageKind {
    Component,
    Plugin,
    /// `Project` in the registry's words.
    Application,
}

impl PackageKind {
    pub fn number(self) -> u64 {
        match self {
            Self::Component => 1,
            Self::Plugin => 2,
            Self::Application => 3,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Component => "Component",
            Self::Plugin => "Plugin",
            Self::Application => "Project",
        }
    }

    pub fn json(self, names: TypeNames) -> serde_json::Value {
        match names {
            TypeNames::Words => self.word().into(),
            TypeNames::Numbers => self.number().into(),
        }
    }

    /// The files that this kind of package has if a test says nothing else.
    pub fn files(self, spec: Spec, name: &str, version: &str) -> Spec {
        match self {
            Self::Component => spec.component_files(name, version, version),
            Self::Plugin => spec.plugin_files(name, version),
            Self::Application => spec.application_files("3.0.0", name, version, "fc3"),
        }
    }
}

/// True for `dev` and `dev.*`, which may be published again.
pub fn is_moving(version: &str) -> bool {
    version == "dev" || version.starts_with("dev.")
}

/// One version of a package.
#[derive(Debug)]
pub struct Version {
    pub tag: String,
    pub spec: Spec,
    pub tree: Arc<Tree>,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// What is said of a package, besides its versions.
#[derive(Clone, Debug, Default)]
pub struct Description {
    pub description: String,
    pub description_en: Option<String>,
    pub readme: String,
    pub readme_en: Option<String>,
    pub home: Option<String>,
    pub syaml: Option<String>,
    pub providers: Vec<String>,
    pub category: Option<String>,
    pub tags: Vec<String>,
    pub user: String,
    pub organisation: Option<String>,
    pub downloads: u64,
}

/// One package.
#[derive(Debug)]
pub struct Package {
    pub id: u64,
    pub name: String,
    pub kind: PackageKind,
    pub about: Description,
    pub private: bool,
    /// Oldest publication first.
    pub versions: Vec<Version>,
    /// The version that the registry calls latest, if it was set.
    pub latest: Option<String>,
    /// Every version that ever was: none of them can be published again, except moving ones.
    used: HashSet<String>,
}

impl Package {
    fn new(id: u64, name: &str, kind: PackageKind) -> Self {
        let about = Description {
            description: format!("The {} {name}", kind.word().to_lowercase()),
            readme: format!("# {name}\n"),
            providers: vec!["阿里云".to_owned()],
            category: Some("基础云服务".to_owned()),
            tags: vec!["demo".to_owned()],
            user: "devsapp".to_owned(),
            ..Description::default()
        };
        let name = name.to_owned();
        let used = HashSet::new();
        Self { id, name, kind, about, private: false, versions: Vec::new(), latest: None, used }
    }

    pub fn version(&self, tag: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.tag == tag)
    }

    /// Newest first.
    pub fn newest_first(&self) -> Vec<&Version> {
        self.versions.iter().rev().collect()
    }

    /// The version that was set as latest, else the release that was published last; `dev` and `dev.*` are no releases.
    pub fn latest(&self) -> Option<&Version> {
        let set = self.latest.as_ref().and_then(|tag| self.version(tag));
        set.or_else(|| self.versions.iter().rfind(|version| !is_moving(&version.tag)))
    }

    /// False for a version that was published before and is not moving.
    pub fn can_publish(&self, tag: &str) -> bool {
        is_moving(tag) || !self.used.contains(tag)
    }

    /// Publishes a new version, as the newest.
    pub fn publish(&mut self, tag: &str, spec: Spec, now: i64) {
        assert!(self.can_publish(tag), "{}@{tag} was published before: no version twice", self.name);
        self.replace(tag, spec, now);
    }

    /// Publishes other content under a version, as the newest.
    pub fn replace(&mut self, tag: &str, spec: Spec, now: i64) {
        self.used.insert(tag.to_owned());
        self.versions.retain(|version| version.tag != tag);
        let created_at = spec.created_at.unwrap_or(now);
        let tree = Tree::new(self.id, created_at, spec.clone());
        self.versions.push(Version { tag: tag.to_owned(), spec, tree, created_at });
    }

    /// The zip of a version: flat, or below `{name}-{seven digits}`.
    pub fn archive(&self, version: &Version) -> Arc<Archive> {
        version.tree.archive(&format!("{}-{}", self.name, &version.tree.commit[..7]))
    }
}

/// The packages of one registry.
#[derive(Debug, Default)]
pub struct Packages {
    pub all: Vec<Package>,
    ticks: i64,
}

impl Packages {
    pub fn tick(&mut self) -> i64 {
        self.ticks += 1;
        EPOCH + self.ticks * 3600
    }

    /// Names are compared exactly.
    pub fn find(&self, name: &str) -> Option<&Package> {
        self.all.iter().find(|package| package.name == name)
    }

    /// The package for a request: it exists once it had a version. One whose versions were all deleted has an empty list.
    pub fn published(&self, name: &str) -> Option<&Package> {
        self.find(name).filter(|package| !package.used.is_empty())
    }

    /// Creates the package if it is missing.
    pub fn ensure(&mut self, name: &str, kind: PackageKind) -> &mut Package {
        assert!(!name.is_empty() && !name.contains('/'), "a registry has plain names, not {name}");
        let at = self.all.iter().position(|package| package.name == name).unwrap_or_else(|| {
            self.all.push(Package::new(self.all.len() as u64 + 1, name, kind));
            self.all.len() - 1
        });
        &mut self.all[at]
    }

    /// Every category, in order of its name; its number is its position, from 1.
    pub fn categories(&self) -> Vec<String> {
        let named = self.all.iter().filter_map(|package| package.about.category.clone());
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub fn providers(&self) -> Vec<String> {
        let named = self.all.iter().flat_map(|package| package.about.providers.clone());
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Times {
    /// A time as this registry writes it.
    pub fn write(self, seconds: i64) -> Option<String> {
        match self {
            Self::Utc => Some(utc(seconds)),
            Self::Beijing => Some(beijing(seconds)),
            Self::Absent => None,
        }
    }
}
