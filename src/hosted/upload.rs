//! A zip that is being uploaded: a file in the stage folder, counted while it grows. Nothing of it is visible.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use sha2::Digest as _;

use super::{
    durable_files::DurableFiles,
    layout::HostedLayout,
    space::{HostedSpace, HostedSpaceFull, SpaceShare},
};
use crate::{entry::Digest, origin::Growing};

/// A growing upload; dropping it removes the file. All methods block.
#[derive(Debug)]
pub(crate) struct HostedUpload {
    staged: StagedZip,
    share: SpaceShare,
    len: u64,
    hasher: sha2::Sha256,
}

/// A complete upload whose bytes are durable and which has no name yet; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct UploadedZip {
    pub(super) staged: StagedZip,
    /// Dropped once the zip has its name, and counts as stored.
    _share: SpaceShare,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Its SHA-256.
    pub(crate) digest: Digest,
}

/// A file in the stage folder.
#[derive(Debug)]
pub(super) struct StagedZip {
    files: Arc<DurableFiles>,
    file: File,
    path: PathBuf,
    /// True until the file has another name.
    removes_file: bool,
}

/// Why a part of an upload cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The quota or the file system has no room.
    #[error(transparent)]
    Full(#[from] HostedSpaceFull),
    /// The file system fails.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(HostedSpaceFull),
            _ => Self::Io(error),
        }
    }
}

impl HostedUpload {
    /// Creates the file.
    pub(super) fn create(
        files: &Arc<DurableFiles>,
        space: &Arc<HostedSpace>,
        layout: &HostedLayout,
    ) -> Result<Self, UploadError> {
        let path = layout.next_stage();
        let file = files.create(&path)?;
        let staged = StagedZip { files: files.clone(), file, path, removes_file: true };
        Ok(Self { staged, share: SpaceShare::new(space), len: 0, hasher: sha2::Sha256::new() })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`UploadError`]; the upload must then be dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let len = self.len + bytes.len() as u64;
        self.share.grow(len)?;
        self.staged.files.write(&self.staged.file, bytes)?;
        self.hasher.update(bytes);
        self.len = len;
        Ok(())
    }

    /// Makes the bytes durable.
    ///
    /// # Errors
    /// When the file system fails.
    pub(crate) fn finish(self) -> Result<UploadedZip, UploadError> {
        self.staged.files.sync(&self.staged.file)?;
        let digest = Digest(self.hasher.finalize().into());
        Ok(UploadedZip { staged: self.staged, _share: self.share, len: self.len, digest })
    }
}

impl UploadedZip {
    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.staged.file
    }

    /// Fills `buf` from the beginning.
    ///
    /// # Errors
    /// When the file system fails.
    pub(crate) fn read_first(&self, buf: &mut [u8]) -> io::Result<()> {
        self.staged.file.read_exact_at(buf, 0)
    }
}

impl StagedZip {
    /// Gives the file its name among the zips, and makes that durable.
    pub(super) fn publish(&mut self, layout: &HostedLayout, digest: &Digest) -> io::Result<()> {
        let folder = layout.blob_folder(digest);
        self.files.create_folder(&folder)?;
        self.files.rename(&self.path, &layout.blob(digest))?;
        self.removes_file = false;
        self.files.sync_folder(&folder)
    }
}

impl Drop for StagedZip {
    fn drop(&mut self) {
        if self.removes_file {
            // The next start removes a file that stays behind.
            let _ = self.files.remove(&self.path);
        }
    }
}

impl Growing for UploadedZip {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.staged.file.read_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}
