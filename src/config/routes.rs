//! Checks of the `[[routes]]` tables; every error names the table, its key and its line.

use std::convert::Infallible;

use super::{
    Config,
    error::{ConfigError, ErrorReason},
    setting::Settings,
    suggestion::did_you_mean,
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
    error: &RouteConfigError,
) -> ConfigError {
    let key = error.key();
    let reason = match error {
        RouteConfigError::UnknownUpstream(name) => {
            let suggestion = did_you_mean(name, config.upstream_names(), |near| format!("\"{near}\""));
            let all = config.upstream_names().collect::<Vec<_>>().join(", ");
            ErrorReason::with_suggestion(format_args!("{error}; the upstreams are {all}"), &suggestion)
        }
        error if error.has_example() => ErrorReason::with_example(error),
        error => error.into(),
    };
    let text = reason.or_example(|| Some(ROUTE_TABLES.example_of(key)));
    ROUTE_TABLES.error(settings, number, Some(key), text)
}
