//! Atomic file writes: a file gets its name only after it is complete and synced.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

mod json;

pub(crate) use json::{JsonFileError, read_json, write_json};

/// Mode of a file that other users may read; the process's umask still applies.
pub(crate) const SHARED_FILE_MODE: u32 = 0o666;

/// A temporary file beside its target. Dropping it unpublished removes it and leaves the target as it is.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl AtomicFile {
    /// Creates the temporary file in the target's folder, under a name that no file has, with this mode less the umask.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn create(target: &Path, mode: u32) -> io::Result<Self> {
        let mut prefix = target.file_name().unwrap_or_default().to_owned();
        prefix.push(".");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".partial").permissions(Permissions::from_mode(mode));
        Ok(Self { temporary: builder.tempfile_in(folder_of(target))?, target: target.to_owned() })
    }

    /// The temporary file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The path of the temporary file.
    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Syncs the file, then renames it to the target, which it replaces.
    ///
    /// # Errors
    /// The file system's error; the temporary file is removed then.
    pub(crate) fn publish(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target).map_err(|failed| failed.error)?;
        Ok(())
    }
}

/// The folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
