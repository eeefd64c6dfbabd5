//! Where damaged files go: kept for whoever wants to look, counted, few, and the first to go when space is needed.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    blob::BlobFile,
    budget::{Budget, Charge, blocks},
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
    charge: Charge,
    /// Somebody was reading it when it was found to be damaged.
    reader: Option<std::sync::Weak<BlobFile>>,
}

impl Quarantine {
    /// Counts what an earlier run has left.
    pub(super) fn open(dir: PathBuf, budget: &Arc<Budget>) -> io::Result<Self> {
        let mut held = VecDeque::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let charge = budget.found(blocks(entry.metadata()?.len()));
            held.push_back(Held { path: entry.path(), charge, reader: None });
        }
        Ok(Self { dir, held: Mutex::new(held) })
    }

    /// Moves a file here, with the bytes it counts. When it cannot be moved it is removed.
    pub(super) fn take(&self, path: &Path, charge: Charge, reader: Option<&Arc<BlobFile>>) -> io::Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let to = self.dir.join(name);
        // The same digest may be damaged twice; the earlier file would go uncounted when it is overwritten.
        let earlier = {
            let mut held = self.lock();
            let at = held.iter().position(|held| held.path == to);
            at.and_then(|at| held.remove(at))
        };
        earlier.map_or(Ok(()), discard)?;
        match fs::rename(path, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Unlinked by somebody else: its bytes are gone with its last reader.
                linger(reader.map(Arc::clone), charge);
                return Ok(());
            }
            Err(_) => return stage::remove(path).map(|_| linger(reader.map(Arc::clone), charge)),
        }
        self.lock().push_back(Held { path: to, charge, reader: reader.map(Arc::downgrade) });
        while self.lock().len() > MOST {
            self.discard_oldest()?;
        }
        Ok(())
    }

    /// Bytes held here.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|held| held.charge.bytes()).sum()
    }

    /// Removes all files; the number of them.
    pub(super) fn clear(&self) -> io::Result<usize> {
        let mut count = 0;
        while self.discard_oldest()? {
            count += 1;
        }
        Ok(count)
    }

    /// Removes the oldest file; false when there is none.
    pub(super) fn discard_oldest(&self) -> io::Result<bool> {
        let oldest = self.lock().pop_front();
        oldest.map_or(Ok(false), |held| discard(held).map(|()| true))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn discard(held: Held) -> io::Result<()> {
    stage::remove(&held.path)?;
    linger(held.reader.and_then(|reader| reader.upgrade()), held.charge);
    Ok(())
}

/// Gives the bytes of an unlinked file back once nobody reads it any more.
pub(super) fn linger(reader: Option<Arc<BlobFile>>, charge: Charge) {
    match reader {
        Some(reader) => reader.linger(charge),
        None => drop(charge),
    }
}
