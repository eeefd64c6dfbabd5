//! The flags that say which mirror a command administers: the one of a cache directory, or one by its address.

use std::{borrow::Cow, path::PathBuf};

use clap::Args;

use super::{CacheArgs, mirror_url};
use crate::{
    app::FleetNode,
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
    /// A node of the fleet, which is asked in place of the mirror.
    #[arg(skip)]
    pub(super) node: Option<Box<FleetNode>>,
}

impl AdminArgs {
    /// The configuration of this machine.
    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        self.cache.load()
    }

    /// The same for a node of the fleet.
    pub(super) fn of_node(&self, node: &FleetNode) -> Self {
        Self { node: Some(Box::new(node.clone())), ..self.clone() }
    }

    /// A line of JSON, with the node that it is of where there are several.
    pub(super) fn labelled<'a>(&self, line: &'a str) -> Cow<'a, str> {
        match (&self.node, line.strip_prefix('{')) {
            // The name has letters, digits, `-` and `.`.
            (Some(node), Some(rest)) if rest.starts_with('}') => format!("{{\"node\":\"{}\"{rest}", node.name).into(),
            (Some(node), Some(rest)) => format!("{{\"node\":\"{}\",{rest}", node.name).into(),
            _ => line.into(),
        }
    }
}
