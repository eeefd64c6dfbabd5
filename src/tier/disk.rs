//! STUB: the disk tier.
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Period};

pub mod blob;

/// The `[disk]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The cache directory; by default `srm-mirror` in the user's cache directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Most bytes on disk, everything counted.
    pub limit: ByteSize,
    /// The part of `limit` that documents may take.
    pub documents: ByteSize,
    /// The background scrub re-hashes every blob once in this period; `forever` turns it off.
    pub scrub: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: None,
            limit: ByteSize::gib(50),
            documents: ByteSize::gib(1),
            scrub: Period(std::time::Duration::from_secs(7 * 86_400)),
        }
    }
}
