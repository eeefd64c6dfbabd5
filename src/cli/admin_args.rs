//! The flags that say which mirror a command administers: the one of a cache directory, or one by its address.

use std::path::PathBuf;

use clap::Args;

use super::{CacheArgs, mirror_url};
use crate::{
    config::{ConfigError, Loaded},
    value::BaseUrl,
};

/// Flags of commands that administer a mirror.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// Administer a running mirror by its address (access.remote_admin) instead of the cache directory
    #[arg(long, value_name = "URL", value_parser = mirror_url::parse, conflicts_with = "cache_dir")]
    pub(super) server: Option<BaseUrl>,
    /// With --server: file with the token of an administrator [else the variable SRM_MIRROR_TOKEN]
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(super) token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// The configuration of this machine.
    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        self.cache.load()
    }
}
