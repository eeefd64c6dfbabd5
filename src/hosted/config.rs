//! The section `[upstreams.hosted]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::value::ByteSize;

/// The only kind of the section `[upstreams.hosted]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostedKind {
    /// Packages that are published on this mirror.
    #[default]
    Hosted,
}

/// The `[upstreams.hosted]` section: where published packages are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Always `hosted`.
    pub kind: HostedKind,
    /// The directory. `None`: `{disk.dir}-hosted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Most bytes of zips, those of running uploads included.
    pub quota: ByteSize,
    /// Bytes of the file system that uploads leave free.
    pub min_free: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { kind: HostedKind::Hosted, dir: None, quota: ByteSize::gib(50), min_free: ByteSize::gib(1) }
    }
}
