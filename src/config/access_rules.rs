//! Checks of the section `[access]` and its `[[access.rules]]` and `[[access.issuers]]` tables; every error names the table,
//! its key and its line.

use toml::Value;

use super::{
    Config,
    error::ConfigError,
    layers::invalid,
    names::did_you_mean,
    setting::{Setting, SettingSource, Settings, owned_path},
};
use crate::access::{self, RuleError, RuleErrorReason, RulePlace};

/// The keys of one kind of table, each with its type and an example of its value.
struct TableKeys {
    /// The path of the list below `access`.
    name: &'static str,
    keys: &'static [(&'static str, KeyType, &'static str)],
    /// A table as an example.
    example: &'static str,
}

/// The type of a value in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyType {
    Texts,
    Text,
    Flag,
}

const RULE_TABLES: TableKeys = TableKeys {
    name: "rules",
    keys: &[
        ("packages", KeyType::Texts, "[\"acme-*\", \"acme/*\"]"),
        ("read", KeyType::Texts, "[\"group:dev\"]"),
        ("publish", KeyType::Texts, "[\"token:ci\"]"),
        ("delete", KeyType::Texts, "[\"token:ops\"]"),
        ("admin", KeyType::Texts, "[\"token:ops\"]"),
        ("anonymous", KeyType::Flag, "true"),
    ],
    example: "{ packages = [\"acme/*\"], read = [\"group:dev\"] }",
};

const ISSUER_TABLES: TableKeys = TableKeys {
    name: "issuers",
    keys: &[
        ("name", KeyType::Text, "\"corp\""),
        ("issuer", KeyType::Text, "\"https://login.example.com/realms/corp\""),
        ("audience", KeyType::Text, "\"srm-mirror\""),
        ("algorithms", KeyType::Texts, "[\"RS256\"]"),
        ("jwks_url", KeyType::Text, "\"https://login.example.com/keys\""),
        ("groups_claim", KeyType::Text, "\"groups\""),
    ],
    example: "{ name = \"corp\", issuer = \"https://login.example.com/realms/corp\", audience = \"srm-mirror\" }",
};

impl TableKeys {
    fn key(&self) -> String {
        format!("access.{}", self.name)
    }

    /// Checks the keys of every table and the types of their values; `check` may find more in one.
    ///
    /// # Errors
    /// The first key that is unknown or has a value of another type.
    fn check(
        &self,
        settings: &Settings,
        check: impl Fn(&toml::Table) -> Result<(), RuleErrorReason>,
    ) -> Result<(), ConfigError> {
        let Some(setting) = settings.get(&owned_path(&["access", self.name])) else { return Ok(()) };
        let Some(tables) = setting.value.as_array() else { return Ok(()) };
        for (index, table) in tables.iter().enumerate() {
            let invalid = |field: Option<&str>, reason: String| {
                ConfigError::table(&self.key(), index + 1, field, setting, reason)
            };
            let Some(table) = table.as_table() else {
                return Err(invalid(None, format!("must be a table; for example {}", self.example)));
            };
            for (key, value) in table {
                let Some((_, kind, example)) = self.keys.iter().find(|(known, ..)| known == key) else {
                    let suggestion = did_you_mean(key, self.keys.iter().map(|(known, ..)| *known), str::to_owned);
                    let known: Vec<_> = self.keys.iter().map(|(known, ..)| *known).collect();
                    let reason = match known.split_last() {
                        Some((last, others)) => {
                            format!("no such key{suggestion}; the keys are {} and {last}", others.join(", "))
                        }
                        None => "no such key".into(),
                    };
                    return Err(invalid(Some(key), reason));
                };
                if !kind.fits(value) {
                    let expected = kind.name();
                    return Err(invalid(Some(key), format!("must be {expected}; for example {key} = {example}")));
                }
            }
            check(table).map_err(|reason| invalid(None, reason.to_string()))?;
        }
        Ok(())
    }
}

impl KeyType {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Texts => value.as_array().is_some_and(|items| items.iter().all(Value::is_str)),
            Self::Text => value.is_str(),
            Self::Flag => value.is_bool(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Texts => "a list of strings",
            Self::Text => "a string",
            Self::Flag => "true or false",
        }
    }
}

/// Checks the keys of every table and the types of their values.
///
/// # Errors
/// The first key that is unknown or missing, or has a value of another type.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    ISSUER_TABLES.check(settings, |_| Ok(()))?;
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
        let reason = format!("\"{value}\" cannot be used: {reason}");
        let in_table = |tables: TableKeys, number, key| {
            let default = Setting { value: Value::Array(Vec::new()), source: SettingSource::Default };
            let setting = settings.get(&owned_path(&["access", tables.name])).unwrap_or(&default);
            ConfigError::table(&tables.key(), number, Some(key), setting, &reason)
        };
        match place {
            RulePlace::Rule { number, key } => in_table(RULE_TABLES, number, key),
            RulePlace::Issuer { number, key } => in_table(ISSUER_TABLES, number, key),
            RulePlace::Metrics => invalid(settings, &["access", "metrics"], &reason),
            RulePlace::Group(name) => invalid(settings, &["access", "groups", &name], &reason),
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
