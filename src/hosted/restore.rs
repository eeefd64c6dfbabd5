//! Restoring published packages from backups into an empty directory.
//!
//! Everything is written into `import/` and checked there. Then the folders get their names, and `format` is written last:
//! only that makes the directory one of published packages. A directory with `import/` and without `format` is refused by a
//! start; another import begins from the beginning, where the mark in `import/` says that an import has made it.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use super::{
    VersionNumber,
    backup::{BackupFile, BackupPart, BackupProblem},
    layout::HostedLayout,
    record::RecordHead,
    startup::{HOSTED_FORMAT, OpenHostedError, lock_directory},
};
use crate::{entry::Digest, package::PackageName};

/// Bytes of a zip that are read at once.
const RESTORE_COPY_BYTES: usize = 256 << 10;

/// What was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RestoreReport {
    /// The number of versions, deleted ones included.
    pub(crate) versions: u64,
    /// The number of zips.
    pub(crate) zips: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// A file is no good backup.
    #[error("{}: {problem}", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: RestoreProblem,
    },
    /// The directory has something in it.
    #[error(
        "{} is not empty: it has {found}; an import needs an empty directory, so that it can never replace what is published",
        dir.display()
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// No backup has a zip that a version needs.
    #[error("the zip {digest} of {version} is in none of the files; name the export that this one continues, too")]
    MissingZip {
        /// The version.
        version: String,
        /// The zip.
        digest: Digest,
    },
    /// The directory cannot be held.
    #[error(transparent)]
    Directory(#[from] OpenHostedError),
    /// The file system fails.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What is wrong with the content of a backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreProblem {
    /// Its structure.
    #[error(transparent)]
    Backup(#[from] BackupProblem),
    /// A record is malformed, or its name or version could not be published.
    #[error("a record of it is malformed: {0}")]
    Record(String),
    /// Its records are not those that were written.
    #[error("its records are damaged")]
    OtherRecords,
    /// A zip has another digest or length.
    #[error("blobs/{0} is damaged")]
    OtherZip(Digest),
    /// What is restored cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A zip that a version needs.
struct NeededZip {
    len: u64,
    /// The first version that needs it.
    version: Box<str>,
}

/// Restores the newest of the backups; the others add the zips that it left out. `progress` is called with numbers of bytes
/// of zips. Blocks. An import that was interrupted can be repeated.
///
/// # Errors
/// [`RestoreError`]; then the directory holds no published packages.
pub(crate) fn restore(
    backups: &[BackupFile],
    dir: &Path,
    mut progress: impl FnMut(u64),
) -> Result<RestoreReport, RestoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(at(dir))?;
    let target = HostedLayout::new(dir.to_owned());
    let _lock = lock_directory(&target)?;
    remove_leftovers(&target)?;
    let import = target.import();
    fs::create_dir(&import).map_err(at(&import))?;
    let mark = target.import_mark();
    File::create_new(&mark).map_err(at(&mark))?;
    let restored = ImportFolder { layout: HostedLayout::new(import.clone()), needed: HashMap::new() };
    let report = restored.fill(backups, &mut progress)?;
    let folder = File::open(dir).map_err(at(dir))?;
    // Once for all files, whatever their number.
    rustix::fs::syncfs(&folder).map_err(|error| at(dir)(error.into()))?;
    for (from, to) in [
        (import.join("blobs"), target.blobs()),
        (import.join("uploads"), target.uploads()),
        (import.join("releases"), target.releases()),
    ] {
        fs::rename(&from, &to).map_err(at(&to))?;
    }
    folder.sync_all().map_err(at(dir))?;
    let format = target.format();
    let staged = import.join("format");
    let written = File::create_new(&staged).and_then(|mut file| {
        file.write_all(HOSTED_FORMAT.as_bytes())?;
        file.sync_all()?;
        fs::rename(&staged, &format)?;
        folder.sync_all()
    });
    written.map_err(at(&format))?;
    fs::remove_file(&mark).map_err(at(&mark))?;
    fs::remove_dir(&import).map_err(at(&import))?;
    Ok(report)
}

/// Removes what an interrupted import has left in the directory; refuses a directory with anything else in it. A folder
/// `import/` is that of an import if it has the mark, or is empty.
fn remove_leftovers(target: &HostedLayout) -> Result<(), RestoreError> {
    let dir = target.dir();
    let at = |source| RestoreError::Io { path: dir.to_owned(), source };
    let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    let is_own = target.import_mark().exists() || is_empty(&target.import());
    let is_interrupted = is_own && !target.format().exists();
    let mut leftovers = Vec::new();
    for entry in fs::read_dir(dir).map_err(at)? {
        let entry = entry.map_err(at)?;
        match entry.file_name().to_str() {
            Some("lock" | "lost+found") => {}
            Some("import" | "blobs" | "uploads" | "releases") if is_interrupted => leftovers.push(entry.path()),
            _ => {
                let found = entry.file_name().to_string_lossy().into_owned();
                return Err(RestoreError::NotEmpty { dir: dir.to_owned(), found });
            }
        }
    }
    // The mark of an interrupted import goes last.
    leftovers.sort_by_key(|path| path.ends_with("import"));
    leftovers.iter().try_for_each(fs::remove_dir_all).map_err(at)
}

/// The folder that an import is written into.
struct ImportFolder {
    layout: HostedLayout,
    needed: HashMap<Digest, NeededZip>,
}

impl ImportFolder {
    fn fill(mut self, backups: &[BackupFile], progress: &mut impl FnMut(u64)) -> Result<RestoreReport, RestoreError> {
        for folder in [self.layout.blobs(), self.layout.uploads(), self.layout.releases()] {
            fs::create_dir(&folder).map_err(|source| RestoreError::Io { path: folder.clone(), source })?;
        }
        let mut report = RestoreReport::default();
        let of = |backup: &BackupFile| {
            let path = backup.path.clone();
            move |problem| RestoreError::Backup { path, problem }
        };
        let Some(newest) = backups.iter().max_by_key(|backup| backup.created_at) else { return Ok(report) };
        report.versions = self.write_records(newest).map_err(of(newest))?;
        let mut restored = HashSet::new();
        for backup in backups {
            self.write_zips(backup, &mut restored, &mut report, progress).map_err(of(backup))?;
        }
        let missing = self.needed.iter().find(|(digest, _)| !restored.contains(*digest));
        match missing {
            Some((digest, NeededZip { version, .. })) => {
                Err(RestoreError::MissingZip { version: version.to_string(), digest: *digest })
            }
            None => Ok(report),
        }
    }

    /// Writes the records and the publications that failed, and collects the zips that are needed. Returns the number of
    /// records.
    fn write_records(&mut self, backup: &BackupFile) -> Result<u64, RestoreProblem> {
        let mut count = 0;
        let mut sha = sha2::Sha256::new();
        backup.read(|part| {
            let entry = match part {
                BackupPart::Records(entry) => entry,
                BackupPart::Failed(failed) => {
                    let path = self.layout.failed();
                    let written = failed.bounded().write(&path);
                    return written.map_err(|source| RestoreProblem::Write { path, source });
                }
                BackupPart::Zip(..) => return Ok(()),
            };
            let mut lines = BufReader::new(entry);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).map_err(BackupProblem::Io)? > 0 {
                sha.update(&line);
                self.write_record(&line)?;
                line.clear();
                count += 1;
            }
            Ok::<_, RestoreProblem>(())
        })?;
        let is_whole = Digest(sha.finalize().into()) == backup.records && count == backup.summary.versions;
        if is_whole { Ok(count) } else { Err(RestoreProblem::OtherRecords) }
    }

    fn write_record(&mut self, line: &[u8]) -> Result<(), RestoreProblem> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let head: RecordHead =
            serde_json::from_slice(text).map_err(|error| RestoreProblem::Record(error.to_string()))?;
        let wrong = |why: &str| RestoreProblem::Record(format!("{:?} {:?} {why}", head.name, head.version));
        // Both become names of files.
        PackageName::plain(&head.name).map_err(|error| wrong(&error.to_string()))?;
        if head.name.starts_with(['.', '-']) {
            return Err(wrong("begins with a dot or a dash"));
        }
        head.version.parse::<VersionNumber>().map_err(|error| wrong(&error.to_string()))?;
        for (digest, len) in head.zips() {
            let version = || format!("{} {}", head.name, head.version).into();
            let needed = self.needed.entry(digest).or_insert_with(|| NeededZip { len, version: version() });
            if needed.len != len {
                return Err(wrong("states another length for a zip than another record"));
            }
        }
        let folder = self.layout.package(&head.name.to_ascii_lowercase());
        let path = self.layout.record(&head.name.to_ascii_lowercase(), &head.version);
        let failed = |source| RestoreProblem::Write { path: path.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        match File::create_new(&path) {
            Ok(mut file) => file.write_all(text).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(wrong("is there twice")),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes the zips of one backup that are needed and not there yet.
    fn write_zips(
        &self,
        backup: &BackupFile,
        restored: &mut HashSet<Digest>,
        report: &mut RestoreReport,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), RestoreProblem> {
        backup.read(|part| {
            let BackupPart::Zip(digest, entry) = part else { return Ok(()) };
            let Some(needed) = self.needed.get(&digest).filter(|_| !restored.contains(&digest)) else { return Ok(()) };
            if entry.size() != needed.len {
                return Err(RestoreProblem::OtherZip(digest));
            }
            let path = self.layout.blob(&digest);
            let failed = |source| RestoreProblem::Write { path: path.clone(), source };
            fs::create_dir_all(self.layout.blob_folder(&digest)).map_err(failed)?;
            let mut file = File::create_new(&path).map_err(failed)?;
            let mut sha = sha2::Sha256::new();
            let mut buf = vec![0; RESTORE_COPY_BYTES];
            let mut len = 0;
            loop {
                let read = entry.read(&mut buf).map_err(BackupProblem::Io)?;
                if read == 0 {
                    break;
                }
                sha.update(&buf[..read]);
                file.write_all(&buf[..read]).map_err(failed)?;
                len += read as u64;
                progress(read as u64);
            }
            if len != needed.len || Digest(sha.finalize().into()) != digest {
                return Err(RestoreProblem::OtherZip(digest));
            }
            restored.insert(digest);
            report.zips += 1;
            report.bytes += len;
            Ok(())
        })
    }
}
