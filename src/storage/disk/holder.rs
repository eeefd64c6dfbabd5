//! Who holds the cache directory: one process at a time, by a lock that ends with it.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::OpenError;

/// What the file `holder` says of the process that holds, or last held, the directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it took the directory.
    pub started: Timestamp,
    /// Where it listens, once it does.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
}

impl Holder {
    /// Reads who holds the cache directory `dir`, or held it last; `None` when the file says nothing.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn of(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(dir.join("holder")) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The lock itself; dropping it frees the directory.
#[derive(Debug)]
pub(super) struct Lock {
    file: Mutex<File>,
    holder: Holder,
}

impl Lock {
    /// Takes the lock on `path` without waiting.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { what: "open holder", source };
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                let read = file.read_to_end(&mut text).ok();
                let holder = read.and_then(|_| serde_json::from_slice::<Holder>(&text).ok());
                return Err(OpenError::Busy { pid: holder.map(|h| h.pid) });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { what: "lock holder", source }),
        }
        let holder = Holder { pid: std::process::id(), started: Timestamp::now(), addresses: Vec::new() };
        let lock = Self { file: Mutex::new(file), holder };
        lock.write(&lock.holder).map_err(|source| OpenError::Io { what: "write holder", source })?;
        Ok(lock)
    }

    /// Says where this process listens.
    pub(super) fn set_addresses(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        self.write(&Holder { addresses: addresses.to_vec(), ..self.holder.clone() })
    }

    /// Frees the directory for the next holder, although readers may still have files of it open.
    ///
    /// # Errors
    /// What the file system says; the lock then ends with the process.
    pub(super) fn release(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).unlock()
    }

    /// Written in place: a rename would leave the lock on the old file.
    fn write(&self, holder: &Holder) -> io::Result<()> {
        let mut text = serde_json::to_vec(holder)?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)
    }
}
