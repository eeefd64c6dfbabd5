//! The zip of a package that is published: packed from a folder or read from a file, and verified as the mirror does.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{limits::PackageLimits, pack, package_zip_error::PackageZipError};
use crate::{
    archive::{ZipFacts, ZipVerifier},
    entry::Digest,
    origin::{Growing, Verify as _, VerifyError},
    value::{ByteSize, memory_budget::MemoryBudget},
};

/// A complete zip and what is in it.
pub(in crate::cli::versions) struct PackageZip {
    pub(in crate::cli::versions) file: File,
    /// Its length in bytes.
    pub(in crate::cli::versions) len: u64,
    pub(in crate::cli::versions) digest: Digest,
    pub(in crate::cli::versions) facts: ZipFacts,
}

impl PackageZip {
    /// Packs a folder, or opens a zip, and verifies it with the limits that a mirror has by default. Blocks.
    ///
    /// # Errors
    /// See [`PackageZipError`].
    pub(in crate::cli::versions) fn open(source: &Path) -> Result<Self, PackageZipError> {
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
