//! The zip of a package that is published: packed from a folder or read from a file, and verified as the mirror does.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::pack;
use crate::{
    archive::{ZipFacts, ZipVerifier},
    config::Config,
    entry::Digest,
    origin::{Growing, Verify as _, VerifyError},
    value::{ByteSize, memory_budget::MemoryBudget},
};

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

/// A complete zip and what is in it.
pub(in crate::cli::versions) struct PackageZip {
    pub(in crate::cli::versions) file: File,
    /// Its length in bytes.
    pub(in crate::cli::versions) len: u64,
    pub(in crate::cli::versions) digest: Digest,
    pub(in crate::cli::versions) facts: ZipFacts,
}

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

impl PackageZip {
    /// Packs a folder, or opens a zip, and verifies it with the limits that a mirror has by default. Blocks.
    ///
    /// # Errors
    /// See [`PackageZipError`].
    pub(super) fn open(source: &Path) -> Result<Self, PackageZipError> {
        let unreadable = |error| PackageZipError::Unreadable { path: source.to_owned(), source: error };
        let limits = PackageLimits::default();
        let is_folder = source.metadata().map_err(unreadable)?.is_dir();
        let file = if is_folder { pack::pack(source, &limits)? } else { File::open(source).map_err(unreadable)? };
        let len = file.metadata().map_err(unreadable)?.len();
        if len > limits.max_size {
            let reason = format!("it is larger than the {} that a mirror allows", ByteSize(limits.max_size));
            return Err(PackageZipError::Invalid { path: source.to_owned(), reason });
        }
        let body = FileBody { file: &file, len };
        let facts = verify(&body, &limits).map_err(|error| match error {
            VerifyError::Io(error) => unreadable(error),
            VerifyError::Invalid(reason) => PackageZipError::Invalid { path: source.to_owned(), reason },
            VerifyError::NoMemory(shortage) => unreadable(io::Error::other(shortage)),
        })?;
        let digest = Digest::of_file(body.file).map_err(unreadable)?;
        Ok(Self { file, len, digest, facts })
    }
}

fn verify(body: &FileBody<'_>, limits: &PackageLimits) -> Result<ZipFacts, VerifyError> {
    let verifier = ZipVerifier {
        max_entries: limits.max_entries,
        max_inflated: limits.max_inflated,
        memory: MemoryBudget::unlimited(),
    };
    let mut first = vec![0; verifier.prefix_len().min(usize::try_from(body.len).unwrap_or(usize::MAX))];
    body.file.read_exact_at(&mut first, 0)?;
    verifier.prefix(&first).map_err(|error| VerifyError::Invalid(error.to_string()))?;
    let verified = verifier.verify(body)?;
    ZipFacts::from_value(&verified.facts).map_err(|error| VerifyError::Io(io::Error::other(error)))
}

/// A complete file as a body.
struct FileBody<'a> {
    file: &'a File,
    len: u64,
}

impl Growing for FileBody<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}
