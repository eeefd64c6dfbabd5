//! Names in the configuration: upstreams and the defaults of their kind, aliases, package patterns, host patterns.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{
    Config,
    error::ConfigError,
    layers::{self, invalid},
    schema,
    setting::{Setting, SettingSource, Settings, dotted, owned_path},
};
use crate::{dialect::is_reserved_word, package::PackageName, upstream, value::BaseUrl};

/// Completes the user's settings with all defaults; an upstream's defaults are those of its kind.
///
/// # Errors
/// When an upstream has no kind, or an unknown one.
pub(super) fn with_defaults(set: Settings) -> Result<Settings, ConfigError> {
    // Serialising the defaults cannot fail; a test holds that.
    let mut tree = Table::try_from(Config::default()).unwrap_or_default();
    tree.remove("upstreams");
    let mut settings = layers::of_tree(tree, &SettingSource::Default);
    let upstream_of = |path: &Vec<String>| (path[0] == "upstreams").then(|| path.get(1).cloned()).flatten();
    let known = upstream::defaults();
    let names: BTreeSet<String> = set.keys().filter_map(upstream_of).chain(known.keys().cloned()).collect();
    for name in &names {
        settings.extend(upstream_defaults(name, &set)?);
    }
    settings.extend(set.into_iter().filter(|(_, setting)| !setting.value.is_table()));
    Ok(settings)
}

/// The defaults of one upstream.
fn upstream_defaults(name: &str, set: &Settings) -> Result<Settings, ConfigError> {
    let known = upstream::defaults();
    let path = |key: &str| owned_path(&["upstreams", name, key]);
    let kind = set.get(&path("kind"));
    let kind_name = kind.and_then(|setting| setting.value.as_str()).unwrap_or(name);
    let Some(like) = known.get(kind_name) else {
        return Err(match kind {
            Some(setting) => {
                let all: Vec<&str> = known.keys().map(String::as_str).collect();
                ConfigError::value(
                    &path("kind"),
                    setting,
                    format_args!("no such kind; the kinds are {}", all.join(", ")),
                )
            }
            None => {
                let section = owned_path(&["upstreams", name]);
                let source =
                    set.iter().find(|(path, _)| path.starts_with(&section)).map(|(_, setting)| &setting.source);
                let suggestion =
                    did_you_mean(name, known.keys().map(String::as_str), |near| format!("upstreams.{near}"));
                let reason = format!("a new upstream needs its kind, for example kind = \"github\"{suggestion}");
                ConfigError::key(&path("kind"), source.unwrap_or(&SettingSource::Default), reason)
            }
        });
    };
    let mut table = Table::try_from(like).unwrap_or_default();
    let api = set.get(&path("api")).and_then(|setting| setting.value.as_str()?.parse::<BaseUrl>().ok());
    let mut derived_from_api = Vec::new();
    if let Some(api) = api.filter(|api| *api != like.api) {
        // Another forge has its web pages beside its API, not at the public forge.
        if api.origin() != like.api.origin() {
            table.insert("web".into(), Value::from(api.origin().ascii_serialization()));
            derived_from_api.push("web");
        }
        // The public forge's token must not reach another host by default. Setting the API of the upstream that is
        // named after its kind (`github`) keeps the token: the user means that very upstream.
        if name != kind_name {
            table.remove("token_env");
        }
    }
    let setting = |(key, value): (String, Value)| {
        let derived = derived_from_api.contains(&key.as_str());
        let source = if derived { SettingSource::Derived("api") } else { SettingSource::Default };
        (path(&key), Setting { value, source })
    };
    Ok(table.into_iter().map(setting).collect())
}

/// Checks the names of the upstreams, `names.*` and the patterns of `packages.*`.
///
/// # Errors
/// The first invalid name.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    check_upstreams(config, settings)?;
    check_defaults(config, settings)?;
    check_aliases(config, settings)?;
    check_patterns(config, settings)
}

fn check_upstreams(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    for name in config.upstreams.keys() {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let reason = if name.is_empty() || !name.bytes().all(allowed) {
            "an upstream's name may only have lower-case letters, digits and dashes, for example my-forge"
        } else if is_reserved_word(name) {
            "this word is reserved in paths; choose another name, for example my-forge"
        } else {
            continue;
        };
        let path = owned_path(&["upstreams", name]);
        let sources = settings.iter().filter(|(key, _)| key.starts_with(&path)).map(|(_, setting)| &setting.source);
        let source = sources.into_iter().find(|source| source.is_set()).unwrap_or(&SettingSource::Default);
        return Err(ConfigError::key(&path, source, reason));
    }
    Ok(())
}

fn check_defaults(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let names = &config.names;
    if !config.upstreams.contains_key(&names.default_upstream) {
        let upstreams = config.upstreams.keys().map(String::as_str);
        let suggestion = did_you_mean(&names.default_upstream, upstreams, |near| format!("\"{near}\""));
        let reason = format!("{}{suggestion}", no_such_upstream(config));
        return Err(invalid(settings, &["names", "default_upstream"], reason));
    }
    if let Some(owner) = &names.default_owner {
        PackageName::new(owner, "x").map_err(|error| invalid(settings, &["names", "default_owner"], error))?;
    }
    Ok(())
}

fn check_aliases(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let names = &config.names;
    let mut seen = BTreeSet::new();
    for (alias, package) in &names.aliases {
        let invalid = |reason: String| invalid(settings, &["names", "aliases", alias], reason);
        alias
            .parse::<PackageName>()
            .map_err(|error| invalid(format!("not a name: {error}; write name or owner/name, for example fc3")))?;
        let first = alias.split('/').next().unwrap_or_default().to_ascii_lowercase();
        if is_reserved_word(&first) || config.upstreams.contains_key(&first) {
            return Err(invalid("this alias cannot be reached: its first word is reserved in paths".into()));
        }
        if !seen.insert(alias.to_ascii_lowercase()) {
            return Err(invalid("this alias exists twice (names compare without case)".into()));
        }
        let (upstream, package) = package.split_once(':').unwrap_or((&names.default_upstream, package));
        if !config.upstreams.contains_key(upstream) {
            return Err(invalid(no_such_upstream(config)));
        }
        package.parse::<PackageName>().map_err(|error| invalid(error.to_string()))?;
    }
    Ok(())
}

fn check_patterns(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    const PATTERNS_EXAMPLE: &str = "for example [\"devsapp/*\", \"gitee:*/*\"]";
    let packages = &config.packages;
    let lists = [("allow", &packages.allow), ("deny", &packages.deny), ("private_allow", &packages.private_allow)];
    for (key, patterns) in lists {
        for pattern in patterns {
            let invalid = |reason: String| invalid(settings, &["packages", key], reason);
            let (upstream, rest) = pattern.split_once(':').unwrap_or((&config.names.default_upstream, pattern));
            if !config.upstreams.contains_key(upstream) {
                return Err(invalid(format!("\"{pattern}\": {}; {PATTERNS_EXAMPLE}", no_such_upstream(config))));
            }
            rest.replace(['*', '?'], "x")
                .parse::<PackageName>()
                .map_err(|error| invalid(format!("\"{pattern}\" is not owner/repo: {error}; {PATTERNS_EXAMPLE}")))?;
        }
    }
    Ok(())
}

fn no_such_upstream(config: &Config) -> String {
    format!("no such upstream; the upstreams are {}", config.upstreams.keys().cloned().collect::<Vec<_>>().join(", "))
}

/// The clause that suggests the most similar name, or nothing.
fn did_you_mean<'a>(word: &str, names: impl Iterator<Item = &'a str>, show: impl FnOnce(&str) -> String) -> String {
    schema::nearest(word, names).map(|near| format!("; did you mean {}?", show(near))).unwrap_or_default()
}

/// A host pattern that is not `name`, `*.name` or `name:port`.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a host; write name, *.name or name:port")]
pub(super) struct HostPatternError(String);

/// Checks `name`, `*.name` or `name:port`.
///
/// # Errors
/// When the text is none of these.
pub(super) fn check_host(text: &str) -> Result<(), HostPatternError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '[' | ']' | ':');
    let valid = !name.is_empty() && name.chars().all(allowed) && !name.starts_with('.') && !name.contains("..");
    if !valid || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(HostPatternError(dotted(&[text.to_owned()])));
    }
    Ok(())
}
