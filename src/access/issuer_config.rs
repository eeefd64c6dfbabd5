//! The `[[access.issuers]]` tables, and what each comes to when it is compiled.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::rule_error::{RuleError, RuleErrorReason, RulePlace};

/// The algorithms that an issuer may sign with: all are asymmetric.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];
/// Longest name of an issuer, bytes.
const MAX_ISSUER_NAME_BYTES: usize = 64;
/// Where a provider describes itself, below its issuer ([OpenID Connect Discovery 1.0 §4]).
///
/// [OpenID Connect Discovery 1.0 §4]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// One `[[access.issuers]]` table: an OpenID Connect provider whose tokens say who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerConfig {
    /// The name that its principals (`oidc:{name}:{sub}`) and groups (`{name}:{group}`) have.
    pub name: String,
    /// The `iss` of its tokens: a URL, equal letter by letter.
    pub issuer: String,
    /// What the `aud` of a token must contain.
    pub audience: String,
    /// What its tokens may be signed with.
    pub algorithms: Vec<String>,
    /// Where its keys are; `None`: where its discovery document says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The claim at the top of a token that lists groups; `None`: its principals have no groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            issuer: String::new(),
            audience: String::new(),
            algorithms: vec!["RS256".into()],
            jwks_url: None,
            groups_claim: None,
        }
    }
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug)]
pub(super) enum KeysAddress {
    /// At this address.
    Fixed(Url),
    /// Where the document at this address says.
    Discovered(Url),
}

/// A table that has been checked.
#[derive(Clone, Debug)]
pub(super) struct IssuerPolicy {
    pub(super) name: Arc<str>,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) keys: KeysAddress,
    pub(super) groups_claim: Option<String>,
}

impl IssuerPolicy {
    /// Checks every table.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub(super) fn compile_all(tables: &[IssuerConfig]) -> Result<Vec<Self>, RuleError> {
        let mut policies: Vec<Self> = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let invalid = |key, value: &str, reason| RuleError {
                place: RulePlace::Issuer { number: index + 1, key },
                value: value.to_owned(),
                reason,
            };
            let policy = Self::compile(table, &invalid)?;
            if policies.iter().any(|other| other.name == policy.name) {
                return Err(invalid("name", &table.name, RuleErrorReason::RepeatedIssuer));
            }
            // One list of algorithms for each issuer: a token must not choose between two.
            if policies.iter().any(|other| other.issuer == policy.issuer) {
                return Err(invalid("issuer", &table.issuer, RuleErrorReason::RepeatedIssuer));
            }
            policies.push(policy);
        }
        Ok(policies)
    }

    fn compile(
        table: &IssuerConfig,
        invalid: &impl Fn(&'static str, &str, RuleErrorReason) -> RuleError,
    ) -> Result<Self, RuleError> {
        let IssuerConfig { name, issuer, audience, algorithms, jwks_url, groups_claim } = table;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_ISSUER_NAME_BYTES || !name.bytes().all(is_name) {
            return Err(invalid("name", name, RuleErrorReason::IssuerName));
        }
        let discovery = format!("{}{DISCOVERY_PATH}", issuer.trim_end_matches('/'));
        let is_plain = |url: &Url| url.query().is_none() && url.fragment().is_none();
        Url::parse(issuer)
            .ok()
            .filter(|url| is_safe(url) && is_plain(url))
            .ok_or_else(|| invalid("issuer", issuer, RuleErrorReason::IssuerUrl))?;
        let discovery = Url::parse(&discovery).map_err(|_| invalid("issuer", issuer, RuleErrorReason::IssuerUrl))?;
        if audience.is_empty() {
            return Err(invalid("audience", audience, RuleErrorReason::NoAudience));
        }
        if algorithms.is_empty() {
            return Err(invalid("algorithms", "[]", RuleErrorReason::IssuerAlgorithm));
        }
        let algorithm = |text: &String| {
            let known = algorithm_of(text);
            known.ok_or_else(|| invalid("algorithms", text, RuleErrorReason::IssuerAlgorithm))
        };
        let algorithms = algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
        let keys = match jwks_url {
            Some(text) => {
                let url = Url::parse(text).ok().filter(is_safe);
                KeysAddress::Fixed(url.ok_or_else(|| invalid("jwks_url", text, RuleErrorReason::IssuerUrl))?)
            }
            None => KeysAddress::Discovered(discovery),
        };
        if groups_claim.as_ref().is_some_and(String::is_empty) {
            return Err(invalid("groups_claim", "", RuleErrorReason::NoGroupsClaim));
        }
        Ok(Self {
            name: name.as_str().into(),
            issuer: issuer.clone(),
            audience: audience.clone(),
            algorithms,
            keys,
            groups_claim: groups_claim.clone(),
        })
    }
}

/// The algorithm of this name, if an issuer may sign with it.
pub(super) fn algorithm_of(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// True for https without a user and password, and for http to this machine.
pub(super) fn is_safe(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    !has_user && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> IssuerConfig {
        IssuerConfig {
            name: "corp".into(),
            issuer: "https://login.example.com/realms/corp".into(),
            audience: "srm".into(),
            ..IssuerConfig::default()
        }
    }

    #[test]
    fn a_table_that_cannot_be_used_says_where_and_why() {
        let refused = |table: IssuerConfig| IssuerPolicy::compile_all(&[table]).expect_err("refused").to_string();
        let none_of = |algorithm: &str| IssuerConfig { algorithms: vec!["RS256".into(), algorithm.into()], ..table() };
        let issuer = |issuer: &str| IssuerConfig { issuer: issuer.into(), ..table() };
        for (table, key, part) in [
            (IssuerConfig { name: "a:b".into(), ..table() }, "name", "characters"),
            (issuer("http://login.example.com"), "issuer", "https"),
            (issuer("https://user:pass@login.example.com"), "issuer", "https"),
            (issuer("https://login.example.com/?x=1"), "issuer", "https"),
            (IssuerConfig { audience: String::new(), ..table() }, "audience", "missing"),
            (none_of("none"), "algorithms", "RS256"),
            (none_of("HS256"), "algorithms", "RS256"),
            (none_of("rs256"), "algorithms", "RS256"),
            (IssuerConfig { algorithms: Vec::new(), ..table() }, "algorithms", "RS256"),
            (IssuerConfig { jwks_url: Some("http://keys.example.com".into()), ..table() }, "jwks_url", "https"),
            (IssuerConfig { groups_claim: Some(String::new()), ..table() }, "groups_claim", "claim"),
        ] {
            let text = refused(table);
            assert!(text.contains(&format!("access.issuers[1].{key}")) && text.contains(part), "{text}");
        }
        let twice = [table(), IssuerConfig { name: "other".into(), ..table() }];
        let text = IssuerPolicy::compile_all(&twice).expect_err("refused").to_string();
        assert!(text.contains("access.issuers[2].issuer"), "{text}");
    }

    #[test]
    fn http_is_for_this_machine_alone() {
        for (issuer, is_valid) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost/realms/a/", true),
            ("http://[::1]", true),
            ("http://127.0.0.1.example.com", false),
            ("ftp://localhost", false),
        ] {
            let table = IssuerConfig { issuer: issuer.into(), ..table() };
            assert_eq!(IssuerPolicy::compile_all(&[table]).is_ok(), is_valid, "{issuer}");
        }
    }
}
