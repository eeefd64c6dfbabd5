//! The layers of the configuration as flat maps from key to value and place, and their merging.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use serde::{
    Deserialize,
    de::{IntoDeserializer, value::MapDeserializer},
};
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Source},
    schema::{self, Kind},
};

/// One value and where it was set.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Where it was set.
    pub source: Source,
}

/// Values by their path. A path that holds an empty table is a section somebody opened and left empty.
pub(super) type Settings = BTreeMap<Vec<String>, Setting>;

/// What separates the parts of a variable's name, and what all of ours begin with.
const SEPARATOR: &str = "__";
const PREFIX: &str = "SRM_MIRROR__";

/// More threads than processors are of no use; each has descriptors of its own.
const MOST_WORKERS: usize = 256;

/// The variables of the process, or in tests any others.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable that is set, not empty and text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name.as_ref() as &std::ffi::OsStr).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// Looks at the one variable that we do not read ourselves, `TOKIO_WORKER_THREADS`: tokio panics over what is no number
    /// of threads.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn check_workers(&self) -> Result<(), ConfigError> {
        const NAME: &str = "TOKIO_WORKER_THREADS";
        let Some(said) = self.0.get(NAME.as_ref() as &std::ffi::OsStr) else { return Ok(()) };
        let count = said.to_str().and_then(|said| said.parse().ok());
        if count.is_some_and(|count: usize| (1..=MOST_WORKERS).contains(&count)) {
            return Ok(());
        }
        let reason = format!("{said:?} is not a number of threads; write 1 to {MOST_WORKERS}, or unset it");
        Err(ConfigError::Variable { name: NAME, reason })
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// A value given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag as it is typed, `--listen`.
    pub name: &'static str,
    /// The key it sets, `server.listen`.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// The leaves of a tree that all come from one place.
pub(super) fn of_tree(tree: Table, source: &Source) -> Settings {
    let mut leaves = Settings::new();
    flatten(&mut Vec::new(), Value::Table(tree), source, &mut leaves);
    leaves
}

fn flatten(at: &mut Vec<String>, value: Value, source: &Source, into: &mut Settings) {
    match value {
        Value::Table(table) if at.is_empty() || !table.is_empty() => {
            for (key, value) in table {
                at.push(key);
                flatten(at, value, source, into);
                at.pop();
            }
        }
        value => {
            into.insert(at.clone(), Setting { value, source: source.clone() });
        }
    }
}

/// The leaves of a file.
pub(super) fn of_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|why| ConfigError::file(path, None, format_args!("cannot be read: {}", reason(&why))))?;
    of_text(path, &text)
}

/// The system's words for an error, without its number.
pub(super) fn reason(why: &std::io::Error) -> String {
    let text = why.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The leaves of a file's text.
pub(super) fn of_text(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let line = |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
    let wrong = |why: toml::de::Error| {
        let reason = format!("not TOML: {}", why.message().replace('\n', ", "));
        ConfigError::file(path, why.span().map(|span| line(span.start)), reason)
    };
    let tree = DeTable::parse(text).map_err(wrong)?.into_inner();
    let mut leaves = Settings::new();
    let place = |offset| Source::File(path.to_owned(), line(offset));
    spanned(&mut Vec::new(), tree, &place, &mut leaves).map_err(wrong)?;
    Ok(leaves)
}

fn spanned(
    at: &mut Vec<String>,
    table: DeTable<'_>,
    place: &impl Fn(usize) -> Source,
    into: &mut Settings,
) -> Result<(), toml::de::Error> {
    for (key, value) in table {
        let source = place(key.span().start);
        at.push(key.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(table) if !table.is_empty() => spanned(at, table, place, into)?,
            value => {
                into.insert(at.clone(), Setting { value: plain(value)?, source });
            }
        }
        at.pop();
    }
    Ok(())
}

/// A parsed value without its places.
fn plain(value: DeValue<'_>) -> Result<Value, toml::de::Error> {
    let pair = [("value", Spanned::new(0..0, value).into_deserializer())].into_iter();
    let mut table = Table::deserialize(MapDeserializer::new(pair))?;
    Ok(table.remove("value").unwrap_or(Value::Boolean(false)))
}

/// The leaves of all variables that are ours.
///
/// `SRM_MIRROR__UPSTREAMS__MY_FORGE__API` is `upstreams.my-forge.api`: most shells have no names with a dash, and an
/// upstream's name has no underscore. One underscore after `SRM_MIRROR` is not ours: Kubernetes sets
/// `SRM_MIRROR_SERVICE_HOST` and its like for a service of our name.
pub(super) fn of_environment(environment: &Environment) -> Result<Settings, ConfigError> {
    let mut leaves = Settings::new();
    for (name, value) in &environment.0 {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let source = Source::Variable(format!("{PREFIX}{key}"));
        let mut path: Vec<String> = key.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
        if path.len() > 1 && path[0] == "upstreams" {
            path[1] = path[1].replace('_', "-");
        }
        let Some(text) = value.to_str() else {
            return Err(ConfigError::unknown(&path, &source, "the variable's value is not UTF-8".into()));
        };
        match schema::find(&path) {
            Kind::Value(like) => {
                leaves.insert(path, Setting { value: parse_like(like, text), source });
            }
            // A whole section as an inline table: {fc3 = "devsapp/fc3"}.
            Kind::Section => match toml::from_str::<Table>(&format!("v = {text}")).map(|mut table| table.remove("v")) {
                Ok(Some(value @ Value::Table(_))) => flatten(&mut path, value, &source, &mut leaves),
                _ => {
                    let reason = "a section takes an inline table, for example {key = \"value\"}".to_owned();
                    return Err(ConfigError::unknown(&path, &source, reason));
                }
            },
            Kind::Unknown => return Err(ConfigError::unknown(&path, &source, schema::unknown(&path))),
        }
    }
    Ok(leaves)
}

/// A variable's text as a value of the same type as `like`, else as a string (whose type is then complained of).
fn parse_like(like: &Value, text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut table| table.remove("v"));
    match parsed {
        Some(value) if value.same_type(like) => value,
        _ if like.is_array() => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(Value::from).collect())
        }
        _ => Value::from(text),
    }
}

/// The leaves of the flags.
pub(super) fn of_flags(flags: &[Flag]) -> Settings {
    let leaf = |flag: &Flag| Setting { value: flag.value.clone(), source: Source::Flag(flag.name) };
    flags.iter().map(|flag| (flag.key.split('.').map(str::to_owned).collect(), leaf(flag))).collect()
}

/// Refuses what is not a key, and sections that are no sections.
pub(super) fn check_keys(leaves: &Settings) -> Result<(), ConfigError> {
    for (path, leaf) in leaves {
        match (schema::find(path), &leaf.value) {
            (Kind::Value(_), Value::Table(_)) => {
                return Err(ConfigError::value(path, leaf, "this is a value, not a section"));
            }
            (Kind::Section, Value::Table(_)) | (Kind::Value(_), _) => {}
            (Kind::Section, _) => {
                let reason = "this is a section; write its keys under it, for example [server]".to_owned();
                return Err(ConfigError::unknown(path, &leaf.source, reason));
            }
            (Kind::Unknown, _) => return Err(ConfigError::unknown(path, &leaf.source, unknown_part(path))),
        }
    }
    Ok(())
}

/// The first part of the path that is unknown is the one to complain of.
fn unknown_part(path: &[String]) -> String {
    let known = (1..=path.len()).find(|&n| schema::find(&path[..n]) == Kind::Unknown).unwrap_or(path.len());
    schema::unknown(&path[..known])
}

/// The leaves as one tree.
pub(super) fn to_tree(leaves: &Settings) -> Table {
    let mut tree = Table::new();
    for (path, leaf) in leaves {
        put(&mut tree, path, &leaf.value);
    }
    tree
}

fn put(tree: &mut Table, path: &[String], value: &Value) {
    match path {
        [] => {}
        [last] => drop(tree.insert(last.clone(), value.clone())),
        [first, rest @ ..] => {
            if let Value::Table(table) = tree.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
                put(table, rest, value);
            }
        }
    }
}

/// The error that a key's value is wrong.
pub(super) fn wrong(leaves: &Settings, path: &[&str], reason: impl std::fmt::Display) -> ConfigError {
    let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
    match leaves.get(&path) {
        Some(leaf) => ConfigError::value(&path, leaf, reason),
        None => ConfigError::unknown(&path, &Source::Default, reason.to_string()),
    }
}
