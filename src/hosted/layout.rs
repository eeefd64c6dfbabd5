//! The paths of the files in the directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::entry::Digest;

/// The ending of a record's file.
pub(super) const RECORD_SUFFIX: &str = ".json";

/// The paths below the directory.
#[derive(Debug)]
pub(super) struct HostedLayout {
    dir: PathBuf,
    staged: AtomicU64,
}

impl HostedLayout {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, staged: AtomicU64::new(0) }
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file whose lock means that a process holds the directory.
    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The file with the number of the format.
    pub(super) fn format(&self) -> PathBuf {
        self.dir.join("format")
    }

    /// The folder of an import that is not finished; without `format`, it makes the directory unusable.
    pub(super) fn import(&self) -> PathBuf {
        self.dir.join("import")
    }

    /// The file that marks the folder of an import as made by one.
    pub(super) fn import_mark(&self) -> PathBuf {
        self.import().join("unfinished")
    }

    /// The folder of files without their final names; emptied at every start.
    pub(super) fn stage(&self) -> PathBuf {
        self.dir.join("stage")
    }

    /// A path in the stage folder that no file has.
    pub(super) fn next_stage(&self) -> PathBuf {
        self.stage().join(self.staged.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// The folder of the zips.
    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// The folder of one zip.
    pub(super) fn blob_folder(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{:02x}", digest.0[0]))
    }

    /// The file of a zip.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_folder(digest).join(digest.to_string())
    }

    /// Passes every zip to `each`. Blocks.
    ///
    /// # Errors
    /// The first error of `each`, or of the file system.
    pub(super) fn each_blob(&self, mut each: impl FnMut(Digest, &Path) -> io::Result<()>) -> io::Result<()> {
        for folder in fs::read_dir(self.blobs())? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let file = file?;
                let digest = file.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
                digest.map_or(Ok(()), |digest| each(digest, &file.path()))?;
            }
        }
        Ok(())
    }

    /// The file that exists once all records of the primary store were copied here.
    pub(super) fn complete_copy(&self) -> PathBuf {
        self.dir.join("complete-copy")
    }

    /// The folder of what uploads leave beside versions.
    pub(super) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    /// The file of the publications that failed.
    pub(super) fn failed(&self) -> PathBuf {
        self.uploads().join("failed.json")
    }

    /// The folder of the marks of spent upload addresses.
    pub(super) fn spent(&self) -> PathBuf {
        self.uploads().join("spent")
    }

    /// The folder of the packages.
    pub(super) fn releases(&self) -> PathBuf {
        self.dir.join("releases")
    }

    /// The folder of one package; `name` is in lower case.
    pub(super) fn package(&self, name: &str) -> PathBuf {
        self.releases().join(name)
    }

    /// The record of a version; `name` is in lower case.
    pub(super) fn record(&self, name: &str, version: &str) -> PathBuf {
        self.package(name).join(format!("{version}{RECORD_SUFFIX}"))
    }
}
