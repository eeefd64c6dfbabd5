//! Checks of the section `[access]` and its `[[access.rules]]` and `[[access.issuers]]` tables; every error names the table,
//! its key and its line.

use std::convert::Infallible;

use super::{
    Config,
    error::{ConfigError, ErrorReason},
    layers::invalid,
    setting::Settings,
    tables::{TableKey, TableList, ValueKind},
};
use crate::access::{self, RuleError, RuleErrorReason, RulePlace};

const RULE_TABLES: TableList = TableList {
    path: &["access", "rules"],
    keys: &[
        TableKey::optional("packages", ValueKind::Texts, "[\"acme-*\", \"acme/*\"]"),
        TableKey::optional("read", ValueKind::Texts, "[\"group:dev\"]"),
        TableKey::optional("publish", ValueKind::Texts, "[\"token:ci\"]"),
        TableKey::optional("delete", ValueKind::Texts, "[\"token:ops\"]"),
        TableKey::optional("admin", ValueKind::Texts, "[\"token:ops\"]"),
        TableKey::optional("anonymous", ValueKind::Flag, "true"),
    ],
    example: "{ packages = [\"acme/*\"], read = [\"group:dev\"] }",
};

const ISSUER_TABLES: TableList = TableList {
    path: &["access", "issuers"],
    keys: &[
        TableKey::optional("name", ValueKind::Text, "\"corp\""),
        TableKey::optional("issuer", ValueKind::Text, "\"https://login.example.com/realms/corp\""),
        TableKey::optional("audience", ValueKind::Text, "\"srm-mirror\""),
        TableKey::optional("algorithms", ValueKind::Texts, "[\"RS256\"]"),
        TableKey::optional("jwks_url", ValueKind::Text, "\"https://login.example.com/keys\""),
        TableKey::optional("groups_claim", ValueKind::Text, "\"groups\""),
    ],
    example: "{ name = \"corp\", issuer = \"https://login.example.com/realms/corp\", audience = \"srm-mirror\" }",
};

/// Checks the keys of every table and the types of their values.
///
/// # Errors
/// The first key that is unknown or missing, or has a value of another type.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    ISSUER_TABLES.check(settings, |_| Ok::<_, Infallible>(()))?;
    RULE_TABLES.check(settings, |table| {
        if !table.contains_key("packages") {
            return Err(RuleErrorReason::NoPackages);
        }
        let is_closed = table.get("anonymous").is_some_and(|value| value.as_bool() == Some(false));
        if table.len() == 1 || is_closed && table.len() == 2 {
            return Err(RuleErrorReason::NoRights);
        }
        Ok(())
    })
}

/// Checks issuers, patterns, principals and groups, and that rules have an effect.
///
/// # Errors
/// The first value that cannot be used.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    access::check(&config.access).map_err(|RuleError { place, value, reason }| {
        let text = format!("\"{value}\" cannot be used: {reason}");
        let with_example =
            |text: String| if reason.has_example() { ErrorReason::WithExample(text) } else { text.into() };
        match place {
            RulePlace::Rule { number, key } => RULE_TABLES.error(settings, number, Some(key), text),
            RulePlace::Issuer { number, key } => ISSUER_TABLES.error(settings, number, Some(key), text),
            RulePlace::Metrics => invalid(settings, &["access", "metrics"], with_example(text)),
            RulePlace::Group(name) => invalid(settings, &["access", "groups", &name], with_example(text)),
        }
    })?;
    if config.access.address_lifetime.0.is_zero() {
        return Err(invalid(settings, &["access", "address_lifetime"], "must not be zero"));
    }
    for (name, is_empty) in [("rules", config.access.rules.is_empty()), ("issuers", config.access.issuers.is_empty())] {
        if !config.access.enabled && !is_empty {
            return Err(invalid(settings, &["access", name], "has no effect without enabled = true in [access]"));
        }
    }
    Ok(())
}
