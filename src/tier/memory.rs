//! STUB: the memory tier (moka, weighed in bytes).
use serde::{Deserialize, Serialize};

use crate::value::ByteSize;

/// The `[memory]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Memory for release documents.
    pub documents: ByteSize,
    /// Memory for small archives.
    pub archives: ByteSize,
    /// Largest archive that is kept in memory.
    pub archive_max: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { documents: ByteSize::mib(64), archives: ByteSize::mib(256), archive_max: ByteSize::mib(1) }
    }
}
