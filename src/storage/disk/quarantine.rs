//! The quarantine folder: a few damaged files, kept for inspection. They count against the budget and are the first files
//! that eviction removes.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tracing::warn;

use super::{
    blob::{BlobFile, release_on_close},
    budget::{Budget, Reservation, allocated_bytes},
    skipped::SkippedFiles,
    stage,
};

/// Number of files that are kept.
const MAX_QUARANTINED_FILES: usize = 16;

/// The quarantine folder.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: PathBuf,
    files: Mutex<VecDeque<QuarantinedFile>>,
}

#[derive(Debug)]
struct QuarantinedFile {
    path: PathBuf,
    reservation: Reservation,
    /// The open file, if it was being read when it was quarantined.
    reader: Option<Weak<BlobFile>>,
    /// Eviction skips it: a folder that an operator put here, or a file that could not be removed.
    skipped: bool,
}

impl Quarantine {
    /// Accounts for the files that earlier runs left.
    pub(super) fn open(dir: PathBuf, budget: &Arc<Budget>, skipped: &SkippedFiles) -> Self {
        let mut found = Vec::new();
        let entries = fs::read_dir(&dir).inspect_err(|cause| skipped.record(&dir, cause));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            let stat = match fs::symlink_metadata(&path) {
                Ok(stat) => stat,
                Err(cause) => {
                    skipped.record(&path, &cause);
                    continue;
                }
            };
            let bytes = allocated_bytes_of(&path, &stat).unwrap_or_else(|cause| {
                warn!(path = %path.display(), %cause, "the size of a quarantined folder cannot be read");
                allocated_bytes(stat.len())
            });
            let reservation = budget.account_existing(bytes);
            let file = QuarantinedFile { path, reservation, reader: None, skipped: stat.is_dir() };
            found.push((stat.modified().ok(), file));
        }
        found.sort_unstable_by_key(|(modified, _)| *modified);
        Self { dir, files: Mutex::new(found.into_iter().map(|(_, file)| file).collect()) }
    }

    /// Moves a file here, with its reservation. A file that cannot be moved is removed.
    pub(super) fn take(&self, path: &Path, reservation: Reservation, reader: Option<&Arc<BlobFile>>) -> io::Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let to = self.dir.join(name);
        // The same digest may be damaged twice; overwriting the earlier file would leave its reservation without a file.
        let earlier = {
            let mut files = self.files.lock();
            let at = files.iter().position(|file| file.path == to);
            at.and_then(|at| files.remove(at))
        };
        if let Some(Err(NotRemoved { file, cause })) = earlier.map(remove) {
            warn!(path = %file.path.display(), %cause, "an earlier quarantined file cannot be removed");
            self.files.lock().push_back(file);
        }
        match fs::rename(path, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Unlinked by another program: the file system frees its blocks when the last reader closes it.
                release_on_close(reader.map(Arc::clone), reservation);
                return Ok(());
            }
            Err(_) => return stage::remove_file(path).map(|()| release_on_close(reader.map(Arc::clone), reservation)),
        }
        let count = {
            let mut files = self.files.lock();
            // The rename has replaced an earlier file that could not be removed.
            files.retain(|file| file.path != to);
            files.push_back(QuarantinedFile {
                path: to,
                reservation,
                reader: reader.map(Arc::downgrade),
                skipped: false,
            });
            files.len()
        };
        for _ in MAX_QUARANTINED_FILES..count {
            // The damaged file itself is quarantined, whatever this returns.
            if let Err(cause) = self.remove_oldest() {
                warn!(%cause, "a quarantined file cannot be removed");
            }
        }
        Ok(())
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.lock().iter().map(|file| file.reservation.bytes()).sum()
    }

    /// Bytes that eviction can free.
    pub(super) fn evictable_bytes(&self) -> u64 {
        self.files.lock().iter().filter(|file| !file.skipped).map(|file| file.reservation.bytes()).sum()
    }

    /// Removes all files and folders and returns their number. A failure does not stop the removal of the others.
    pub(super) fn clear(&self) -> io::Result<usize> {
        let count = {
            let mut files = self.files.lock();
            files.iter_mut().for_each(|file| file.skipped = false);
            files.len()
        };
        let removals: Vec<_> = (0..count).map(|_| self.remove_oldest()).collect();
        removals.into_iter().try_fold(0, |count, removed| Ok(count + usize::from(removed?)))
    }

    /// Removes the oldest file that is not skipped; false if there is none. A file that cannot be removed stays counted
    /// and is skipped from then on.
    pub(super) fn remove_oldest(&self) -> io::Result<bool> {
        let oldest = {
            let mut files = self.files.lock();
            let at = files.iter().position(|file| !file.skipped);
            at.and_then(|at| files.remove(at))
        };
        let Some(oldest) = oldest else { return Ok(false) };
        remove(oldest).map(|()| true).map_err(|NotRemoved { file, cause }| {
            self.files.lock().push_back(QuarantinedFile { skipped: true, ..file });
            cause
        })
    }
}

/// The bytes that a file takes, or a folder with all that is in it. Does not follow links.
fn allocated_bytes_of(path: &Path, stat: &fs::Metadata) -> io::Result<u64> {
    if !stat.is_dir() {
        return Ok(allocated_bytes(stat.len()));
    }
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        sum += allocated_bytes_of(&path, &fs::symlink_metadata(&path)?)?;
    }
    Ok(sum)
}

/// A file that could not be removed.
struct NotRemoved {
    file: QuarantinedFile,
    cause: io::Error,
}

fn remove(file: QuarantinedFile) -> Result<(), NotRemoved> {
    let removed = match stage::remove_file(&file.path) {
        Err(_) if file.path.is_dir() => fs::remove_dir_all(&file.path),
        removed => removed,
    };
    if let Err(cause) = removed {
        return Err(NotRemoved { file, cause });
    }
    release_on_close(file.reader.and_then(|reader| reader.upgrade()), file.reservation);
    Ok(())
}
