//! Lists of tables, such as `[[routes]]`: which keys a table has, and of which types; every error names the table, its key
//! and its line.

use std::fmt;

use toml::{Table, Value};

use super::{
    error::ConfigError,
    setting::{Setting, SettingSource, Settings, owned_path},
    suggestion::did_you_mean,
};

/// What the tables of one list may have.
pub(super) struct TableList {
    /// The path of the list.
    pub(super) path: &'static [&'static str],
    pub(super) keys: &'static [TableKey],
    /// A table as an example.
    pub(super) example: &'static str,
}

/// One key of a table.
pub(super) struct TableKey {
    pub(super) name: &'static str,
    pub(super) kind: ValueKind,
    pub(super) is_required: bool,
    /// A value as an example.
    pub(super) example: &'static str,
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum ValueKind {
    /// A list of strings.
    Texts,
    /// A string.
    Text,
    /// True or false.
    Flag,
    /// One of several names.
    Name {
        /// What they are names of.
        noun: &'static str,
        /// The names.
        all: fn() -> Vec<&'static str>,
    },
}

/// Why a value is not of its type.
#[derive(Debug, thiserror::Error)]
enum TableValueError {
    #[error("must be {0}")]
    Type(&'static str),
    #[error("no such {noun}; the {noun}s are {all}{suggestion}")]
    Name { noun: &'static str, all: String, suggestion: String },
}

impl TableKey {
    pub(super) const fn optional(name: &'static str, kind: ValueKind, example: &'static str) -> Self {
        Self { name, kind, is_required: false, example }
    }

    pub(super) const fn required(name: &'static str, kind: ValueKind, example: &'static str) -> Self {
        Self { name, kind, is_required: true, example }
    }
}

impl TableList {
    fn key(&self) -> String {
        self.path.join(".")
    }

    fn key_names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// An example of a key and its value; empty for a key that is not one.
    pub(super) fn example_of(&self, name: &str) -> String {
        let key = self.keys.iter().find(|key| key.name == name);
        key.map_or_else(String::new, |key| format!("{name} = {}", key.example))
    }

    /// The error for the key `field` of a table, or for the table; `number` counts from 1.
    pub(super) fn error(
        &self,
        settings: &Settings,
        number: usize,
        field: Option<&str>,
        reason: impl fmt::Display,
    ) -> ConfigError {
        let default = Setting { value: Value::Array(Vec::new()), source: SettingSource::Default };
        let setting = settings.get(&owned_path(self.path)).unwrap_or(&default);
        ConfigError::table(&self.key(), number, field, setting, reason)
    }

    /// Checks the keys of every table and the types of their values; `check` may find more in one.
    ///
    /// # Errors
    /// The first key that is unknown or missing, or has a value of another type; what `check` finds.
    pub(super) fn check<E: fmt::Display>(
        &self,
        settings: &Settings,
        check: impl Fn(&Table) -> Result<(), E>,
    ) -> Result<(), ConfigError> {
        let Some(tables) = settings.get(&owned_path(self.path)).and_then(|setting| setting.value.as_array()) else {
            return Ok(());
        };
        for (index, table) in tables.iter().enumerate() {
            let invalid = |field: Option<&str>, reason: String| self.error(settings, index + 1, field, reason);
            let Some(table) = table.as_table() else {
                return Err(invalid(None, format!("must be a table; for example {}", self.example)));
            };
            for (name, value) in table {
                let Some(key) = self.keys.iter().find(|key| key.name == name) else {
                    return Err(invalid(Some(name), self.unknown_key(name)));
                };
                match key.kind.check(value) {
                    Ok(()) => {}
                    Err(error @ TableValueError::Name { .. }) => return Err(invalid(Some(name), error.to_string())),
                    Err(error) => {
                        return Err(invalid(Some(name), format!("{error}; for example {name} = {}", key.example)));
                    }
                }
            }
            if let Some(missing) = self.keys.iter().find(|key| key.is_required && !table.contains_key(key.name)) {
                let example = self.example_of(missing.name);
                return Err(invalid(None, format!("{} is missing; for example {example}", missing.name)));
            }
            check(table).map_err(|error| invalid(None, error.to_string()))?;
        }
        Ok(())
    }

    fn unknown_key(&self, name: &str) -> String {
        let suggestion = did_you_mean(name, self.key_names(), str::to_owned);
        let names: Vec<_> = self.key_names().collect();
        let all = match names.split_last() {
            Some((last, others)) => format!("; the keys are {} and {last}", others.join(", ")),
            None => String::new(),
        };
        format!("no such key{suggestion}{all}")
    }
}

impl ValueKind {
    fn check(self, value: &Value) -> Result<(), TableValueError> {
        let is_texts = || value.as_array().is_some_and(|items| items.iter().all(Value::is_str));
        match self {
            Self::Texts if !is_texts() => Err(TableValueError::Type("a list of strings")),
            Self::Flag if !value.is_bool() => Err(TableValueError::Type("true or false")),
            Self::Text | Self::Name { .. } if !value.is_str() => Err(TableValueError::Type("a string in quotes")),
            Self::Name { noun, all } => check_name(value.as_str().unwrap_or_default(), noun, &all()),
            Self::Texts | Self::Flag | Self::Text => Ok(()),
        }
    }
}

fn check_name(name: &str, noun: &'static str, all: &[&'static str]) -> Result<(), TableValueError> {
    if all.contains(&name) {
        return Ok(());
    }
    let suggestion = did_you_mean(name, all.iter().copied(), |near| format!("\"{near}\""));
    Err(TableValueError::Name { noun, all: all.join(", "), suggestion })
}
