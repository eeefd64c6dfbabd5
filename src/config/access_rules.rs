//! Checks of the section `[access]` and its `[[access.rules]]` tables; every error names the table, its key and its line.

use toml::Value;

use super::{
    Config,
    error::ConfigError,
    layers::invalid,
    names::did_you_mean,
    setting::{Setting, SettingSource, Settings, owned_path},
};
use crate::access::{self, RuleError, RuleErrorReason, RulePlace};

/// The key of the tables.
const RULES_KEY: &str = "access.rules";
/// The keys of a table, each with an example of its value.
const RULE_KEYS: [(&str, &str); 6] = [
    ("packages", "[\"acme-*\", \"acme/*\"]"),
    ("read", "[\"group:dev\"]"),
    ("publish", "[\"token:ci\"]"),
    ("delete", "[\"token:ops\"]"),
    ("admin", "[\"token:ops\"]"),
    ("anonymous", "true"),
];

/// Checks the keys of every table and the types of their values.
///
/// # Errors
/// The first key that is unknown or missing, or has a value of another type.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    let Some(setting) = settings.get(&owned_path(&["access", "rules"])) else { return Ok(()) };
    let Some(tables) = setting.value.as_array() else { return Ok(()) };
    for (index, table) in tables.iter().enumerate() {
        let invalid =
            |field: Option<&str>, reason: String| ConfigError::table(RULES_KEY, index + 1, field, setting, reason);
        let Some(table) = table.as_table() else {
            let reason = "must be a table; for example { packages = [\"acme/*\"], read = [\"group:dev\"] }";
            return Err(invalid(None, reason.into()));
        };
        for (key, value) in table {
            let Some((_, example)) = RULE_KEYS.iter().find(|(known, _)| known == key) else {
                let suggestion = did_you_mean(key, RULE_KEYS.iter().map(|(known, _)| *known), str::to_owned);
                let reason = format!(
                    "no such key{suggestion}; the keys are packages, read, publish, delete, admin and anonymous"
                );
                return Err(invalid(Some(key), reason));
            };
            let is_list = || value.as_array().is_some_and(|items| items.iter().all(Value::is_str));
            let expected = match key.as_str() {
                "anonymous" if value.is_bool() => continue,
                "anonymous" => "true or false",
                _ if is_list() => continue,
                _ => "a list of strings",
            };
            return Err(invalid(Some(key), format!("must be {expected}; for example {key} = {example}")));
        }
        if !table.contains_key("packages") {
            return Err(invalid(None, RuleErrorReason::NoPackages.to_string()));
        }
        if table.len() == 1
            || table.get("anonymous").is_some_and(|value| value.as_bool() == Some(false)) && table.len() == 2
        {
            return Err(invalid(None, RuleErrorReason::NoRights.to_string()));
        }
    }
    Ok(())
}

/// Checks patterns, principals and groups, and that rules have an effect.
///
/// # Errors
/// The first value that cannot be used.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    access::check(&config.access).map_err(|RuleError { place, value, reason }| {
        let reason = format!("\"{value}\" cannot be used: {reason}");
        match place {
            RulePlace::Rule { number, key } => {
                let default = Setting { value: Value::Array(Vec::new()), source: SettingSource::Default };
                let setting = settings.get(&owned_path(&["access", "rules"])).unwrap_or(&default);
                ConfigError::table(RULES_KEY, number, Some(key), setting, reason)
            }
            RulePlace::Metrics => invalid(settings, &["access", "metrics"], reason),
            RulePlace::Group(name) => invalid(settings, &["access", "groups", &name], reason),
        }
    })?;
    if config.access.address_lifetime.0.is_zero() {
        return Err(invalid(settings, &["access", "address_lifetime"], "must not be zero"));
    }
    if !config.access.enabled && !config.access.rules.is_empty() {
        return Err(invalid(settings, &["access", "rules"], "has no effect without enabled = true in [access]"));
    }
    Ok(())
}
