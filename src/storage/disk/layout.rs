//! Where everything is in the cache directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::OpenError;
use crate::entry::{Digest, Key};

/// The number in the file `format`; a directory with a higher one was written by a newer version.
const FORMAT: u32 = 1;

/// What may lie in a directory that was never a cache, beside hidden files: a new file system has the first three, and
/// a first start that was killed leaves the others.
const NOBODYS: [&str; 5] = ["lost+found", "aquota.user", "aquota.group", "holder", "control.sock"];

/// The paths of one cache directory.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    next: AtomicU64,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), next: AtomicU64::new(0) }
    }

    /// Refuses a directory that holds something and is no cache: its `spool/` is not ours to empty.
    ///
    /// # Errors
    /// [`OpenError::Foreign`].
    pub(super) fn recognise(&self) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { what: "read the cache directory", source };
        let known = || ["format", "index.redb", "pins.jsonl"].iter().any(|name| self.dir.join(name).exists());
        if known() {
            return Ok(());
        }
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(error)),
        };
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let nobodys = name.as_encoded_bytes().starts_with(b".") || NOBODYS.iter().any(|nobodys| name == *nobodys);
            // Another process may have made it a cache since the first look.
            if !nobodys && !known() {
                return Err(OpenError::Foreign { dir: self.dir.clone() });
            }
        }
        Ok(())
    }

    /// Makes the directory itself, for its owner alone: what it holds may be private.
    pub(super) fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.dir)
    }

    /// Checks or writes `format`, makes the folders and empties the spool folder. Only for the holder of the directory.
    pub(super) fn prepare(&self) -> Result<(), OpenError> {
        let io = |what: &'static str| move |source| OpenError::Io { what, source };
        let path = self.dir.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let found = text.trim().to_owned();
                // An empty file is a first start that was killed while it wrote one.
                if !found.is_empty() && found.parse::<u32>().ok().is_none_or(|number| number > FORMAT) {
                    return Err(OpenError::Format { found: found.chars().take(20).collect(), known: FORMAT });
                }
                if found.is_empty() {
                    fs::write(&path, format!("{FORMAT}\n")).map_err(io("write format"))?;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::write(&path, format!("{FORMAT}\n")).map_err(io("write format"))?;
            }
            Err(e) => return Err(io("read format")(e)),
        }
        for folder in [self.spool_dir(), self.blobs_dir(), self.documents_dir(), self.quarantine_dir()] {
            fs::create_dir_all(folder).map_err(io("make a folder"))?;
        }
        for entry in fs::read_dir(self.spool_dir()).map_err(io("read the spool folder"))? {
            let path = entry.map_err(io("read the spool folder"))?.path();
            fs::remove_file(path).map_err(io("sweep the spool folder"))?;
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

    /// A name in the spool folder that nobody has used since the start.
    pub(super) fn staging(&self) -> PathBuf {
        self.spool_dir().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
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

/// A document's file name: keys hold slashes and may be long.
pub(super) fn document_id(key: &Key) -> Digest {
    Digest::of(key.as_str().as_bytes())
}
