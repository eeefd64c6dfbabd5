//! The `[access]` section.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::issuer_config::IssuerConfig;
use crate::value::Period;

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
