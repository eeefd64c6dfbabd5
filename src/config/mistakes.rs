//! Finds all mistakes of a configuration, not only the first.
//!
//! The checks stop at the first mistake, because later ones rely on earlier ones. Here the value that is wrong is left
//! out and everything is checked again, until nothing is wrong.

use std::path::{Path, PathBuf};

use super::{
    ConfigError, Environment, FILE_VARIABLE, Loaded, layers, merge,
    setting::{SettingSource, Settings, dotted},
};

/// The most mistakes that are reported at once.
const MAX_MISTAKES: usize = 50;

/// Keys that are wrong without another one: when the first is left out as a mistake, so are the others.
const DEPENDENT_KEYS: [(&str, &[&str]); 3] = [
    ("server.trusted_proxies", &["server.client_header"]),
    ("server.known_hosts", &["packages.private", "packages.private_allow"]),
    ("server.tls.certificates", &["server.tls.listen"]),
];

/// Every mistake of a configuration, in the order in which they were found; at least one.
#[derive(Debug)]
pub struct Mistakes(pub Vec<ConfigError>);

/// Merges all layers as [`super::load`], without flags, and reports every mistake.
///
/// # Errors
/// All invalid keys, values and variables; or the file alone, where it cannot be read or is not TOML.
pub fn load_or_all_mistakes(file: Option<&Path>, environment: &Environment) -> Result<Loaded, Mistakes> {
    let file = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
    let mut found = Vec::new();
    let mut settings = match file.as_deref().map(layers::of_file).transpose() {
        Ok(settings) => settings.unwrap_or_default(),
        Err(error) => return Err(Mistakes(vec![error])),
    };
    let mut environment = environment.clone();
    if let Err(error) = environment.check_worker_threads() {
        found.push(error);
    }
    while found.len() < MAX_MISTAKES {
        let error = match merge(settings.clone(), &environment, &[]) {
            Ok(loaded) if found.is_empty() => return Ok(loaded),
            Ok(_) => break,
            Err(error) => error,
        };
        let repeated = found.iter().any(|known| is_same_place(known, &error));
        let left_out = leave_out(&mut settings, &mut environment, &error, repeated);
        if !repeated {
            found.push(error);
        }
        if !left_out {
            break;
        }
    }
    Err(Mistakes(found))
}

/// True for two errors of one key, set at one place.
fn is_same_place(one: &ConfigError, other: &ConfigError) -> bool {
    match (one, other) {
        (ConfigError::Key { key: a, place: x, .. }, ConfigError::Key { key: b, place: y, .. }) => a == b && x == y,
        (one, other) => one == other,
    }
}

/// Removes what is wrong from the layers: the key, and its whole section where the error is `repeated`. False when there is
/// nothing to remove.
fn leave_out(settings: &mut Settings, environment: &mut Environment, error: &ConfigError, repeated: bool) -> bool {
    let ConfigError::Key { key, place, .. } = error else { return false };
    if let SettingSource::Variable(name) = place {
        return environment.remove(name);
    }
    // A table of a list is `routes[2].upstreams`.
    let key = key.split('[').next().unwrap_or(key);
    let section = key.rsplit_once('.').map_or(key, |(section, _)| section);
    // Without its kind, nothing of an upstream can be checked.
    let is_kind = key.starts_with("upstreams.") && key.ends_with(".kind");
    let wrong = if repeated || is_kind { section } else { key };
    let dependent = DEPENDENT_KEYS.iter().find(|(first, _)| *first == key).map_or(&[][..], |(_, others)| *others);
    let before = settings.len();
    let is_below =
        |path: &str, key: &str| path == key || path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    settings.retain(|path, _| {
        let path = dotted(path);
        !is_below(&path, wrong) && !dependent.contains(&path.as_str())
    });
    settings.len() < before
}
