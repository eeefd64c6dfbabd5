//! Variables that look like those of a key and are none: `SRM_MIRROR_DISK_LIMIT` has one underscore where two belong.
//!
//! They are reported and not refused: Kubernetes sets `SRM_MIRROR_SERVICE_HOST` and similar for a service called
//! srm-mirror.

use super::{
    Config, FILE_VARIABLE, TOKEN_VARIABLE,
    environment::Environment,
    layers::{VARIABLE_PREFIX, VARIABLE_SEPARATOR},
    schema,
};

/// What the variables of this program have in common with their misspelt forms.
const COMMON_PREFIX: &str = "SRM_MIRROR_";

/// Flags, whose names differ from their key's.
const FLAGS: [(&str, &str); 3] =
    [("LISTEN", "server.listen"), ("CACHE_DIR", "disk.dir"), ("PUBLIC_URL", "server.public_url")];

/// One sentence for each variable that is ignored although it resembles that of a key.
pub(super) fn warnings(environment: &Environment, config: &Config) -> Vec<String> {
    let names = environment.iter().filter_map(|(name, _)| name.to_str());
    let names = names.filter(|name| ![FILE_VARIABLE, TOKEN_VARIABLE].contains(name));
    let warning = |name: &str| {
        let rest = name.strip_prefix(COMMON_PREFIX).filter(|_| !name.starts_with(VARIABLE_PREFIX))?;
        let meant = variable_of(&squeezed(rest), config)?;
        Some(format!(
            "the variable {name} is ignored: two underscores separate the parts of a key; did you mean {meant}?"
        ))
    };
    names.filter_map(warning).collect()
}

/// The variable of the key whose parts, joined with one underscore, are `words`.
fn variable_of(words: &str, config: &Config) -> Option<String> {
    let variable = |parts: &[&str]| {
        let parts = parts.iter().map(|part| part.to_ascii_uppercase().replace('-', "_"));
        format!("{VARIABLE_PREFIX}{}", parts.collect::<Vec<_>>().join(VARIABLE_SEPARATOR))
    };
    if let Some((_, key)) = FLAGS.iter().find(|(flag, _)| *flag == words) {
        return Some(variable(&key.split('.').collect::<Vec<_>>()));
    }
    let mut keys = schema::keys().map(|key| key.iter().map(String::as_str).collect::<Vec<_>>());
    let upstream_keys = schema::keys().filter(|key| key.len() == 3 && key[0] == "upstreams").map(|key| key[2].as_str());
    let of_upstreams = config.upstreams.keys().flat_map(|name| {
        let key = move |key| vec!["upstreams", name.as_str(), key];
        upstream_keys.clone().map(key)
    });
    let found =
        keys.find(|key| joined(key) == words).or_else(|| of_upstreams.into_iter().find(|key| joined(key) == words));
    found.map(|key| variable(&key))
}

/// The parts of a key as a variable with single underscores would have them.
fn joined(key: &[&str]) -> String {
    key.join("_").to_ascii_uppercase().replace('-', "_")
}

/// The text with every run of underscores as one.
fn squeezed(text: &str) -> String {
    text.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}
