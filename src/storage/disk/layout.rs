//! The layout of the cache directory: the path of every file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{OpenError, skipped::SkippedFiles};
use crate::entry::{Digest, Key};

/// The newest directory format that this version can read; the file `format` contains the number.
const DIRECTORY_FORMAT: u32 = 1;

/// Files that may be in a directory that was never a cache, beside hidden files: a new file system contains the first
/// three, and a first start that was killed leaves the others.
const IGNORED_FILES: [&str; 5] = ["lost+found", "aquota.user", "aquota.group", "holder", "control.sock"];

/// The paths of one cache directory.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    next_staging: AtomicU64,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), next_staging: AtomicU64::new(0) }
    }

    /// Refuses a directory with files that are not a cache's: its `spool/` must not be emptied.
    ///
    /// # Errors
    /// [`OpenError::Foreign`].
    pub(super) fn check_is_cache_or_empty(&self) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { what: "read the cache directory", source };
        let is_cache = || ["format", "index.redb", "pins.jsonl"].iter().any(|name| self.dir.join(name).exists());
        if is_cache() {
            return Ok(());
        }
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(error)),
        };
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let ignored =
                name.as_encoded_bytes().starts_with(b".") || IGNORED_FILES.iter().any(|ignored| name == *ignored);
            // Another process may have made it a cache since the first check.
            if !ignored && !is_cache() {
                return Err(OpenError::Foreign { dir: self.dir.clone() });
            }
        }
        Ok(())
    }

    /// Creates the directory with mode 0700: archives may be private.
    pub(super) fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.dir)
    }

    /// Checks or writes `format`, creates the folders and empties the spool folder. The caller holds the directory lock.
    pub(super) fn prepare(&self, skipped: &SkippedFiles) -> Result<(), OpenError> {
        let io = |what: &'static str| move |source| OpenError::Io { what, source };
        let path = self.dir.join("format");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(io("read format"))?,
        };
        let found = text.trim();
        // Empty also after a first start that was killed while it wrote the file.
        if found.is_empty() {
            fs::write(&path, format!("{DIRECTORY_FORMAT}\n")).map_err(io("write format"))?;
        } else if found.parse::<u32>().ok().is_none_or(|number| number > DIRECTORY_FORMAT) {
            return Err(OpenError::Format { found: found.chars().take(20).collect(), known: DIRECTORY_FORMAT });
        }
        for folder in [self.spool_dir(), self.blobs_dir(), self.documents_dir(), self.quarantine_dir()] {
            fs::create_dir_all(folder).map_err(io("make a folder"))?;
        }
        for entry in fs::read_dir(self.spool_dir()).map_err(io("read the spool folder"))? {
            let path = entry.map_err(io("read the spool folder"))?.path();
            if let Err(cause) = fs::remove_file(&path) {
                skipped.record(&path, &cause);
                let number = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
                self.next_staging.fetch_max(number.map_or(0, |number| number.saturating_add(1)), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    pub(super) fn holder(&self) -> PathBuf {
        self.dir.join("holder")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("index.redb")
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.dir.join("pins.jsonl")
    }

    pub(super) fn sources(&self) -> PathBuf {
        self.dir.join("sources.jsonl")
    }

    pub(super) fn spool_dir(&self) -> PathBuf {
        self.dir.join("spool")
    }

    pub(super) fn blobs_dir(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    pub(super) fn documents_dir(&self) -> PathBuf {
        self.dir.join("documents")
    }

    pub(super) fn quarantine_dir(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    /// A path in the spool folder that was not returned before since the start.
    pub(super) fn next_staging_path(&self) -> PathBuf {
        self.spool_dir().join(self.next_staging.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// The folder of all blobs whose digest begins with this byte.
    pub(super) fn shard(&self, first: u8) -> PathBuf {
        self.blobs_dir().join(format!("{first:02x}"))
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.shard(digest.0[0]).join(digest.to_string())
    }

    pub(super) fn sidecar(&self, digest: &Digest) -> PathBuf {
        self.shard(digest.0[0]).join(format!("{digest}.json"))
    }

    /// The file of a document, by [`document_id`].
    pub(super) fn document(&self, id: &Digest) -> PathBuf {
        self.documents_dir().join(id.to_string())
    }
}

/// The file name of a document: keys contain slashes and may be long.
pub(super) fn document_id(key: &Key) -> Digest {
    Digest::of(key.as_str().as_bytes())
}
