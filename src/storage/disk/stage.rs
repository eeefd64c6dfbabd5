//! How a file gets its name: written in the spool folder, synced, renamed, its folder synced. All of it in one place,
//! so that no step can be forgotten.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file whose bytes are durable and that has no name of its own yet; dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    named: bool,
}

impl Staged {
    /// Writes a new file at `path` in the spool folder and syncs it.
    pub(super) fn write(path: PathBuf, parts: &[&[u8]]) -> io::Result<Self> {
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        // From here on the file is removed if anything fails.
        let staged = Self { path, named: false };
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        Ok(staged)
    }

    /// Syncs a file that was written in the spool folder. On an error the file is left to the caller.
    pub(super) fn sync(path: &Path, file: &File) -> io::Result<Self> {
        file.sync_all()?;
        Ok(Self { path: path.to_owned(), named: false })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.named {
            // What is left behind is swept at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames staged files to their final names in `folder`, which is made when missing, and syncs the folder.
///
/// `after` is called with the number of files named so far. On an error some may have their names: the caller undoes.
pub(super) fn publish(folder: &Path, files: Vec<(Staged, PathBuf)>, mut after: impl FnMut(usize)) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        folder.parent().map_or(Ok(()), sync_dir)?;
    }
    for (count, (mut staged, name)) in files.into_iter().enumerate() {
        fs::rename(&staged.path, name)?;
        staged.named = true;
        after(count + 1);
    }
    sync_dir(folder)
}

/// Makes renames and removals in a folder durable.
pub(super) fn sync_dir(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Removes a file; false when it was not there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
