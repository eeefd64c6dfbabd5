//! Where damaged files go: kept for whoever wants to look, counted, few, and the first to go when space is needed.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::warn;

use super::{
    blob::BlobFile,
    budget::{Budget, Reservation, blocks},
    stage,
};

/// Most files that are kept.
const MOST: usize = 16;

/// The folder of damaged files.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: PathBuf,
    held: Mutex<VecDeque<Held>>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    charge: Reservation,
    /// Somebody was reading it when it was found to be damaged.
    reader: Option<std::sync::Weak<BlobFile>>,
    /// No room is made of it: a folder, which somebody has put here, or what could not be removed.
    stays: bool,
}

impl Quarantine {
    /// Counts what an earlier run has left.
    pub(super) fn open(dir: PathBuf, budget: &Arc<Budget>) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let stat = fs::symlink_metadata(&path)?;
            let bytes = space(&path, &stat).unwrap_or_else(|cause| {
                warn!(path = %path.display(), %cause, "what is in quarantine cannot be counted");
                blocks(stat.len())
            });
            let charge = budget.account_existing(bytes);
            found.push((stat.modified()?, Held { path, charge, reader: None, stays: stat.is_dir() }));
        }
        found.sort_by_key(|(modified, _)| *modified);
        Ok(Self { dir, held: Mutex::new(found.into_iter().map(|(_, held)| held).collect()) })
    }

    /// Moves a file here, with the bytes it counts. When it cannot be moved it is removed.
    pub(super) fn take(&self, path: &Path, charge: Reservation, reader: Option<&Arc<BlobFile>>) -> io::Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let to = self.dir.join(name);
        // The same digest may be damaged twice; the earlier file would go uncounted when it is overwritten.
        let earlier = {
            let mut held = self.lock();
            let at = held.iter().position(|held| held.path == to);
            at.and_then(|at| held.remove(at))
        };
        if let Some(Err((held, cause))) = earlier.map(discard) {
            warn!(path = %held.path.display(), %cause, "an earlier damaged file cannot be removed");
            self.lock().push_back(held);
        }
        match fs::rename(path, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Unlinked by somebody else: its bytes are gone with its last reader.
                release_on_close(reader.map(Arc::clone), charge);
                return Ok(());
            }
            Err(_) => return stage::remove(path).map(|_| release_on_close(reader.map(Arc::clone), charge)),
        }
        let count = {
            let mut held = self.lock();
            // An earlier file that could not be removed is gone now.
            held.retain(|held| held.path != to);
            held.push_back(Held { path: to, charge, reader: reader.map(Arc::downgrade), stays: false });
            held.len()
        };
        for _ in MOST..count {
            // What is damaged is out of the way all the same.
            if let Err(cause) = self.discard_oldest() {
                warn!(%cause, "a damaged file that was set aside cannot be removed");
            }
        }
        Ok(())
    }

    /// Bytes held here.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|held| held.charge.bytes()).sum()
    }

    /// Bytes that room can be made of.
    pub(super) fn evictable(&self) -> u64 {
        self.lock().iter().filter(|held| !held.stays).map(|held| held.charge.bytes()).sum()
    }

    /// Removes all files, and folders, too; the number of them. One that cannot be removed keeps no other.
    pub(super) fn clear(&self) -> io::Result<usize> {
        let count = {
            let mut all = self.lock();
            all.iter_mut().for_each(|held| held.stays = false);
            all.len()
        };
        let all: Vec<_> = (0..count).map(|_| self.discard_oldest()).collect();
        all.into_iter().try_fold(0, |count, done| Ok(count + usize::from(done?)))
    }

    /// Removes the oldest file that room can be made of; false when there is none. One that cannot be removed goes on
    /// counting and stays.
    pub(super) fn discard_oldest(&self) -> io::Result<bool> {
        let oldest = {
            let mut all = self.lock();
            let at = all.iter().position(|held| !held.stays);
            at.and_then(|at| all.remove(at))
        };
        let Some(oldest) = oldest else { return Ok(false) };
        discard(oldest).map(|()| true).map_err(|(held, cause)| {
            self.lock().push_back(Held { stays: true, ..held });
            cause
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The space that a file takes, or a folder with all that somebody has put into it. Links are not followed.
fn space(path: &Path, stat: &fs::Metadata) -> io::Result<u64> {
    let mut sum = blocks(stat.len());
    if stat.is_dir() {
        sum = 0;
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            sum += space(&path, &fs::symlink_metadata(&path)?)?;
        }
    }
    Ok(sum)
}

/// Removes it, or gives it back with the reason why not.
fn discard(held: Held) -> Result<(), (Held, io::Error)> {
    let removed = match stage::remove(&held.path) {
        Err(_) if held.path.is_dir() => fs::remove_dir_all(&held.path),
        removed => removed.map(drop),
    };
    if let Err(cause) = removed {
        return Err((held, cause));
    }
    release_on_close(held.reader.and_then(|reader| reader.upgrade()), held.charge);
    Ok(())
}

/// Gives the bytes of an unlinked file back once nobody reads it any more.
pub(super) fn release_on_close(reader: Option<Arc<BlobFile>>, charge: Reservation) {
    match reader {
        Some(reader) => reader.release_on_close(charge),
        None => drop(charge),
    }
}
