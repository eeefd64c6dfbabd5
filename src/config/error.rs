//! Configuration errors: each prints as one line that names key, value, place, reason and an example.

use std::{fmt, path::Path};

use super::{
    masking::masked,
    schema,
    setting::{Setting, SettingSource, dotted},
};

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ErrorReason {
    /// The text has no example of a valid value: the error adds one, if there is one for the key.
    Plain(String),
    /// The text says what to write instead.
    WithExample(String),
}

impl ErrorReason {
    /// A reason that says what to write instead.
    pub(super) fn with_example(text: impl fmt::Display) -> Self {
        Self::WithExample(text.to_string())
    }

    /// A reason with a suggestion, such as a similar name, after it. An empty suggestion says nothing.
    pub(super) fn with_suggestion(text: impl fmt::Display, suggestion: &str) -> Self {
        if suggestion.is_empty() { text.into() } else { Self::WithExample(format!("{text}{suggestion}")) }
    }

    /// The text, with `example` where it has none itself.
    pub(super) fn or_example(self, example: impl FnOnce() -> Option<String>) -> String {
        match self {
            Self::WithExample(text) => text,
            Self::Plain(text) => match example() {
                Some(example) => format!("{text}; for example {example}"),
                None => text,
            },
        }
    }
}

impl<T: fmt::Display> From<T> for ErrorReason {
    fn from(text: T) -> Self {
        Self::Plain(text.to_string())
    }
}

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
    pub(super) fn value(path: &[String], setting: &Setting, reason: impl Into<ErrorReason>) -> Self {
        let reason = reason.into().or_example(|| schema::written_example(path));
        let value = Some(masked(path, &setting.value).to_string());
        Self::Key { key: dotted(path), value, place: setting.source.clone(), reason }
    }
}
