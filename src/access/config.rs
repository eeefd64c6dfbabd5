//! The `[access]` section.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::principal::PrincipalPatternError;
use crate::{package::PatternError, value::Period};

/// The `[access]` section: who may read what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether callers are identified and rules are evaluated. Off, every client that reaches the mirror may read
    /// everything it serves.
    pub enabled: bool,
    /// How long the signed address of a zip holds.
    pub address_lifetime: Period,
    /// Who may read `/metrics`: principals and groups, `*` for everyone with valid credentials, `anonymous` for everyone.
    pub metrics: Vec<String>,
    /// The members of each group: principals.
    pub groups: BTreeMap<String, Vec<String>>,
    /// The rules, in order.
    pub rules: Vec<RuleConfig>,
}

/// One `[[access.rules]]` table. The first one with a pattern that matches a package decides alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// Patterns of packages, see [`crate::package::PackagePattern`].
    pub packages: Vec<String>,
    /// Who may fetch: principals (`token:ci`), groups (`group:dev`), or `*` for everyone with valid credentials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// Who may publish.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Who may delete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
    /// Who may administer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<String>,
    /// Whether everyone may fetch, without credentials too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

/// A rule or group that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} has \"{value}\": {reason}")]
pub struct RuleError {
    /// Where it stands.
    pub place: RulePlace,
    /// The value as it is configured.
    pub value: String,
    /// What is wrong with it. Part of the message, so not its source.
    pub reason: RuleErrorReason,
}

/// Where a value of the section stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePlace {
    /// In a rule.
    Rule {
        /// The number of its table, counted from 1.
        number: usize,
        /// The key.
        key: &'static str,
    },
    /// In the group of this name.
    Group(String),
    /// In `access.metrics`.
    Metrics,
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { number, key } => write!(f, "access.rules[{number}].{key}"),
            Self::Group(name) => write!(f, "access.groups.{name}"),
            Self::Metrics => f.write_str("access.metrics"),
        }
    }
}

/// What is wrong with a value of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleErrorReason {
    /// No pattern of packages.
    #[error(transparent)]
    Pattern(PatternError),
    /// No pattern of principals.
    #[error(transparent)]
    Principal(PrincipalPatternError),
    /// A group that no key of `access.groups` defines and no issuer can name.
    #[error("no group is called so; define it in [access.groups]")]
    UnknownGroup,
    /// A member of a group is a group.
    #[error("a group's members are principals, not groups; write for example \"token:ci\"")]
    NestedGroup,
    /// The rule has no pattern.
    #[error("packages is missing; write for example packages = [\"acme-*\", \"acme/*\"]")]
    NoPackages,
    /// The rule gives no right.
    #[error("gives no right to anyone; add for example read = [\"group:dev\"] or anonymous = true")]
    NoRights,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            address_lifetime: Period::mins(15),
            metrics: vec!["*".into()],
            groups: BTreeMap::new(),
            rules: Vec::new(),
        }
    }
}
