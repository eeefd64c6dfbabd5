//! Checks of the `[[routes]]` tables; every error names the table, its key and its line.

use std::convert::Infallible;

use super::{
    Config,
    error::ConfigError,
    names::{did_you_mean, upstream_names},
    setting::Settings,
    tables::{TableKey, TableList, ValueKind},
};
use crate::dialect::{DialectName, RouteConfigError};

const ROUTE_TABLES: TableList = TableList {
    path: &["routes"],
    keys: &[
        TableKey::required("packages", ValueKind::Text, "\"fc*\""),
        TableKey::optional("dialect", ValueKind::Name { noun: "dialect", all: dialect_names }, "\"v3\""),
        TableKey::required("upstreams", ValueKind::Texts, "[\"official\"]"),
    ],
    example: "{ packages = \"fc*\", upstreams = [\"official\"] }",
};

fn dialect_names() -> Vec<&'static str> {
    DialectName::ALL.iter().map(|dialect| dialect.as_str()).collect()
}

/// Checks the keys of every table and the types of their values.
///
/// # Errors
/// The first key that is unknown or missing, or has a value of another type.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    ROUTE_TABLES.check(settings, |_| Ok::<_, Infallible>(()))
}

/// The error for a table that [`Config::names`] refuses.
pub(super) fn invalid_table(
    config: &Config,
    settings: &Settings,
    number: usize,
    reason: &RouteConfigError,
) -> ConfigError {
    let text = match reason {
        RouteConfigError::UnknownUpstream(name) => {
            let suggestion = did_you_mean(name, upstream_names(config), |near| format!("\"{near}\""));
            let all = upstream_names(config).collect::<Vec<_>>().join(", ");
            format!("{reason}; the upstreams are {all}{suggestion}")
        }
        other => other.to_string(),
    };
    let has_example = text.contains("for example") || text.contains("did you mean");
    let text =
        if has_example { text } else { format!("{text}; for example {}", ROUTE_TABLES.example_of(reason.key())) };
    ROUTE_TABLES.error(settings, number, Some(reason.key()), text)
}
