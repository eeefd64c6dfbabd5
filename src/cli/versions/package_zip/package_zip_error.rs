//! Why there is no zip to publish.

use std::{io, path::PathBuf};

/// Why there is no zip to publish.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli::versions) enum PackageZipError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The temporary zip cannot be written.
    #[error("the temporary zip cannot be written")]
    Unwritable(#[source] io::Error),
    /// Something in the folder cannot be packed.
    #[error("{} cannot be packed: {reason}", path.display())]
    Unpackable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The mirror would refuse the zip.
    #[error("{} cannot be published: {reason}", path.display())]
    Invalid {
        /// The zip or the folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl PackageZipError {
    /// True if the input is wrong; false if it cannot be read.
    pub(in crate::cli::versions) fn is_usage(&self) -> bool {
        matches!(self, Self::Unpackable { .. } | Self::Invalid { .. })
    }
}
