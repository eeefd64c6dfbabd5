//! The layers of the configuration (file, environment, flags), each read into a flat map of settings.
//!
//! Written by hand: the configuration crates do not keep the line of each value through a merge, and every error names
//! file and line.

use std::{fs, path::Path};

use serde::{
    Deserialize,
    de::{IntoDeserializer, value::MapDeserializer},
};
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    environment::Environment,
    error::{ConfigError, ErrorReason},
    schema::{self, SchemaItem},
    setting::{Setting, SettingSource, Settings, owned_path},
};
use crate::value::io_reason::io_reason;

/// Prefix of the variables that set a key.
pub(super) const VARIABLE_PREFIX: &str = "SRM_MIRROR__";

/// What separates the parts of a key in the name of its variable.
pub(super) const VARIABLE_SEPARATOR: &str = "__";

/// A value given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag with its dashes, `--listen`.
    pub name: &'static str,
    /// The key that it sets, `server.listen`.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// The settings of a TOML tree that has one source.
pub(super) fn of_tree(tree: Table, source: &SettingSource) -> Settings {
    let mut settings = Settings::new();
    flatten(&mut Vec::new(), Value::Table(tree), source, &mut settings);
    settings
}

fn flatten(path: &mut Vec<String>, value: Value, source: &SettingSource, into: &mut Settings) {
    match value {
        Value::Table(table) if path.is_empty() || !table.is_empty() => {
            for (key, value) in table {
                path.push(key);
                flatten(path, value, source, into);
                path.pop();
            }
        }
        value => {
            into.insert(path.clone(), Setting { value, source: source.clone() });
        }
    }
}

/// The settings of a configuration file.
///
/// # Errors
/// When the file cannot be read or is not TOML.
pub(super) fn of_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::file(path, None, format_args!("cannot be read: {}", io_reason(&error))))?;
    of_text(path, &text)
}

/// The settings of a configuration file's text.
///
/// # Errors
/// When the text is not TOML.
pub(super) fn of_text(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let source = FileText { path, text };
    let not_toml = |error: toml::de::Error| {
        let reason = format!("not TOML: {}", error.message().replace('\n', ", "));
        ConfigError::file(path, error.span().map(|span| source.line(span.start)), reason)
    };
    let tree = DeTable::parse(text).map_err(not_toml)?.into_inner();
    let mut settings = Settings::new();
    flatten_spanned(&mut Vec::new(), tree, &source, &mut settings).map_err(not_toml)?;
    Ok(settings)
}

/// A configuration file, for the lines of its values.
struct FileText<'f> {
    path: &'f Path,
    text: &'f str,
}

impl FileText<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
    }

    fn of_line(&self, offset: usize) -> SettingSource {
        SettingSource::File(self.path.to_owned(), self.line(offset))
    }

    fn of_tables(&self, offsets: impl Iterator<Item = usize>) -> SettingSource {
        SettingSource::Tables(self.path.to_owned(), offsets.map(|offset| self.line(offset)).collect())
    }
}

fn flatten_spanned(
    path: &mut Vec<String>,
    table: DeTable<'_>,
    source: &FileText<'_>,
    into: &mut Settings,
) -> Result<(), toml::de::Error> {
    for (key, value) in table {
        let key_source = match value.get_ref() {
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) && !items.is_empty() => {
                source.of_tables(items.iter().map(|item| item.span().start))
            }
            _ => source.of_line(key.span().start),
        };
        path.push(key.into_inner().into_owned());
        match value.into_inner() {
            DeValue::Table(table) if !table.is_empty() => flatten_spanned(path, table, source, into)?,
            value => {
                into.insert(path.clone(), Setting { value: without_spans(value)?, source: key_source });
            }
        }
        path.pop();
    }
    Ok(())
}

/// A parsed value without its positions in the text.
fn without_spans(value: DeValue<'_>) -> Result<Value, toml::de::Error> {
    let pair = [("value", Spanned::new(0..0, value).into_deserializer())].into_iter();
    let mut table = Table::deserialize(MapDeserializer::new(pair))?;
    Ok(table.remove("value").unwrap_or(Value::Boolean(false)))
}

/// The settings of all variables that begin with `SRM_MIRROR__`.
///
/// `SRM_MIRROR__UPSTREAMS__MY_FORGE__API` sets `upstreams.my-forge.api`: most shells allow no dash in a name, and an
/// upstream's name has no underscore. Names with one underscore after `SRM_MIRROR` are ignored: Kubernetes sets
/// `SRM_MIRROR_SERVICE_HOST` and similar for a service called srm-mirror.
///
/// # Errors
/// When a variable names no key, or its value is not UTF-8.
pub(super) fn of_environment(environment: &Environment) -> Result<Settings, ConfigError> {
    let mut settings = Settings::new();
    for (name, value) in environment.iter() {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(VARIABLE_PREFIX)) else { continue };
        let source = SettingSource::Variable(format!("{VARIABLE_PREFIX}{key}"));
        let mut path: Vec<String> = key.split(VARIABLE_SEPARATOR).map(str::to_ascii_lowercase).collect();
        if path.len() > 1 && path[0] == "upstreams" {
            path[1] = path[1].replace('_', "-");
        }
        let Some(text) = value.to_str() else {
            return Err(ConfigError::key(&path, &source, "the variable's value is not UTF-8"));
        };
        match schema::find(&path) {
            SchemaItem::Value(like) => {
                settings.insert(path, Setting { value: parse_like(like, text), source });
            }
            // A whole section as an inline table: {fc3 = "devsapp/fc3"}.
            SchemaItem::Section => match parse_value(text) {
                Some(value @ Value::Table(_)) => flatten(&mut path, value, &source, &mut settings),
                _ => {
                    let reason = "a section takes an inline table, for example {key = \"value\"}";
                    return Err(ConfigError::key(&path, &source, reason));
                }
            },
            SchemaItem::Unknown => {
                return Err(ConfigError::key(&path, &source, schema::explain_unknown(&path)));
            }
        }
    }
    Ok(settings)
}

/// A text as a TOML value.
fn parse_value(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("v = {text}")).ok()?.remove("v")
}

/// A variable's text as a value of the same type as `like`; else as a string, whose type [`super::parse`] refuses.
fn parse_like(like: &Value, text: &str) -> Value {
    match parse_value(text) {
        Some(value) if value.same_type(like) => value,
        _ if like.is_array() => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(Value::from).collect())
        }
        _ => Value::from(text),
    }
}

/// The settings of the command-line flags.
pub(super) fn of_flags(flags: &[Flag]) -> Settings {
    let setting = |flag: &Flag| Setting { value: flag.value.clone(), source: SettingSource::Flag(flag.name) };
    flags.iter().map(|flag| (flag.key.split('.').map(str::to_owned).collect(), setting(flag))).collect()
}

/// Checks that every path is a key of the schema, and that sections and values are where the schema has them.
///
/// # Errors
/// The first path that is not.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    for (path, setting) in settings {
        match (schema::find(path), &setting.value) {
            (SchemaItem::Value(_), Value::Table(_)) => {
                return Err(ConfigError::value(path, setting, "this is a value, not a section"));
            }
            (SchemaItem::Section, Value::Table(_)) | (SchemaItem::Value(_), _) => {}
            (SchemaItem::Section, _) => {
                let reason = "this is a section; write its keys under it, for example [server]";
                return Err(ConfigError::key(path, &setting.source, reason));
            }
            (SchemaItem::Unknown, _) => {
                let unknown = (1..=path.len()).find(|&n| schema::find(&path[..n]) == SchemaItem::Unknown);
                let reason = schema::explain_unknown(&path[..unknown.unwrap_or(path.len())]);
                return Err(ConfigError::key(path, &setting.source, reason));
            }
        }
    }
    Ok(())
}

/// The settings as one TOML tree.
pub(super) fn to_tree(settings: &Settings) -> Table {
    let mut tree = Table::new();
    for (path, setting) in settings {
        insert(&mut tree, path, &setting.value);
    }
    tree
}

fn insert(tree: &mut Table, path: &[String], value: &Value) {
    match path {
        [] => {}
        [last] => drop(tree.insert(last.clone(), value.clone())),
        [first, rest @ ..] => {
            if let Value::Table(table) = tree.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
                insert(table, rest, value);
            }
        }
    }
}

/// The error for a key whose value is invalid, with the place where it was set.
pub(super) fn invalid(settings: &Settings, path: &[&str], reason: impl Into<ErrorReason>) -> ConfigError {
    let path = owned_path(path);
    match settings.get(&path) {
        Some(setting) => ConfigError::value(&path, setting, reason),
        None => ConfigError::key(&path, &SettingSource::Default, reason.into().or_example(|| None)),
    }
}
