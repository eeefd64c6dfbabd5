//! `[upstreams.hosted]` and `[host]`: the section of published packages stands among the upstreams in the file, and beside
//! them in [`Config`], because it has other keys.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{
    Config,
    error::ConfigError,
    layers::invalid,
    setting::{Setting, SettingSource, Settings, owned_path},
};
use crate::{dialect::HOSTED, hosted, value::ByteSize};

/// The key of the upstreams.
const UPSTREAMS: &str = "upstreams";

/// The path of the section in the file.
pub(super) fn section() -> Vec<String> {
    owned_path(&[UPSTREAMS, HOSTED])
}

/// The defaults of the section.
pub(super) fn defaults() -> Table {
    // Serialising the defaults cannot fail; a test holds that.
    Table::try_from(hosted::Config::default()).unwrap_or_default()
}

/// A tree as the file has it, as [`Config`] has it.
pub(super) fn from_upstreams(mut tree: Table) -> Table {
    let section = tree.get_mut(UPSTREAMS).and_then(Value::as_table_mut).and_then(|upstreams| upstreams.remove(HOSTED));
    if let Some(section) = section {
        tree.insert(HOSTED.into(), section);
    }
    tree
}

/// The reverse of [`from_upstreams`].
pub(super) fn to_upstreams(mut tree: Table) -> Table {
    if let Some(section) = tree.remove(HOSTED)
        && let Some(upstreams) = tree.get_mut(UPSTREAMS).and_then(Value::as_table_mut)
    {
        upstreams.insert(HOSTED.into(), section);
    }
    tree
}

/// Sets the default of the directory: beside the cache directory.
pub(super) fn derive_dir(config: &mut Config, settings: &mut Settings) {
    let dir = config.hosted_dir();
    if let (Some(hosted), Some(dir)) = (&mut config.hosted, dir)
        && hosted.dir.is_none()
    {
        let value = Value::from(dir.to_string_lossy().into_owned());
        let setting = Setting { value, source: SettingSource::Derived("disk.dir") };
        settings.insert(owned_path(&[UPSTREAMS, HOSTED, "dir"]), setting);
        hosted.dir = Some(dir);
    }
}

impl Config {
    /// The directory of published packages: `upstreams.hosted.dir`, else one beside the cache directory. `None` without
    /// either, and where nothing can be published.
    pub fn hosted_dir(&self) -> Option<PathBuf> {
        let hosted = self.hosted.as_ref()?;
        hosted.dir.clone().or_else(|| Some(beside(self.disk.dir.as_deref()?)))
    }
}

fn beside(cache: &Path) -> PathBuf {
    let mut name = cache.file_name().unwrap_or_default().to_owned();
    name.push("-hosted");
    cache.with_file_name(name)
}

/// Checks the two sections.
///
/// # Errors
/// The first value that cannot be used.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let Some(section) = &config.hosted else {
        for (key, names) in [("names", &config.host.names), ("claim", &config.host.claim)] {
            if !names.is_empty() {
                let reason = "has no effect without the section [upstreams.hosted], where published packages are kept";
                return Err(invalid(settings, &["host", key], reason));
            }
        }
        return Ok(());
    };
    let path = |key| [UPSTREAMS, HOSTED, key];
    if !config.access.enabled {
        let reason = "packages are published by callers with a token: set access.enabled = true, and give the right to \
                      publish in an [[access.rules]] table";
        return Err(invalid(settings, &path("kind"), reason));
    }
    if section.quota == ByteSize(0) {
        return Err(invalid(settings, &path("quota"), "must not be zero"));
    }
    if let (Some(dir), Some(cache)) = (&section.dir, &config.disk.dir)
        && (dir.as_os_str().is_empty() || dir.starts_with(cache) || cache.starts_with(dir))
    {
        let reason = "must be a directory of its own, outside disk.dir";
        return Err(invalid(settings, &path("dir"), reason));
    }
    Ok(())
}
