//! The configuration: the tree of all sections, and how flags, variables, a file and the defaults become one.
//!
//! A flag wins over a variable, a variable over the file, the file over the default, key by key. This is the only
//! module besides `main` that reads the environment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;

use crate::{
    cache::policy::{Archives, Documents, Mode},
    dialect, observe, registry, server, storage, upstream,
    value::{ByteSize, Secret},
};

mod check;
mod error;
mod layers;
mod names;
mod schema;
mod show;
mod tokens;

pub use error::{ConfigError, Source};
pub use layers::{Environment, Flag, Setting};
pub use schema::EXAMPLE;

/// The variable that names the configuration file where `--config` does not.
pub const FILE_VARIABLE: &str = "SRM_MIRROR_CONFIG";

/// Every section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether and when upstreams are asked.
    pub mode: Mode,
    /// Listeners and their limits.
    pub server: server::Config,
    /// How a path becomes a package.
    pub names: dialect::Config,
    /// Who may ask for what.
    pub packages: registry::Config,
    /// The memory tier.
    pub memory: storage::memory::Config,
    /// The disk tier.
    pub disk: storage::disk::Config,
    /// How long release documents are fresh and usable.
    pub documents: Documents,
    /// Limits of a download and of what a zip may be.
    pub archives: Archives,
    /// The forges, by the name that is their path prefix.
    pub upstreams: BTreeMap<String, upstream::Config>,
    /// Logs.
    pub log: observe::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            server: server::Config::default(),
            names: dialect::Config::default(),
            packages: registry::Config::default(),
            memory: storage::memory::Config::default(),
            disk: storage::disk::Config::default(),
            documents: Documents::default(),
            archives: Archives::default(),
            upstreams: upstream::defaults(),
            log: observe::Config::default(),
        }
    }
}

/// A configuration that passed every check, with where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values; `disk.dir` is always there.
    pub config: Config,
    /// The token of each upstream, where it has one.
    pub tokens: BTreeMap<String, Option<Secret>>,
    leaves: layers::Settings,
}

impl Loaded {
    /// Where a key, given as its parts, was set.
    pub fn source(&self, key: &[&str]) -> &Source {
        let key: Vec<String> = key.iter().map(|&part| part.to_owned()).collect();
        self.leaves.get(&key).map_or(&Source::Default, |leaf| &leaf.source)
    }
}

/// Merges all layers, resolves the tokens and checks everything.
///
/// The file is `file`, else the one that `SRM_MIRROR_CONFIG` names, else none: no file is read that nobody named.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: Option<&Path>, environment: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    environment.check_workers()?;
    let named = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
    let set = match &named {
        Some(path) => layers::of_file(path)?,
        None => layers::Settings::new(),
    };
    merge(set, environment, flags)
}

fn merge(mut set: layers::Settings, environment: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    set.extend(layers::of_environment(environment)?);
    set.extend(layers::of_flags(flags));
    layers::check_keys(&set)?;

    let mut leaves = names::with_defaults(set)?;
    let mut config = parse(&leaves)?;
    derive_defaults(&mut config, &mut leaves)?;
    check::all(&config, &leaves)?;
    let tokens = tokens::resolve(&config, environment, &leaves)?;
    check::exposure(&config, &tokens, &leaves)?;
    Ok(Loaded { config, tokens, leaves })
}

/// Reads the merged leaves as a [`Config`]; a value of the wrong shape is an error that names its key.
fn parse(leaves: &layers::Settings) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(layers::to_tree(leaves)).map_err(|why| {
        let mut path: Vec<String> = Vec::new();
        for segment in why.path() {
            match segment {
                Segment::Map { key } => path.push(key.clone()),
                Segment::Enum { variant } => path.push(variant.clone()),
                Segment::Seq { .. } | Segment::Unknown => {}
            }
        }
        let reason = check::plain_reason(why.inner().message());
        let leaf = (0..=path.len()).rev().find_map(|n| leaves.get(&path[..n]).map(|leaf| (&path[..n], leaf)));
        match leaf {
            Some((path, leaf)) => ConfigError::value(path, leaf, reason),
            None => ConfigError::unknown(&path, &Source::Default, reason),
        }
    })
}

/// Gives values to keys whose default depends on others: what nobody set must not make wrong what somebody set.
fn derive_defaults(config: &mut Config, leaves: &mut layers::Settings) -> Result<(), ConfigError> {
    if config.disk.dir.is_none() {
        let user = etcetera::choose_base_strategy().map_err(|_| {
            let reason = "there is no home directory to keep the cache in; for example \"/var/cache/srm-mirror\"";
            ConfigError::unknown(&["disk".into(), "dir".into()], &Source::Default, reason.into())
        })?;
        let dir = user.cache_dir().join("srm-mirror");
        let value = toml::Value::from(dir.to_string_lossy().into_owned());
        let leaf = Setting { value, source: Source::Derived("the user's cache directory") };
        leaves.insert(vec!["disk".into(), "dir".into()], leaf);
        config.disk.dir = Some(dir);
    }
    let limit = config.disk.limit.0 / 4;
    let archives = config.memory.archives.0;
    lower(leaves, ["disk", "documents"], &mut config.disk.documents, limit, "disk.limit");
    lower(leaves, ["memory", "archive_max"], &mut config.memory.archive_max, archives, "memory.archives");
    Ok(())
}

/// Lowers a default to `most`; a value that somebody set stays.
fn lower(leaves: &mut layers::Settings, key: [&str; 2], size: &mut ByteSize, most: u64, from: &'static str) {
    if let Some(leaf) = leaves.get_mut(&key.map(str::to_owned)[..])
        && !leaf.source.is_set()
        && size.0 > most
    {
        *size = ByteSize(most);
        *leaf = Setting { value: size.to_string().into(), source: Source::Derived(from) };
    }
}

#[cfg(test)]
mod tests;
