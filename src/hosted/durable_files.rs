//! The operations that change the directory, in one place: a test can make any of them the last one that is done.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// The file operations of a store.
#[derive(Debug, Default)]
pub(super) struct DurableFiles {
    #[cfg(test)]
    faults: super::tests::Faults,
}

impl DurableFiles {
    /// Counts an operation; fails from that one on which a test has chosen.
    #[inline]
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.step()?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn faults(&self) -> &super::tests::Faults {
        &self.faults
    }

    /// Creates a file that does not exist.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        File::options().read(true).write(true).create_new(true).open(path)
    }

    /// Appends to a file.
    pub(super) fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        file.write_all(bytes)
    }

    /// Makes the bytes of a file durable.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        file.sync_all()
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when a file has it.
    pub(super) fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::hard_link(from, to)
    }

    /// Renames a file, replacing the one that has the name.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)
    }

    /// Removes a file; succeeds if there is none.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Creates a folder in a folder, durably; succeeds if it exists.
    pub(super) fn create_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.step()?;
        fs::create_dir_all(path)?;
        path.parent().map_or(Ok(()), |parent| self.sync_folder(parent))
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        File::open(path)?.sync_all()
    }
}
