//! The lock on the cache directory: one process holds a directory at a time.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    net::SocketAddr,
    path::Path,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::OpenError;

/// The content of the file `holder`: the process that holds the directory, or held it last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it locked the directory.
    pub started: Timestamp,
    /// The addresses it listens on; empty until it listens.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
}

impl Holder {
    /// Reads the file `holder` of the cache directory `dir`; `None` if it is missing or does not parse.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn of(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(dir.join("holder")) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// An exclusive lock on the file `holder`; dropping it frees the directory.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: Mutex<File>,
    holder: Holder,
}

impl DirectoryLock {
    /// Locks the file at `path` without waiting.
    pub(super) fn acquire(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { what: "open holder", source };
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                let read = file.read_to_end(&mut text).ok();
                let holder = read.and_then(|_| serde_json::from_slice::<Holder>(&text).ok());
                let dir = path.parent().unwrap_or(path).to_owned();
                return Err(OpenError::Busy { dir, pid: holder.map(|h| h.pid) });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { what: "lock holder", source }),
        }
        let holder = Holder { pid: std::process::id(), started: Timestamp::now(), addresses: Vec::new() };
        let lock = Self { file: Mutex::new(file), holder };
        lock.write(&lock.holder).map_err(|source| OpenError::Io { what: "write holder", source })?;
        Ok(lock)
    }

    /// Writes the addresses that this process listens on.
    pub(super) fn set_addresses(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        self.write(&Holder { addresses: addresses.to_vec(), ..self.holder.clone() })
    }

    /// Frees the directory for the next process while readers still have files open.
    ///
    /// # Errors
    /// When the file system fails; the lock then ends with the process.
    pub(super) fn release(&self) -> io::Result<()> {
        self.file.lock().unlock()
    }

    /// Writes in place: a rename would leave the lock on the old file.
    fn write(&self, holder: &Holder) -> io::Result<()> {
        let mut text = serde_json::to_vec(holder)?;
        text.push(b'\n');
        let mut file = self.file.lock();
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)
    }
}
