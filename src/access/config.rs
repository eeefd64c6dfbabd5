//! The `[access]` section.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{issuer_config::IssuerConfig, principal::PrincipalPatternError};
use crate::{package::PatternError, value::Period};

/// The `[access]` section: who may read what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether callers are identified and rules are evaluated. Off, every client that reaches the mirror may read
    /// everything it serves.
    pub enabled: bool,
    /// Whether principals with the right `admin` in every rule may use the administration API over the network.
    pub remote_admin: bool,
    /// Whether credentials that change something are accepted without TLS from other machines.
    pub allow_plaintext: bool,
    /// How long the signed address of a zip holds.
    pub address_lifetime: Period,
    /// Who may read `/metrics`: principals and groups, `*` for everyone with valid credentials, `anonymous` for everyone.
    pub metrics: Vec<String>,
    /// The members of each group: principals.
    pub groups: BTreeMap<String, Vec<String>>,
    /// The servers whose tokens identify callers, beside the tokens of this mirror.
    pub issuers: Vec<IssuerConfig>,
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

/// A rule, group or issuer that cannot be used.
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
    /// In the table of an issuer.
    Issuer {
        /// The number of its table, counted from 1.
        number: usize,
        /// The key.
        key: &'static str,
    },
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { number, key } => write!(f, "access.rules[{number}].{key}"),
            Self::Group(name) => write!(f, "access.groups.{name}"),
            Self::Metrics => f.write_str("access.metrics"),
            Self::Issuer { number, key } => write!(f, "access.issuers[{number}].{key}"),
        }
    }
}

/// What is wrong with a value of a rule, group or issuer.
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
    /// The right to administer is given in some tables only.
    #[error(
        "administration is of the whole mirror: name the same principals under admin in every [[access.rules]] table, or in none"
    )]
    AdminOfSome,
    /// A principal or group names an issuer that is not configured.
    #[error("no issuer is called so; add an [[access.issuers]] table with its name")]
    UnknownIssuer,
    /// A group names an issuer whose tokens name no groups.
    #[error("this issuer has no groups_claim; write for example groups_claim = \"groups\" in its table")]
    IssuerWithoutGroups,
    /// The name of an issuer has other characters.
    #[error("the name of an issuer has 1 to 64 of the characters a-z A-Z 0-9 . _ -; for example \"corp\"")]
    IssuerName,
    /// The URL of an issuer or of its keys cannot be used.
    #[error(
        "must be https, or http to this machine, without a user or query; for example \"https://login.example.com/realms/corp\""
    )]
    IssuerUrl,
    /// The issuer has no audience.
    #[error("is missing; a token for another service must not hold here; for example audience = \"srm-mirror\"")]
    NoAudience,
    /// The issuer may not sign so.
    #[error(
        "the algorithms are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA; for example [\"RS256\"]"
    )]
    IssuerAlgorithm,
    /// Two tables have the same name or issuer.
    #[error("another [[access.issuers]] table has the same")]
    RepeatedIssuer,
    /// The claim of groups has no name.
    #[error("is no name of a claim; for example groups_claim = \"groups\"")]
    NoGroupsClaim,
}

impl RuleErrorReason {
    /// True when the text of the error has an example.
    pub(crate) fn has_example(&self) -> bool {
        match self {
            Self::UnknownGroup | Self::AdminOfSome | Self::UnknownIssuer | Self::RepeatedIssuer => false,
            Self::Pattern(_)
            | Self::Principal(_)
            | Self::NestedGroup
            | Self::NoPackages
            | Self::NoRights
            | Self::IssuerWithoutGroups
            | Self::IssuerName
            | Self::IssuerUrl
            | Self::NoAudience
            | Self::IssuerAlgorithm
            | Self::NoGroupsClaim => true,
        }
    }
}

impl Config {
    /// True when a rule or group names the subject of a certificate.
    pub(crate) fn names_certificates(&self) -> bool {
        let rules = self.rules.iter().flat_map(|rule| [&rule.read, &rule.publish, &rule.delete, &rule.admin]);
        let mut names = rules.chain(self.groups.values()).flatten().chain(&self.metrics);
        names.any(|name| name.starts_with("cert:"))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            remote_admin: false,
            allow_plaintext: false,
            address_lifetime: Period::mins(15),
            metrics: vec!["*".into()],
            groups: BTreeMap::new(),
            issuers: Vec::new(),
            rules: Vec::new(),
        }
    }
}
