//! Checks of the `[[routes]]` tables; every error names the table, its key and its line.

use toml::Value;

use super::{
    Config,
    error::ConfigError,
    names::{did_you_mean, upstream_names},
    setting::{Setting, Settings, owned_path},
};
use crate::dialect::{DialectName, RouteConfigError};

/// The keys of a table, each with an example of its value.
const ROUTE_KEYS: [(&str, &str); 3] = [("packages", "\"fc*\""), ("dialect", "\"v3\""), ("upstreams", "[\"official\"]")];

/// Checks the keys of every table and the types of their values.
///
/// # Errors
/// The first key that is unknown or missing, or has a value of another type.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    let Some(setting) = settings.get(&owned_path(&["routes"])) else { return Ok(()) };
    let Some(tables) = setting.value.as_array() else { return Ok(()) };
    for (index, table) in tables.iter().enumerate() {
        let invalid =
            |field: Option<&str>, reason: String| ConfigError::table("routes", index + 1, field, setting, reason);
        let Some(table) = table.as_table() else {
            let reason = "must be a table; for example { packages = \"fc*\", upstreams = [\"official\"] }";
            return Err(invalid(None, reason.into()));
        };
        for (key, value) in table {
            let Some((_, example)) = ROUTE_KEYS.iter().find(|(known, _)| known == key) else {
                let suggestion = did_you_mean(key, ROUTE_KEYS.iter().map(|(known, _)| *known), str::to_owned);
                let reason = format!("no such key{suggestion}; the keys are packages, dialect and upstreams");
                return Err(invalid(Some(key), reason));
            };
            check_value(key, value).map_err(|reason| invalid(Some(key), format!("{reason}; for example {example}")))?;
        }
        if let Some((key, example)) = ROUTE_KEYS.iter().find(|(key, _)| *key != "dialect" && !table.contains_key(*key))
        {
            return Err(invalid(None, format!("{key} is missing; for example {key} = {example}")));
        }
    }
    Ok(())
}

/// What is wrong with a value of a table.
#[derive(Debug, thiserror::Error)]
enum RouteValueError {
    #[error("must be a string in quotes")]
    NotText,
    #[error("must be a list of strings")]
    NotList,
    #[error("no such dialect; the dialects are {all}{suggestion}")]
    UnknownDialect { all: String, suggestion: String },
}

fn check_value(key: &str, value: &Value) -> Result<(), RouteValueError> {
    if key == "upstreams" {
        let is_list = value.as_array().is_some_and(|items| items.iter().all(Value::is_str));
        return if is_list { Ok(()) } else { Err(RouteValueError::NotList) };
    }
    let text = value.as_str().ok_or(RouteValueError::NotText)?;
    let dialects = || DialectName::ALL.iter().map(|dialect| dialect.as_str());
    if key == "dialect" && !dialects().any(|dialect| dialect == text) {
        let suggestion = did_you_mean(text, dialects(), |near| format!("\"{near}\""));
        return Err(RouteValueError::UnknownDialect { all: dialects().collect::<Vec<_>>().join(", "), suggestion });
    }
    Ok(())
}

/// The error for a table that [`Config::names`] refuses.
pub(super) fn invalid_table(
    config: &Config,
    settings: &Settings,
    number: usize,
    reason: &RouteConfigError,
) -> ConfigError {
    let default = Setting { value: Value::Array(Vec::new()), source: super::SettingSource::Default };
    let setting = settings.get(&owned_path(&["routes"])).unwrap_or(&default);
    let text = match reason {
        RouteConfigError::UnknownUpstream(name) => {
            let suggestion = did_you_mean(name, upstream_names(config), |near| format!("\"{near}\""));
            let all = upstream_names(config).collect::<Vec<_>>().join(", ");
            format!("{reason}; the upstreams are {all}{suggestion}")
        }
        other => other.to_string(),
    };
    let example = ROUTE_KEYS.iter().find(|(key, _)| *key == reason.key()).map_or("", |(_, example)| example);
    let has_example = text.contains("for example") || text.contains("did you mean");
    let text = if has_example { text } else { format!("{text}; for example {} = {example}", reason.key()) };
    ConfigError::table("routes", number, Some(reason.key()), setting, text)
}
