//! A file that has its name only when it is whole.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// How many names are tried before somebody must have filled the folder with them on purpose.
const TRIES: u32 = 100;

/// A file beside the one that it is to become. Dropping it removes it.
pub(super) struct AtomicFile {
    /// The file, open for reading and writing.
    pub(super) file: File,
    path: PathBuf,
    target: PathBuf,
}

impl AtomicFile {
    /// Begins a file under a name that nobody has: a file of somebody else is never touched.
    ///
    /// # Errors
    /// What the file system says, with the name of the file.
    pub(super) fn of(target: &Path) -> anyhow::Result<Self> {
        let pid = std::process::id();
        for n in 0..TRIES {
            let path = target.with_added_extension(format!("{pid}-{n}.partial"));
            match File::options().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path, target: target.to_owned() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot write {}", target.display())),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
            .with_context(|| format!("cannot write {}: its drafts are all taken", target.display()))
    }

    /// Gives it its name, durable to the last byte.
    ///
    /// # Errors
    /// What the file system says, with the name of the file.
    pub(super) fn publish(self) -> anyhow::Result<()> {
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.target));
        done.with_context(|| format!("cannot write {}", self.target.display()))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // One that was published has this name no more.
        let _ = fs::remove_file(&self.path);
    }
}
