//! A setting: the path of a key, its value, and where the value was set.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// The value of one key, and where it was set.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: toml::Value,
    /// Where it was set.
    pub source: SettingSource,
}

/// Settings by the path of their key. A path whose value is an empty table is a section without keys.
pub(super) type Settings = BTreeMap<Vec<String>, Setting>;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// Not set: the default.
    Default,
    /// Not set: a default that was derived from the named key.
    Derived(&'static str),
    /// A line of the configuration file; lines count from 1.
    File(PathBuf, usize),
    /// A list of tables in the configuration file: the line of each.
    Tables(PathBuf, Vec<usize>),
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl SettingSource {
    /// True when the user set the value, false for a default.
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Default | Self::Derived(_))
    }

    /// Where one table of a list of tables was set; `number` counts from 1.
    pub(super) fn of_table(&self, number: usize) -> Self {
        match self {
            Self::Tables(path, lines) => {
                let line = lines.get(number.saturating_sub(1)).or(lines.first());
                Self::File(path.clone(), line.copied().unwrap_or(1))
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(key) => write!(f, "default, derived from {key}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Tables(path, lines) => write!(f, "{}:{}", path.display(), lines.first().unwrap_or(&1)),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A key's path with owned parts, as [`Settings`] holds it.
pub(super) fn owned_path(path: &[&str]) -> Vec<String> {
    path.iter().map(|&part| part.to_owned()).collect()
}

/// A key's path in TOML notation: dotted, parts that are not bare keys in quotes.
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let quote = |part: &String| if bare(part) { part.clone() } else { toml::Value::from(part.as_str()).to_string() };
    path.iter().map(quote).collect::<Vec<_>>().join(".")
}
