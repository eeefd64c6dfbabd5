//! What is wrong with the configuration, in one message for the person who wrote it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{layers::Setting, schema};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the default.
    Default,
    /// Nowhere, and the default was made from another key's value.
    Derived(&'static str),
    /// A line of the configuration file; lines count from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag(&'static str),
}

impl Source {
    /// True when somebody set the value, false for a default.
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Default | Self::Derived(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(key) => write!(f, "default, follows {key}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A wrong configuration. Prints as one line that names key, value, place, reason and an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file as a whole: it cannot be read, or is not TOML.
    #[error("config: {place}: {reason}")]
    File {
        /// The file, with the line where there is one.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A variable that is no key of ours.
    #[error("config: {name}: {reason}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong, and what is right.
        reason: String,
    },
    /// One key.
    #[error("config: {key}{} ({place}): {reason}", value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default())]
    Key {
        /// The key, dotted.
        key: String,
        /// Its value as TOML, secrets masked; `None` where the key itself is wrong.
        value: Option<String>,
        /// Where it was set.
        place: Source,
        /// What is wrong, and an example of what is right.
        reason: String,
    },
}

impl ConfigError {
    pub(super) fn file(path: &Path, line: Option<usize>, reason: impl fmt::Display) -> Self {
        let path = path.display();
        let place = line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"));
        Self::File { place, reason: reason.to_string() }
    }

    /// A key that must not be there.
    pub(super) fn unknown(path: &[String], place: &Source, reason: String) -> Self {
        Self::Key { key: dotted(path), value: None, place: place.clone(), reason }
    }

    /// A key whose value is wrong; adds an example where the reason has none.
    pub(super) fn value(path: &[String], leaf: &Setting, reason: impl fmt::Display) -> Self {
        let mut reason = reason.to_string();
        if !reason.contains("for example")
            && !reason.contains("did you mean")
            && let Some(example) = schema::example(path)
        {
            reason = format!("{reason}; for example {example}");
        }
        Self::Key { key: dotted(path), value: Some(shown(path, &leaf.value)), place: leaf.source.clone(), reason }
    }
}

/// `path` as it is written in TOML: parts that are not bare keys are quoted.
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let quote = |part: &String| if bare(part) { part.clone() } else { toml::Value::from(part.as_str()).to_string() };
    path.iter().map(quote).collect::<Vec<_>>().join(".")
}

/// A value as TOML, fit for a terminal: what looks like a secret is masked.
pub(super) fn shown(path: &[String], value: &toml::Value) -> String {
    const MASK: &str = "\"***\"";
    let name = path.last().map_or("", String::as_str);
    match value.as_str() {
        Some(text) if is_token(text) => MASK.into(),
        _ if schema::example(path).is_none() && schema::is_secret_word(name) => MASK.into(),
        Some(text) if name == "proxy" => toml::Value::from(without_password(text)).to_string(),
        _ => value.to_string(),
    }
}

/// True for a text that is itself a token, by the prefixes GitHub gives its own.
pub(super) fn is_token(text: &str) -> bool {
    ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"].iter().any(|prefix| text.trim().starts_with(prefix))
}

/// A proxy's address with `***` in place of everything before its `@`.
fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
        None => text.to_owned(),
    }
}
