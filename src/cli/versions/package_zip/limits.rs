//! The limits of a package that is published.

use crate::config::Config;

/// The limits of a package. The default is that of a mirror.
#[derive(Clone, Copy)]
pub(super) struct PackageLimits {
    /// Largest number of entries.
    pub(super) max_entries: usize,
    /// Largest size of all files, in bytes.
    pub(super) max_inflated: u64,
    /// Largest zip, in bytes.
    pub(super) max_size: u64,
}

impl Default for PackageLimits {
    fn default() -> Self {
        let archives = Config::default().archives;
        let max_entries = archives.max_entries;
        Self { max_entries, max_inflated: archives.max_inflated.0, max_size: archives.max_size.0 }
    }
}
