//! Names in the configuration: upstreams and the defaults of their kind, aliases, package patterns, host patterns.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{
    Config,
    error::{ConfigError, ErrorReason},
    fleet, hosting,
    layers::{self, invalid},
    routes,
    setting::{Setting, SettingSource, Settings, dotted, owned_path},
    sharing,
    suggestion::did_you_mean,
};
use crate::{
    dialect::{AliasError, HOSTED, Names, NamesError, PackageError, is_reserved_word},
    package::{NameForm, PackageName, PackagePattern, PatternError, VersionedPattern, VersionedPatternError},
    upstream::{self, UpstreamKind},
    value::BaseUrl,
};

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
    if set.keys().any(|path| path[0] == sharing::SHARED) {
        settings.extend(sharing::defaults());
    }
    if set.keys().any(|path| path[0] == fleet::FLEET) {
        settings.extend(fleet::defaults());
    }
    settings.extend(set.into_iter().filter(|(_, setting)| !setting.value.is_table()));
    Ok(settings)
}

/// The defaults of one upstream: those of the default upstream of its kind.
fn upstream_defaults(name: &str, set: &Settings) -> Result<Settings, ConfigError> {
    let known = upstream::defaults();
    let path = |key: &str| owned_path(&["upstreams", name, key]);
    if name == HOSTED {
        let setting = |(key, value): (String, Value)| (path(&key), Setting { value, source: SettingSource::Default });
        return Ok(hosting::defaults().into_iter().map(setting).collect());
    }
    let like = match set.get(&path("kind")) {
        Some(setting) => {
            let kind = setting.value.as_str();
            let like = known.iter().find(|(_, section)| kind == Some(section.kind.as_str()));
            like.ok_or_else(|| {
                let all = UpstreamKind::ALL.map(UpstreamKind::as_str).join(", ");
                ConfigError::value(&path("kind"), setting, format_args!("no such kind; the kinds are {all}"))
            })?
        }
        None => known.get_key_value(name).ok_or_else(|| {
            let section = owned_path(&["upstreams", name]);
            let source = set.iter().find(|(path, _)| path.starts_with(&section)).map(|(_, setting)| &setting.source);
            let suggestion = did_you_mean(name, known.keys().map(String::as_str), |near| format!("upstreams.{near}"));
            let reason = format!("a new upstream needs its kind, for example kind = \"github\"{suggestion}");
            ConfigError::key(&path("kind"), source.unwrap_or(&SettingSource::Default), reason)
        })?,
    };
    let (default_name, like) = like;
    let mut table = Table::try_from(like).unwrap_or_default();
    let api = set.get(&path("api")).and_then(|setting| setting.value.as_str()?.parse::<BaseUrl>().ok());
    let mut derived_from_api = Vec::new();
    if let Some(api) = api.filter(|api| *api != like.api) {
        // Another forge has its web pages beside its API, not at the public forge.
        if like.web.is_some() && api.origin() != like.api.origin() {
            table.insert("web".into(), Value::from(api.origin().ascii_serialization()));
            derived_from_api.push("web");
        }
        // The public forge's token must not reach another host by default. Setting the API of a default upstream
        // (`github`) keeps the token: the user means that very upstream.
        if name != default_name {
            table.remove("token_env");
        }
    }
    // A list of credentials is in place of the default one.
    if set
        .get(&path("credentials"))
        .is_some_and(|setting| setting.value.as_array().is_some_and(|list| !list.is_empty()))
    {
        table.remove("token_env");
    }
    let setting = |(key, value): (String, Value)| {
        let derived = derived_from_api.contains(&key.as_str());
        let source = if derived { SettingSource::Derived("api") } else { SettingSource::Default };
        (path(&key), Setting { value, source })
    };
    Ok(table.into_iter().map(setting).collect())
}

/// Checks the names of the upstreams, `names.*`, `routes`, `required` and the patterns of `packages.*`.
///
/// # Errors
/// The first invalid name.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    check_upstreams(config, settings)?;
    let names = config.names().map_err(|error| invalid_name(config, settings, &error))?;
    check_required(config, settings, &names)?;
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
        return Err(invalid_upstream(settings, name, reason));
    }
    Ok(())
}

/// The error for the name of an upstream, at the first of its keys that is set.
fn invalid_upstream(settings: &Settings, name: &str, reason: &str) -> ConfigError {
    let path = owned_path(&["upstreams", name]);
    let sources = settings.iter().filter(|(key, _)| key.starts_with(&path)).map(|(_, setting)| &setting.source);
    let source = sources.into_iter().find(|source| source.is_set()).unwrap_or(&SettingSource::Default);
    ConfigError::key(&path, source, reason)
}

/// The error for a name that [`Config::names`] refuses.
fn invalid_name(config: &Config, settings: &Settings, error: &NamesError) -> ConfigError {
    match error {
        NamesError::Upstream { name, reason } => invalid_upstream(settings, name, reason),
        NamesError::DefaultUpstream(name) if config.upstreams.contains_key(name) => {
            let reason = "its packages have no owner; name a forge, for example \"github\"";
            invalid(settings, &["names", "default_upstream"], ErrorReason::with_example(reason))
        }
        NamesError::DefaultUpstream(name) => {
            let suggestion = did_you_mean(name, config.upstream_names(), |near| format!("\"{near}\""));
            let reason = ErrorReason::with_suggestion(no_such_upstream(config), &suggestion);
            invalid(settings, &["names", "default_upstream"], reason)
        }
        NamesError::Hosted { key, name, reason } => {
            let text = format!("\"{name}\": {reason}");
            let reason = if reason.has_example() { ErrorReason::WithExample(text) } else { text.into() };
            invalid(settings, &["host", key], reason)
        }
        NamesError::DefaultOwner { reason, .. } => invalid(settings, &["names", "default_owner"], reason),
        NamesError::Route { number, reason } => routes::invalid_table(config, settings, *number, reason),
        NamesError::Alias { key, reason, .. } => {
            let key = key.trim_matches('"');
            let reason = match reason {
                AliasError::Name(error) => ErrorReason::with_example(format_args!(
                    "not a name: {error}; write name or owner/name, for example fc3"
                )),
                AliasError::Package(PackageError::UnknownUpstream(_)) => no_such_upstream(config).into(),
                other if other.has_example() => ErrorReason::with_example(other),
                other => other.into(),
            };
            invalid(settings, &["names", "aliases", key], reason)
        }
    }
}

fn check_required(config: &Config, settings: &Settings, names: &Names) -> Result<(), ConfigError> {
    for (name, required) in &config.required.0 {
        let invalid = |reason: ErrorReason| invalid(settings, &["required", name], reason);
        name.parse::<PackageName>().map_err(|error| {
            let text = format!("{name} is not a name: {error}; for example fc3 = [\"fc3-domain\"]");
            invalid(ErrorReason::WithExample(text))
        })?;
        for other in required {
            let not_package = |error| format!("\"{other}\" is not a package: {error}");
            names.parse_package(other).map_err(|error| invalid(not_package(error).into()))?;
        }
    }
    Ok(())
}

fn check_patterns(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let packages = &config.packages;
    if let Some(text) = packages.private_allow.iter().find(|text| text.contains('@')) {
        let reason = format!("\"{text}\" names a version; a repository is private in all its versions");
        return Err(invalid(settings, &["packages", "private_allow"], reason));
    }
    let ages = packages.min_age_for.iter().map(|entry| ("min_age_for", &entry.packages));
    let models = packages.model_for.iter().map(|entry| ("model_for", &entry.packages));
    for (key, text) in ages.chain(models) {
        let checked = if text.contains('@') {
            Err(PackagesPatternError::Malformed { text: text.clone(), reason: PatternError.into() })
        } else {
            check_pattern(config, text)
        };
        checked.map_err(|error| invalid(settings, &["packages", key], error.reason()))?;
    }
    let lists = [("allow", &packages.allow), ("deny", &packages.deny), ("private_allow", &packages.private_allow)];
    for (key, patterns) in lists {
        for text in patterns {
            check_pattern(config, text).map_err(|error| invalid(settings, &["packages", key], error.reason()))?;
        }
    }
    Ok(())
}

/// Why a pattern of packages cannot be used.
#[derive(Debug, thiserror::Error)]
enum PackagesPatternError {
    #[error("\"{text}\" is {reason}")]
    Malformed { text: String, reason: VersionedPatternError },
    #[error("\"{text}\": no such upstream; the upstreams are {upstreams}{suggestion}")]
    UnknownUpstream { text: String, upstreams: String, suggestion: String },
    #[error("\"{text}\" matches nothing: the packages of {upstream} {form}, for example [\"{example}\"]")]
    OtherForm { text: String, upstream: String, form: &'static str, example: String },
}

impl PackagesPatternError {
    fn reason(&self) -> ErrorReason {
        match self {
            Self::UnknownUpstream { suggestion, .. } if suggestion.is_empty() => self.into(),
            Self::Malformed { .. } | Self::UnknownUpstream { .. } | Self::OtherForm { .. } => {
                ErrorReason::with_example(self)
            }
        }
    }
}

/// Checks a pattern, and that a pattern with an upstream can match packages of that upstream: a rule that matches nothing
/// protects nothing.
fn check_pattern(config: &Config, text: &str) -> Result<(), PackagesPatternError> {
    let malformed = |reason| PackagesPatternError::Malformed { text: text.to_owned(), reason };
    let pattern = text.parse::<VersionedPattern>().map_err(malformed)?;
    let name = pattern.packages_text();
    let Some((upstream, name)) = name.split_once(':') else { return Ok(()) };
    // As a pattern of plain names it matches the names of upstreams, which have their form.
    let pattern: PackagePattern = upstream.parse().map_err(|error: PatternError| malformed(error.into()))?;
    let mut matched = config.named_upstreams();
    matched.retain(|known| PackageName::plain(&known.name).is_ok_and(|known| pattern.matches_name(&known)));
    let form = if name.contains('/') { NameForm::Repository } else { NameForm::Plain };
    match matched.first() {
        None => {
            let suggestion = did_you_mean(upstream, config.upstream_names(), |near| format!("\"{near}:{name}\""));
            let upstreams = config.upstream_names().collect::<Vec<_>>().join(", ");
            Err(PackagesPatternError::UnknownUpstream { text: text.to_owned(), upstreams, suggestion })
        }
        Some(first) if name != "*" && matched.iter().all(|upstream| upstream.form != form) => {
            let (form, example) = match first.form {
                NameForm::Repository => ("are written owner/repo", format!("{}:devsapp/*", first.name)),
                NameForm::Plain => ("have names without a slash", format!("{}:fc*", first.name)),
            };
            let upstream = first.name.to_string();
            Err(PackagesPatternError::OtherForm { text: text.to_owned(), upstream, form, example })
        }
        Some(_) => Ok(()),
    }
}

fn no_such_upstream(config: &Config) -> String {
    format!("no such upstream; the upstreams are {}", config.upstream_names().collect::<Vec<_>>().join(", "))
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
