//! The credentials of upstreams: checks of their entries, and their secrets from variables and files; no other code reads
//! them at start.

use std::collections::BTreeMap;

use toml::Value;

use super::{
    Config,
    environment::Environment,
    error::{ConfigError, ErrorReason},
    layers::invalid,
    masking::is_token,
    schema::is_secret_word,
    setting::{Setting, Settings, dotted, owned_path},
    suggestion::did_you_mean,
};
use crate::{
    upstream::{self, CredentialConfig, CredentialSource, CredentialSourceError, MAX_CREDENTIALS, UpstreamKind},
    value::Secret,
};

/// The credentials of each upstream by its name, the preferred ones first.
pub type UpstreamCredentials = BTreeMap<String, Vec<CredentialSource>>;

/// The key of an upstream's section.
const KEY: &str = "credentials";
/// What an entry may be.
const EXAMPLE: &str = "{ token_env = \"GITHUB_TOKEN\" }, { token_file = \"/run/secrets/token\" } or { app_id = \"123456\", \
                       key_file = \"/run/secrets/app.pem\" }";
/// The keys of an entry, each with the one that it needs beside it.
const ENTRY_KEYS: [(&str, Option<&str>); 4] =
    [("token_env", None), ("token_file", None), ("app_id", Some("key_file")), ("key_file", Some("app_id"))];

/// Checks the entries of every `credentials`: their keys, and that each value is a string.
///
/// # Errors
/// The first entry that is none of the three forms.
pub(super) fn check_keys(settings: &Settings) -> Result<(), ConfigError> {
    for (path, setting) in settings {
        if let [section, _, key] = path.as_slice()
            && section == "upstreams"
            && key == KEY
        {
            check_entries(&dotted(path), setting)?;
        }
    }
    Ok(())
}

fn check_entries(key: &str, setting: &Setting) -> Result<(), ConfigError> {
    let Some(entries) = setting.value.as_array() else { return Ok(()) };
    if entries.len() > MAX_CREDENTIALS {
        let reason = format!("at most {MAX_CREDENTIALS} credentials can be used");
        return Err(ConfigError::table(key, MAX_CREDENTIALS + 1, None, setting, reason));
    }
    for (index, entry) in entries.iter().enumerate() {
        let invalid = |field: Option<&str>, reason: String| ConfigError::table(key, index + 1, field, setting, reason);
        let Some(entry) = entry.as_table() else {
            return Err(invalid(None, format!("must be a table, for example {EXAMPLE}")));
        };
        for (name, value) in entry {
            let Some((_, beside)) = ENTRY_KEYS.iter().find(|(known, _)| known == name) else {
                // The value may be the secret itself: it is not repeated.
                let suggestion = did_you_mean(name, ENTRY_KEYS.iter().map(|(known, _)| *known), str::to_owned);
                let shown = (!is_secret_word(name)).then_some(name.as_str());
                return Err(invalid(shown, format!("{name} is no key of a credential{suggestion}; write {EXAMPLE}")));
            };
            if !value.is_str() {
                return Err(invalid(Some(name), format!("must be a string in quotes, for example {EXAMPLE}")));
            }
            if let Some(beside) = beside.filter(|beside| !entry.contains_key(*beside)) {
                return Err(invalid(None, format!("{beside} is missing, for example {EXAMPLE}")));
            }
        }
        let complete =
            entry.contains_key("app_id") && entry.len() == 2 || !entry.contains_key("app_id") && entry.len() == 1;
        if !complete {
            return Err(invalid(None, format!("must be one of {EXAMPLE}")));
        }
    }
    Ok(())
}

/// Why an entry cannot be used. No message contains a secret.
#[derive(Debug, thiserror::Error)]
enum CredentialError {
    #[error(transparent)]
    Source(#[from] CredentialSourceError),
    #[error("this is a token; write the name of the variable that holds it")]
    TokenAsVariable,
    #[error("not the name of a variable")]
    NotVariable,
    #[error("not an App ID or client ID of GitHub, for example \"123456\"")]
    NotApp,
    #[error("only an upstream of kind \"github\" has Apps")]
    NoApps,
    #[error("this credential stands here twice")]
    Twice,
}

/// The credentials of each upstream. A variable that is unset or empty means no credential.
///
/// # Errors
/// When a file cannot be read or is empty, or a secret is none, or a value is not what its key says.
pub(super) fn resolve(
    config: &Config,
    environment: &Environment,
    settings: &Settings,
) -> Result<UpstreamCredentials, ConfigError> {
    let mut all = UpstreamCredentials::new();
    for (name, upstream) in &config.upstreams {
        check_forms(name, upstream, settings)?;
        let entries = upstream.effective_credentials();
        let mut sources = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let read = if entries[..index].contains(entry) {
                Err(CredentialError::Twice)
            } else {
                read(entry, upstream.kind, environment)
            };
            sources.extend(read.map_err(|error| invalid_entry(name, upstream, settings, index, entry, &error))?);
        }
        all.insert(name.clone(), sources);
    }
    Ok(all)
}

/// Refuses `token_env` or `token_file` beside `credentials`, where they would have no effect.
fn check_forms(name: &str, upstream: &upstream::Config, settings: &Settings) -> Result<(), ConfigError> {
    for key in ["token_env", "token_file"] {
        let path = owned_path(&["upstreams", name, key]);
        let is_set = settings.get(&path).is_some_and(|setting| setting.source.is_set());
        if is_set && !upstream.credentials.is_empty() {
            let reason = format!("has no effect beside {KEY}; add it there, for example {{ {key} = … }}");
            return Err(invalid(settings, &["upstreams", name, key], ErrorReason::WithExample(reason)));
        }
    }
    Ok(())
}

fn read(
    entry: &CredentialConfig,
    kind: UpstreamKind,
    environment: &Environment,
) -> Result<Option<CredentialSource>, CredentialError> {
    match entry {
        CredentialConfig::Variable { token_env } => {
            check_variable(token_env)?;
            let Some(token) = environment.get(token_env).map(Secret::new) else { return Ok(None) };
            match CredentialSource::of_token(token_env, &token) {
                Err(CredentialSourceError::EmptyFile) => Ok(None),
                source => Ok(Some(source?)),
            }
        }
        CredentialConfig::File { token_file } => Ok(Some(CredentialSource::of_token_file(token_file)?)),
        CredentialConfig::App { app_id, key_file } => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
            if kind != UpstreamKind::Github {
                return Err(CredentialError::NoApps);
            }
            if app_id.is_empty() || app_id.len() > 64 || !app_id.bytes().all(allowed) {
                return Err(CredentialError::NotApp);
            }
            Ok(Some(CredentialSource::of_app(app_id, key_file)?))
        }
    }
}

fn check_variable(name: &str) -> Result<(), CredentialError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if is_token(name) {
        return Err(CredentialError::TokenAsVariable);
    }
    let valid = !name.is_empty() && name.bytes().all(allowed) && !name.as_bytes()[0].is_ascii_digit();
    if valid { Ok(()) } else { Err(CredentialError::NotVariable) }
}

/// The error for an entry, at its key in `credentials` or at the short form's.
fn invalid_entry(
    name: &str,
    upstream: &upstream::Config,
    settings: &Settings,
    index: usize,
    entry: &CredentialConfig,
    error: &CredentialError,
) -> ConfigError {
    let field = match (entry, error) {
        (CredentialConfig::Variable { .. }, _) => "token_env",
        (CredentialConfig::File { .. }, _) => "token_file",
        (CredentialConfig::App { .. }, CredentialError::Source(_)) => "key_file",
        (CredentialConfig::App { .. }, _) => "app_id",
    };
    if upstream.credentials.is_empty() {
        return invalid(settings, &["upstreams", name, field], error);
    }
    let path = owned_path(&["upstreams", name, KEY]);
    let default = Setting { value: Value::Array(Vec::new()), source: super::SettingSource::Default };
    let setting = settings.get(&path).unwrap_or(&default);
    ConfigError::table(&dotted(&path), index + 1, Some(field), setting, error)
}
