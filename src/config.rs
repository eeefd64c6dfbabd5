//! The configuration: all sections, and how flags, variables, the file and the defaults are merged.
//!
//! Key by key, a flag wins over a variable, a variable over the file, and the file over the default. Besides `main`,
//! only this module reads the environment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use crate::{
    access,
    cache::policy::{ArchiveConfig, DocumentConfig, UpstreamMode},
    dialect::{self, NamedUpstream, Names, NamesError, OfficialRoutes, RouteConfig},
    hosted, observe,
    peer::ClientLimits,
    registry, server, shared, storage, upstream,
    value::ByteSize,
};

mod access_rules;
mod check;
mod credentials;
mod environment;
mod error;
mod fleet;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod hosting;
mod layers;
mod masking;
mod misspelt;
mod mistakes;
mod names;
mod reload;
mod require;
mod required;
mod route_table;
mod routes;
mod schema;
mod setting;
mod sharing;
mod show;
mod suggestion;
mod tables;

pub use credentials::UpstreamCredentials;
pub use environment::Environment;
pub use error::ConfigError;
pub use layers::Flag;
pub(crate) use masking::without_password;
pub use mistakes::{Mistakes, load_or_all_mistakes};
pub use reload::ChangedSetting;
pub use required::RequiredPackages;
pub use route_table::plain_names;
pub use schema::EXAMPLE_CONFIG;
pub use setting::{Setting, SettingSource};
use setting::{Settings, owned_path};

/// The variable that names the configuration file when `--config` is not given.
pub const FILE_VARIABLE: &str = "SRM_MIRROR_CONFIG";
/// The variable that holds the token which `warm --server` and `connect --check` send to a mirror. Not a secret itself.
pub(crate) const TOKEN_VARIABLE: &str = "SRM_MIRROR_TOKEN";

/// All sections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether and when upstreams are asked.
    pub mode: UpstreamMode,
    /// Listeners and their limits.
    pub server: server::Config,
    /// How the name in a path becomes a package.
    pub names: dialect::Config,
    /// Where names without an upstream come from.
    pub routes: Vec<RouteConfig>,
    /// What one client may use.
    pub clients: ClientLimits,
    /// Who may read what.
    pub access: access::Config,
    /// Which packages are served.
    pub packages: registry::Config,
    /// Which packages a package loads by name at run time, for `warm --with-required`.
    pub required: RequiredPackages,
    /// The memory tier.
    pub memory: storage::memory::Config,
    /// The disk tier.
    pub disk: storage::disk::Config,
    /// How long release documents are fresh, and how long they are served stale.
    pub documents: DocumentConfig,
    /// Limits of downloads and of zips.
    pub archives: ArchiveConfig,
    /// The upstreams by name; the name is the path prefix.
    pub upstreams: BTreeMap<String, upstream::Config>,
    /// Where packages that are published here are kept: `[upstreams.hosted]`. `None`: nothing can be published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosted: Option<hosted::Config>,
    /// The bucket that several mirrors share. `None`: what is stored is stored here alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<shared::Config>,
    /// The mirrors that share it, of which this is one. `None`: it is the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<crate::fleet::Config>,
    /// The names that belong to this mirror.
    pub host: dialect::HostNames,
    /// Logs.
    pub log: observe::Config,
    /// The record of who was sent what.
    pub audit: observe::AuditConfig,
}

impl Config {
    /// The names, aliases and routes, checked against the upstreams.
    ///
    /// # Errors
    /// The first name that cannot be used.
    pub fn names(&self) -> Result<Names, NamesError> {
        let names = Names::new(&self.names, &self.routes, self.named_upstreams(), self.official_routes())?;
        names.with_hosting(&self.host)
    }

    /// The names of the configured upstreams.
    fn upstream_names(&self) -> impl Iterator<Item = &str> {
        self.upstreams.keys().map(String::as_str)
    }

    /// The upstreams as names refer to them.
    pub fn named_upstreams(&self) -> Vec<NamedUpstream> {
        let named = |(name, section): (&String, &upstream::Config)| NamedUpstream {
            name: name.as_str().into(),
            form: section.kind.name_form(),
            dropped_owner: section.kind.dropped_owner(),
            is_hosted: false,
        };
        let hosted = self.hosted.iter().map(|_| NamedUpstream::hosted());
        self.upstreams.iter().map(named).chain(hosted).collect()
    }

    /// Whether plain names come from the official registries where nothing else decides: as `names.official` says, else
    /// unless `names.default_owner` or `packages.allow` is set.
    fn official_routes(&self) -> OfficialRoutes {
        let is_open = self.names.default_owner.is_none() && self.packages.allow.is_empty();
        if self.names.official.unwrap_or(is_open) { OfficialRoutes::On } else { OfficialRoutes::Off }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: UpstreamMode::default(),
            server: server::Config::default(),
            names: dialect::Config::default(),
            routes: Vec::new(),
            clients: ClientLimits::default(),
            access: access::Config::default(),
            packages: registry::Config::default(),
            required: RequiredPackages::default(),
            memory: storage::memory::Config::default(),
            disk: storage::disk::Config::default(),
            documents: DocumentConfig::default(),
            archives: ArchiveConfig::default(),
            upstreams: upstream::defaults(),
            hosted: None,
            shared: None,
            fleet: None,
            host: dialect::HostNames::default(),
            log: observe::Config::default(),
            audit: observe::AuditConfig::default(),
        }
    }
}

/// A configuration that passed every check, with the source of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values; `disk.dir` is always set.
    pub config: Config,
    /// The credentials of each upstream with their secrets.
    pub credentials: UpstreamCredentials,
    settings: Settings,
    ignored_variables: Vec<String>,
}

impl Loaded {
    /// Where a key was set; the key is given as its parts.
    pub fn source(&self, key: &[&str]) -> &SettingSource {
        self.settings.get(&owned_path(key)).map_or(&SettingSource::Default, |setting| &setting.source)
    }
}

/// Merges all layers, reads the credentials and checks everything.
///
/// The file is `file`, else the one that `SRM_MIRROR_CONFIG` names. No file is read by default.
///
/// # Errors
/// The first invalid key, value, variable or file.
pub fn load(file: Option<&Path>, environment: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    environment.check_worker_threads()?;
    let file = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
    let settings = match &file {
        Some(path) => layers::of_file(path)?,
        None => Settings::new(),
    };
    merge(settings, environment, flags)
}

fn merge(mut set: Settings, environment: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    set.extend(layers::of_environment(environment)?);
    set.extend(layers::of_flags(flags));
    layers::check_keys(&set)?;

    routes::check_keys(&set)?;
    access_rules::check_keys(&set)?;
    credentials::check_keys(&set)?;

    let mut settings = names::with_defaults(set)?;
    let mut config = parse(&settings)?;
    derive_defaults(&mut config, &mut settings)?;
    check::check_values(&config, &settings)?;
    sharing::resolve(&mut config, environment, &settings)?;
    let credentials = credentials::resolve(&config, environment, &settings)?;
    check::check_exposure(&config, &credentials, &settings)?;
    let ignored_variables = misspelt::warnings(environment, &config);
    Ok(Loaded { config, credentials, settings, ignored_variables })
}

/// Parses the merged settings; the error for a value of the wrong type names its key: the one without which that error does
/// not occur.
fn parse(settings: &Settings) -> Result<Config, ConfigError> {
    let error = match deserialize(settings) {
        Ok(config) => return Ok(*config),
        Err(error) => error,
    };
    let is_wrong = |path: &[String]| {
        let mut others = settings.clone();
        others.remove(path);
        deserialize(&others).err().is_none_or(|other| other.message() != error.message())
    };
    let wrong = settings.iter().filter(|(_, setting)| setting.source.is_set()).find(|(path, _)| is_wrong(path));
    let reason = check::plain_reason(error.message());
    Err(match wrong {
        Some((path, setting)) => ConfigError::value(path, setting, reason),
        None => ConfigError::key(&[], &SettingSource::Default, reason),
    })
}

#[inline(never)]
fn deserialize(settings: &Settings) -> Result<Box<Config>, toml::de::Error> {
    hosting::from_upstreams(layers::to_tree(settings)).try_into().map(Box::new)
}

/// Sets the defaults that depend on other keys, so that a default never conflicts with a value that the user set.
fn derive_defaults(config: &mut Config, settings: &mut Settings) -> Result<(), ConfigError> {
    let dir_key = owned_path(&["disk", "dir"]);
    if config.disk.dir.is_none() {
        let user = etcetera::choose_base_strategy().map_err(|_| {
            let reason = "there is no home directory for the default; set it, for example \"/var/cache/srm-mirror\"";
            ConfigError::key(&dir_key, &SettingSource::Default, reason)
        })?;
        let dir = user.cache_dir().join("srm-mirror");
        let value = toml::Value::from(dir.to_string_lossy().into_owned());
        settings.insert(dir_key, Setting { value, source: SettingSource::Derived("the user's cache directory") });
        config.disk.dir = Some(dir);
    }
    hosting::derive_dir(config, settings);
    sharing::derive(config, settings);
    let max_documents = config.disk.limit.0 / 4;
    let max_archive = config.memory.archives.0;
    lower_default(settings, ["disk", "documents"], &mut config.disk.documents, max_documents, "disk.limit");
    lower_default(settings, ["memory", "archive_max"], &mut config.memory.archive_max, max_archive, "memory.archives");
    Ok(())
}

/// Lowers a default to at most `max` bytes, derived from the key `from`; a value that the user set stays.
fn lower_default(settings: &mut Settings, key: [&str; 2], size: &mut ByteSize, max: u64, from: &'static str) {
    if let Some(setting) = settings.get_mut(&owned_path(&key))
        && !setting.source.is_set()
        && size.0 > max
    {
        *size = ByteSize(max);
        *setting = Setting { value: size.to_string().into(), source: SettingSource::Derived(from) };
    }
}

#[cfg(test)]
mod tests;
