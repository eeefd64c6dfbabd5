//! Configuration errors: each prints as one line that names key, value, place, reason and an example.

use std::{fmt, path::Path};

use super::{
    masking::masked,
    schema,
    setting::{Setting, SettingSource, dotted},
};

/// An invalid configuration. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is not TOML.
    #[error("config: {place}: {reason}")]
    File {
        /// The path, with the line where it is known.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An environment variable outside of the configuration's own has an invalid value.
    #[error("config: {name}: {reason}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong, and what is valid.
        reason: String,
    },
    /// One key is unknown, or its value is invalid.
    #[error("config: {key}{} ({place}): {reason}", value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default())]
    Key {
        /// The key, dotted.
        key: String,
        /// Its value as TOML with secrets masked; `None` where the key itself is invalid.
        value: Option<String>,
        /// Where it was set.
        place: SettingSource,
        /// What is wrong, and an example of a valid value.
        reason: String,
    },
}

impl ConfigError {
    /// The file is unreadable or malformed; `line` counts from 1.
    pub(super) fn file(path: &Path, line: Option<usize>, reason: impl fmt::Display) -> Self {
        let path = path.display();
        let place = line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"));
        Self::File { place, reason: reason.to_string() }
    }

    /// The key itself is invalid, whatever its value.
    pub(super) fn key(path: &[String], place: &SettingSource, reason: impl fmt::Display) -> Self {
        Self::Key { key: dotted(path), value: None, place: place.clone(), reason: reason.to_string() }
    }

    /// A value of one table of a list of tables is invalid, or missing where the table has no `field`; `number` counts from
    /// 1.
    pub(super) fn table(
        key: &str,
        number: usize,
        field: Option<&str>,
        setting: &Setting,
        reason: impl fmt::Display,
    ) -> Self {
        let table = setting.value.as_array().and_then(|tables| tables.get(number.saturating_sub(1)));
        let value = field.and_then(|field| Some(masked(&[], table?.get(field)?).to_string()));
        let field = field.map(|field| format!(".{field}")).unwrap_or_default();
        let place = setting.source.of_table(number);
        Self::Key { key: format!("{key}[{number}]{field}"), value, place, reason: reason.to_string() }
    }

    /// The key's value is invalid. Adds an example from the schema unless the reason has one.
    pub(super) fn value(path: &[String], setting: &Setting, reason: impl fmt::Display) -> Self {
        let mut reason = reason.to_string();
        if !reason.contains("for example")
            && !reason.contains("did you mean")
            && let Some(example) = schema::written_example(path)
        {
            reason = format!("{reason}; for example {example}");
        }
        let value = Some(masked(path, &setting.value).to_string());
        Self::Key { key: dotted(path), value, place: setting.source.clone(), reason }
    }
}
