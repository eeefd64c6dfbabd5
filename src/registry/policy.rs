//! The access policy: which packages are served, by the patterns of the `[packages]` section.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model_config::{ModelConfig, ModelMode};
use crate::{
    package::{PackageId, PackagePattern, VersionedPattern, VersionedPatternError},
    value::Period,
};

/// The `[packages]` section: which packages are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Patterns of packages and versions that are served, see [`VersionedPattern`]. Empty: all.
    pub allow: Vec<String>,
    /// Patterns of packages and versions that are refused even if `allow` matches.
    pub deny: Vec<String>,
    /// How private repositories are treated, which only the token can read.
    pub private: Private,
    /// Patterns of private repositories that are served although `private = "refuse"`.
    pub private_allow: Vec<String>,
    /// How a stored package is treated that its upstream has removed.
    pub gone: Gone,
    /// How old a version must be before it is served.
    pub min_age: Period,
    /// Other ages for some packages; the first entry that matches decides.
    pub min_age_for: Vec<AgeConfig>,
    /// What is done with a package that does not conform to the package model.
    pub model: ModelMode,
    /// Other modes for some packages; the first entry that matches decides.
    pub model_for: Vec<ModelConfig>,
    /// Whether the dialects of the command line clients serve a component or plugin whose entry is not in its zip.
    pub unbuilt: Unbuilt,
    /// How long a 2.x client waits for a first download to complete: whether a component is built is known only then.
    pub unbuilt_wait: Period,
}

/// An entry of `packages.min_age_for`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeConfig {
    /// A pattern of packages, see [`PackagePattern`].
    pub packages: String,
    /// How old a version must be.
    pub age: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            private: Private::default(),
            private_allow: Vec::new(),
            gone: Gone::default(),
            min_age: Period::secs(0),
            min_age_for: Vec::new(),
            model: ModelMode::default(),
            model_for: Vec::new(),
            unbuilt: Unbuilt::default(),
            unbuilt_wait: Period::secs(30),
        }
    }
}

/// `packages.unbuilt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unbuilt {
    /// Requests for its zip get 422, so that the client installs nothing.
    #[default]
    Refuse,
    /// It is served as it is.
    Serve,
}

/// `packages.private`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Private {
    /// Requests for them get 404.
    #[default]
    Refuse,
    /// They are served to every client of the mirror.
    Serve,
}

/// `packages.gone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gone {
    /// What is stored is still served.
    #[default]
    Keep,
    /// Requests for it get 404, as upstream.
    Follow,
}

/// A pattern in the `[packages]` section that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packages.{key} has \"{value}\": {reason}")]
pub struct PolicyError {
    /// The key in the section.
    pub key: &'static str,
    /// The pattern as it is configured.
    pub value: String,
    /// What is wrong with it. Part of the message, so not its source.
    pub reason: VersionedPatternError,
}

/// The `[packages]` section with its patterns compiled.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    allow: Vec<PackagePattern>,
    deny: Vec<PackagePattern>,
    private_allow: Vec<PackagePattern>,
    /// True when an entry of `deny` names versions.
    denies_versions: bool,
    private: Private,
    gone: Gone,
    unbuilt: Unbuilt,
    unbuilt_wait: Duration,
}

impl AccessPolicy {
    /// Compiles every pattern.
    ///
    /// # Errors
    /// The first pattern that is not valid.
    pub fn build(config: &Config) -> Result<Self, PolicyError> {
        let invalid = |key, value: &String, reason| PolicyError { key, value: value.clone(), reason };
        let versioned = |key, patterns: &[String]| -> Result<Vec<VersionedPattern>, PolicyError> {
            patterns.iter().map(|value| value.parse().map_err(|reason| invalid(key, value, reason))).collect()
        };
        let private_allow = config.private_allow.iter().map(|value| {
            let parsed = value.parse::<PackagePattern>();
            parsed.map_err(|reason| invalid("private_allow", value, reason.into()))
        });
        let allow = versioned("allow", &config.allow)?;
        let deny = versioned("deny", &config.deny)?;
        Ok(Self {
            // Some version of the package may be served: which one, the rules about versions say.
            allow: allow.iter().map(|pattern| pattern.packages().clone()).collect(),
            deny: deny.iter().filter_map(|pattern| pattern.whole_packages().cloned()).collect(),
            denies_versions: deny.iter().any(|pattern| pattern.whole_packages().is_none()),
            private_allow: private_allow.collect::<Result<_, _>>()?,
            private: config.private,
            gone: config.gone,
            unbuilt: config.unbuilt,
            unbuilt_wait: config.unbuilt_wait.0,
        })
    }

    /// True when the package may be served at all.
    pub fn allows(&self, package: &PackageId) -> bool {
        !matches_any(&self.deny, package) && (self.allow.is_empty() || matches_any(&self.allow, package))
    }

    /// True when a pattern may treat a repository differently under another name.
    pub fn has_patterns(&self) -> bool {
        self.denies_versions || !(self.allow.is_empty() && self.deny.is_empty() && self.private_allow.is_empty())
    }

    /// False when no package with a plain name on this upstream may be served.
    pub fn may_allow_plain_names(&self, upstream: &str) -> bool {
        let denies_all = self.deny.iter().any(|pattern| pattern.matches_every_plain_name_on(upstream));
        let is_for = |pattern: &PackagePattern| pattern.matches_plain_names() && pattern.matches_upstream(upstream);
        !denies_all && (self.allow.is_empty() || self.allow.iter().any(is_for))
    }

    /// True when the package may be served only if its repository is public.
    pub fn must_be_public(&self, package: &PackageId) -> bool {
        self.private == Private::Refuse && !matches_any(&self.private_allow, package)
    }

    /// Whether unbuilt components are served to the command line clients.
    pub fn unbuilt(&self) -> Unbuilt {
        self.unbuilt
    }

    /// How long a 2.x client waits for a first download, which shows whether a component is built.
    pub fn unbuilt_wait(&self) -> Duration {
        self.unbuilt_wait
    }

    /// How a stored package is treated that its upstream has removed.
    pub fn gone(&self) -> Gone {
        self.gone
    }
}

fn matches_any(patterns: &[PackagePattern], package: &PackageId) -> bool {
    patterns.iter().any(|pattern| pattern.matches(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> AccessPolicy {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        AccessPolicy::build(&Config { allow: owned(allow), deny: owned(deny), ..Config::default() }).expect("valid")
    }

    fn package(name: &str) -> PackageId {
        PackageId { upstream: "github".into(), name: name.parse().expect("valid") }
    }

    #[test]
    fn deny_wins_over_allow_and_an_empty_allow_list_allows_all() {
        let fc3 = package("DevsApp/FC3");
        for (allow, deny, allowed) in [
            (&[][..], &[][..], true),
            (&["devsapp/*"], &[], true),
            (&["devsapp/fc?"], &[], true),
            (&["gitee:devsapp/*"], &[], false),
            (&["git*:devsapp/*"], &[], true),
            (&["other/*"], &[], false),
            (&["devs*"][..0], &["devsapp/fc3"], false),
            (&["devsapp/*"], &["*/fc3"], false),
            (&["DEVSAPP/fc3"], &["gitee:*/*"], true),
        ] {
            assert_eq!(access(allow, deny).allows(&fc3), allowed, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn an_upstream_whose_plain_names_are_all_refused_is_known_by_the_patterns() {
        for (allow, deny, may_allow) in [
            (&[][..], &[][..], true),
            (&[], &["official:*"], false),
            (&[], &["*"], false),
            (&[], &["official-2x:*", "fc*"], true),
            (&["devsapp/*"], &[], false),
            (&["devsapp/*", "fc*"], &[], true),
            (&["official-2x:*"], &[], false),
            (&["offic*:*"], &[], true),
            (&["*"], &["OFFICIAL:*"], false),
        ] {
            assert_eq!(access(allow, deny).may_allow_plain_names("official"), may_allow, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn an_invalid_pattern_names_its_key_and_gives_an_example() {
        for text in ["", "a/b/c", "/b", "a/", ":a/b", "a b/c"] {
            let error = AccessPolicy::build(&Config { allow: vec![text.into()], ..Config::default() }).expect_err(text);
            let error = error.to_string();
            assert!(error.contains("packages.allow") && error.contains("devsapp/*"), "{error}");
        }
    }
}
