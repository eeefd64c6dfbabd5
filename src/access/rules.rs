//! The rules: which callers may do what with which packages.

use std::collections::BTreeMap;

use super::{
    config::{Config, RuleConfig},
    principal::{Caller, Grant, Principal, PrincipalPattern},
    rule_error::{RuleError, RuleErrorReason, RulePlace},
};
use crate::admin_api::Right;
use crate::package::{PackageId, PackagePattern};

/// The entry of `access.metrics` for clients without credentials.
const ANONYMOUS_READER: &str = "anonymous";

/// The rules in order, compiled.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    groups: BTreeMap<String, Vec<PrincipalPattern>>,
    metrics: Vec<PrincipalPattern>,
    anonymous_metrics: bool,
}

#[derive(Debug)]
struct Rule {
    packages: Vec<PackagePattern>,
    matches_all: bool,
    /// By right, in the order of [`Right::ALL`].
    principals: [Vec<PrincipalPattern>; Right::ALL.len()],
    anonymous: bool,
}

impl Rules {
    /// Compiles groups and rules.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub(super) fn build(config: &Config) -> Result<Self, RuleError> {
        let mut groups = BTreeMap::new();
        for (name, members) in &config.groups {
            let members = members.iter().map(|member| {
                let invalid =
                    |reason| RuleError { place: RulePlace::Group(name.clone()), value: member.clone(), reason };
                let pattern = member.parse().map_err(|error| invalid(RuleErrorReason::Principal(error)))?;
                match pattern {
                    PrincipalPattern::Group(_) => Err(invalid(RuleErrorReason::NestedGroup)),
                    pattern => {
                        check_issuer(member, &pattern, config).map_err(invalid)?;
                        Ok(pattern)
                    }
                }
            });
            groups.insert(name.clone(), members.collect::<Result<Vec<_>, _>>()?);
        }
        let rules = config.rules.iter().enumerate().map(|(index, rule)| Rule::build(index + 1, rule, config));
        let is_anonymous = |reader: &&String| reader.as_str() == ANONYMOUS_READER;
        let metrics = config.metrics.iter().filter(|reader| !is_anonymous(reader)).map(
            |reader| -> Result<PrincipalPattern, RuleError> {
                let invalid = |reason| RuleError { place: RulePlace::Metrics, value: reader.clone(), reason };
                let pattern = reader.parse().map_err(|error| invalid(RuleErrorReason::Principal(error)))?;
                check_issuer(reader, &pattern, config).map_err(invalid)?;
                Ok(pattern)
            },
        );
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            metrics: metrics.collect::<Result<_, _>>()?,
            anonymous_metrics: config.metrics.iter().any(|reader| is_anonymous(&reader)),
            groups,
        })
    }

    /// What a caller may do with a package. Without a rule that matches: nothing.
    pub(super) fn grant(&self, caller: &Caller, package: &PackageId, right: Right) -> Grant {
        if let Caller::Operator = caller {
            return Grant::Named;
        }
        let matches = |rule: &&Rule| rule.packages.iter().any(|pattern| pattern.matches(package));
        let Some(rule) = self.rules.iter().find(matches) else { return Grant::Refused };
        if let Caller::Principal(principal) = caller
            && principal.scope.permits(package, right)
            && rule.principals[right as usize].iter().any(|pattern| self.matches(pattern, principal))
        {
            return Grant::Named;
        }
        if rule.anonymous && right == Right::Read { Grant::Everyone } else { Grant::Refused }
    }

    /// True when some rule gives a right to the caller, and its credential may use that right.
    pub(super) fn give_for_some_package(&self, caller: &Caller, right: Right) -> bool {
        let Caller::Principal(principal) = caller else { return matches!(caller, Caller::Operator) };
        let is_named =
            |rule: &Rule| rule.principals[right as usize].iter().any(|pattern| self.matches(pattern, principal));
        principal.scope.rights.contains(&right) && self.rules.iter().any(is_named)
    }

    /// The number of the rule that decides for a package, counted from 1; `None`: no rule matches.
    pub(super) fn deciding_rule(&self, package: &PackageId) -> Option<usize> {
        let matches = |rule: &Rule| rule.packages.iter().any(|pattern| pattern.matches(package));
        self.rules.iter().position(matches).map(|index| index + 1)
    }

    fn matches(&self, pattern: &PrincipalPattern, principal: &Principal) -> bool {
        match pattern {
            PrincipalPattern::Anyone => true,
            PrincipalPattern::Name(name) => name.matches(&principal.name),
            PrincipalPattern::Group(group) => {
                let is_member = |members: &Vec<PrincipalPattern>| {
                    members.iter().any(|member| {
                        matches!(member, PrincipalPattern::Anyone)
                            || matches!(member, PrincipalPattern::Name(name) if name.matches(&principal.name))
                    })
                };
                principal.groups.iter().any(|name| **name == **group) || self.groups.get(group).is_some_and(is_member)
            }
        }
    }

    /// True when every rule gives `admin` to the caller, and its credential is limited to no packages.
    pub(super) fn give_admin(&self, caller: &Caller) -> bool {
        let Caller::Principal(principal) = caller else { return matches!(caller, Caller::Operator) };
        let is_named =
            |rule: &Rule| rule.principals[Right::Admin as usize].iter().any(|pattern| self.matches(pattern, principal));
        let is_in_scope = principal.scope.packages.is_empty() && principal.scope.rights.contains(&Right::Admin);
        is_in_scope && !self.rules.is_empty() && self.rules.iter().all(is_named)
    }

    /// True when `access.metrics` has the caller.
    pub(super) fn may_read_metrics(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Operator => true,
            Caller::Anonymous => self.anonymous_metrics,
            Caller::Principal(principal) => {
                self.anonymous_metrics || self.metrics.iter().any(|pattern| self.matches(pattern, principal))
            }
        }
    }

    /// True when a rule lets everyone read.
    pub(super) fn have_anonymous(&self) -> bool {
        self.rules.iter().any(|rule| rule.anonymous)
    }

    /// False when the first rule decides for every package.
    pub(super) fn distinguish_packages(&self) -> bool {
        self.rules.first().is_some_and(|rule| !rule.matches_all)
    }
}

impl Rule {
    fn build(number: usize, config: &RuleConfig, section: &Config) -> Result<Self, RuleError> {
        let invalid = |key, value: &str, reason| RuleError {
            place: RulePlace::Rule { number, key },
            value: value.to_owned(),
            reason,
        };
        if config.packages.is_empty() {
            return Err(invalid("packages", "[]", RuleErrorReason::NoPackages));
        }
        let parse = |text: &String| {
            text.parse::<PackagePattern>().map_err(|error| invalid("packages", text, RuleErrorReason::Pattern(error)))
        };
        let packages = config.packages.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let compile = |key, texts: &[String]| -> Result<Vec<PrincipalPattern>, RuleError> {
            let compile = |text: &String| {
                let pattern = text.parse().map_err(|error| invalid(key, text, RuleErrorReason::Principal(error)))?;
                match &pattern {
                    // A group with a colon in it is one that an issuer names.
                    PrincipalPattern::Group(group) if section.groups.contains_key(group) => return Ok(pattern),
                    PrincipalPattern::Group(group) if !group.contains(':') => {
                        return Err(invalid(key, text, RuleErrorReason::UnknownGroup));
                    }
                    _ => {}
                }
                check_issuer(text, &pattern, section).map_err(|reason| invalid(key, text, reason))?;
                Ok(pattern)
            };
            texts.iter().map(compile).collect()
        };
        let principals = [
            compile("read", &config.read)?,
            compile("publish", &config.publish)?,
            compile("delete", &config.delete)?,
            compile("admin", &config.admin)?,
        ];
        Ok(Self {
            matches_all: config.packages.iter().any(|pattern| pattern == "*"),
            packages,
            principals,
            anonymous: config.anonymous,
        })
    }
}

/// Checks that every rule names the same administrators: the right is of the whole mirror, and one that some rule lacks has
/// no effect.
///
/// # Errors
/// The first principal that a rule lacks.
pub(super) fn check_administrators(config: &Config) -> Result<(), RuleError> {
    for (index, rule) in config.rules.iter().enumerate() {
        let is_everywhere = |name: &&String| config.rules.iter().all(|other| other.admin.contains(name));
        if let Some(name) = rule.admin.iter().find(|name| !is_everywhere(name)) {
            let place = RulePlace::Rule { number: index + 1, key: "admin" };
            return Err(RuleError { place, value: name.clone(), reason: RuleErrorReason::AdminOfSome });
        }
    }
    Ok(())
}

/// Checks that the issuer of a principal or group is configured. A pattern may leave the issuer open.
fn check_issuer(text: &str, pattern: &PrincipalPattern, config: &Config) -> Result<(), RuleErrorReason> {
    let name = match pattern {
        // A group without a colon is no issuer's.
        PrincipalPattern::Group(group) if config.groups.contains_key(group) => None,
        PrincipalPattern::Group(group) => group.split_once(':').map(|(issuer, _)| issuer),
        PrincipalPattern::Name(_) => text.strip_prefix("oidc:").and_then(|rest| rest.split(':').next()),
        PrincipalPattern::Anyone => None,
    };
    let Some(name) = name.filter(|name| !name.contains(['*', '?'])) else { return Ok(()) };
    let issuer = config.issuers.iter().find(|issuer| issuer.name == name).ok_or(RuleErrorReason::UnknownIssuer)?;
    match pattern {
        PrincipalPattern::Group(_) if issuer.groups_claim.is_none() => Err(RuleErrorReason::IssuerWithoutGroups),
        _ => Ok(()),
    }
}
