//! What is wrong with a rule, group or issuer of the configuration.

use std::fmt;

use super::principal::PrincipalPatternError;
use crate::package::PatternError;

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
