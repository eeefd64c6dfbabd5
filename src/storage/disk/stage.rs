//! Durable file creation: write in the spool folder, sync, rename, sync the folder. One place does all steps.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// A durable file that does not have its final name yet; dropping it removes the file.
#[derive(Debug)]
pub(super) struct StagedFile {
    path: PathBuf,
    published: bool,
}

impl StagedFile {
    /// Writes a new file at `path` in the spool folder and syncs it.
    pub(super) fn write(path: PathBuf, parts: &[&[u8]]) -> io::Result<Self> {
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        // From here on an error removes the file.
        let staged = Self { path, published: false };
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        Ok(staged)
    }

    /// Syncs a file that was written in the spool folder. On an error the caller still owns the file.
    pub(super) fn sync(path: &Path, file: &File) -> io::Result<Self> {
        file.sync_all()?;
        Ok(Self { path: path.to_owned(), published: false })
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.published {
            // The next start removes a file that stays behind.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames staged files to their final names in `folder`, which is created if missing, and syncs the folder.
///
/// Calls `after_rename` with the number of files renamed so far. On an error some files may have their final names: the
/// caller removes them.
pub(super) fn publish(
    folder: &Path,
    files: Vec<(StagedFile, PathBuf)>,
    mut after_rename: impl FnMut(usize),
) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        folder.parent().map_or(Ok(()), sync_dir)?;
    }
    for (count, (mut staged, name)) in files.into_iter().enumerate() {
        fs::rename(&staged.path, name)?;
        staged.published = true;
        after_rename(count + 1);
    }
    sync_dir(folder)
}

/// Gives a synced file the name of another, which it replaces; durable when it returns.
///
/// # Errors
/// When the rename fails; or when it cannot be made durable, and a crash may undo it.
pub(super) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Makes renames and removals in a folder durable.
fn sync_dir(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Removes a file; succeeds if it does not exist.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// When a file was written; `None` if it does not exist, or has a date that cannot be expressed.
pub(super) fn written_at(path: &Path) -> io::Result<Option<Timestamp>> {
    match fs::metadata(path).and_then(|found| found.modified()) {
        Ok(written_at) => Ok(Timestamp::try_from(written_at).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
