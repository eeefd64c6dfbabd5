//! The disk tier: archives and documents in files, under one limit, durable.
//!
//! [`Disk`] is the asynchronous face; everything that blocks happens in `store` and its neighbours on the blocking
//! pool. A hit on an open, known blob blocks nowhere and writes nothing.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::store::{Store, lock};
use crate::{
    entry::{Key, Meta, Pin},
    origin::BoxFuture,
    storage::{Content, Object, Tier, Usage},
    value::{ByteSize, Period},
};

mod admission;
pub mod blob;
mod budget;
pub mod documents;
mod eviction;
mod health;
pub mod holder;
mod index;
mod inventory;
mod layout;
mod lookup_cache;
mod open_files;
mod page_cache;
mod pending_updates;
pub mod pins;
mod quarantine;
mod recovery;
mod scrub;
mod sidecar;
pub mod spool;
mod stage;
mod store;
#[cfg(test)]
mod tests;

pub use documents::Documents;
pub use holder::Holder;
pub use inventory::{DiskUsage, InventoryEntry};
pub use pins::PinEvent;
pub use spool::Spool;

/// The least limit that makes sense: index and journal have to fit with something beside them.
pub const LEAST_LIMIT: ByteSize = ByteSize::mib(4);

/// The tier's name.
const NAME: &str = "disk";

/// The `[disk]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The cache directory; by default `srm-mirror` in the user's cache directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Most bytes on disk, everything counted.
    pub limit: ByteSize,
    /// The part of `limit` that documents may take; never more than half of it.
    pub documents: ByteSize,
    /// The background scrub re-hashes every blob once in this period; `forever` turns it off.
    pub scrub: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: None,
            limit: ByteSize::gib(50),
            documents: ByteSize::gib(1),
            scrub: Period(std::time::Duration::from_secs(7 * 86_400)),
        }
    }
}

/// Why a cache directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error("the cache directory is in use by {}", pid.map_or("another process".into(), |pid| format!("process {pid}")))]
    Busy {
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// It holds other things, and has never been a cache.
    #[error(
        "{} is not empty and is no cache directory; name an empty or a new directory with --cache-dir or disk.dir",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// It was written by a newer version.
    #[error(
        "the cache directory has format {found:?}, this version knows formats up to {known}; use a newer version or another directory"
    )]
    Format {
        /// What the file `format` says.
        found: String,
        /// The newest format this version knows.
        known: u32,
    },
    /// The limit is too small to work with.
    #[error("disk.limit is {}, the least is {}", ByteSize(*limit), ByteSize(*least))]
    Limit {
        /// The configured limit, bytes.
        limit: u64,
        /// The least possible limit, bytes.
        least: u64,
    },
    /// The file system refuses.
    #[error("cannot {what}")]
    Io {
        /// What was attempted, a verb and its object.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Why there is no spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The budget has no room, and not enough can be evicted.
    #[error("no space in the cache's limit")]
    NoSpace,
    /// The file system refuses.
    #[error("cannot write to the cache directory")]
    Io(#[from] io::Error),
}

impl From<SpoolError> for io::Error {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::NoSpace => Self::from(io::ErrorKind::StorageFull),
            SpoolError::Io(error) => error,
        }
    }
}

/// The disk tier. One process holds a directory at a time.
pub struct Disk {
    store: Arc<Store>,
    scrub: Period,
}

impl Disk {
    /// Takes the directory, which is made when missing, and brings it into order after a kill. Blocks; hashes nothing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: &Config, dir: &Path) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self { store: Store::open(config, dir)?, scrub: config.scrub }))
    }

    /// Writes into the file `holder` where this process listens.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_holder_addresses(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        self.store.holder().set_addresses(addresses)
    }

    /// Opens a spool and reserves its space: all of it when its length is known, else in steps. Blocks.
    ///
    /// # Errors
    /// [`SpoolError::NoSpace`] when evicting everything that nobody needs would not make enough room.
    pub fn spool(&self, expected: Option<u64>) -> Result<Spool, SpoolError> {
        let spool = Spool::create(&self.store, expected);
        if let Err(SpoolError::Io(error)) = &spool {
            self.store.health.fails(health::DiskArea::Spool, error);
        }
        spool
    }

    /// Makes a whole and verified spool the object of a key; visible and durable when it returns.
    ///
    /// `meta.digest` must be the digest of the bytes: it is not computed again. When the same bytes are stored already
    /// the key is added to them and the spool dropped. The work goes on when this future is dropped.
    ///
    /// # Errors
    /// What the file system says; then nothing is stored and the spool is gone, though its readers can go on.
    pub async fn admit(&self, key: &Key, spool: Spool, meta: Meta) -> io::Result<Object> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.admit(&key, spool, meta, |_| {})).await
    }

    /// What was first seen under a key.
    ///
    /// # Errors
    /// When the journal or the index cannot be read: that is not the same as absent.
    pub async fn pin(&self, key: &Key) -> io::Result<Option<Arc<Pin>>> {
        if let Some(known) = self.store.hot_pin(key) {
            return Ok(known);
        }
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.pin(&key)).await
    }

    /// Shows `judge` what was first seen under a key, and appends to the pins journal what it says, or nothing when it
    /// refuses. Nobody else can append in between; durable when it returns.
    ///
    /// # Errors
    /// When the pin cannot be read, or what is new could not be made durable. It may be there all the same after the
    /// next start. Within it, why `judge` refused.
    pub async fn settle_pin<E: Send + 'static>(
        &self,
        key: &Key,
        judge: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E> + Send + 'static,
    ) -> io::Result<Result<(), E>> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        blocking(move || store.settle_pin(&key, judge)).await
    }

    /// Appends to the pins journal, whatever it says already.
    ///
    /// # Errors
    /// As [`Disk::settle_pin`].
    pub async fn record_pin(&self, pin: &Pin, event: PinEvent) -> io::Result<()> {
        let told = vec![(event, pin.clone())];
        self.settle_pin(&pin.key, |_| Ok::<_, Infallible>(told)).await.map(|Ok(())| ())
    }

    /// Every pin whose key begins with `prefix`, in order of keys.
    ///
    /// # Errors
    /// When the journal or the index cannot be read.
    pub async fn pins(&self, prefix: &str) -> io::Result<Vec<Pin>> {
        let store = Arc::clone(&self.store);
        let prefix = prefix.to_owned();
        blocking(move || store.pins(&prefix)).await
    }

    /// Every pinned key, in order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn pinned(&self) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        blocking(move || store.pinned()).await
    }

    /// Every key that is kept while nothing is stored under it, in order: what comes back is kept again.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn waiting(&self) -> io::Result<Vec<Key>> {
        let store = Arc::clone(&self.store);
        blocking(move || store.waiting()).await
    }

    /// Moves an object that somebody has found damaged out of the way; its readers keep it. A file that has taken its
    /// place meanwhile stays.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn set_aside(&self, object: &Object, why: &'static str) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let digest = object.meta.digest;
        let content = object.content.clone();
        blocking(move || match content {
            Content::Disk(file) => store.set_file_aside(&digest, why, &file),
            Content::Memory(_) => store.set_aside(&digest, why, || true),
        })
        .await
    }

    /// The documents of this tier.
    pub fn documents(&self) -> Documents {
        Documents { store: Arc::clone(&self.store) }
    }

    /// Why the disk does not take what is written to it, if it does not; gone with the next write of its kind that works.
    pub fn degraded(&self) -> Option<String> {
        self.store.health.trouble()
    }

    /// Starts the flush and the scrub; they end when `token` is cancelled.
    pub fn spawn_background(&self, tracker: &TaskTracker, token: &CancellationToken) {
        scrub::spawn(&self.store, self.scrub, tracker, token);
    }

    /// Writes what waits in memory and marks the directory as closed cleanly. Nothing can be written afterwards.
    ///
    /// # Errors
    /// When it cannot be written; the next start then looks through the folders.
    pub async fn close(&self) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        blocking(move || store.close()).await
    }

    async fn lookup(&self, key: &Key) -> io::Result<Option<Object>> {
        let store = &self.store;
        let meta = match store.front.get(key) {
            Some(meta) => meta,
            None => {
                let store = Arc::clone(store);
                let key = key.clone();
                let Some(meta) = blocking(move || store.load(&key)).await? else { return Ok(None) };
                meta
            }
        };
        let digest = meta.digest;
        let file = match store.handles.get(&digest) {
            Some(file) => file,
            None => {
                let store = Arc::clone(store);
                let open = move || match store.open_blob(&digest)? {
                    Some(file) => Ok(Some(file)),
                    None => store.missing(&digest).map(|()| None),
                };
                let Some(file) = blocking(open).await? else { return Ok(None) };
                file
            }
        };
        let known = file.is_known_sound();
        let why = if !file.fits(meta.len) {
            "its length is wrong"
        } else if !file.is_sound(digest).await {
            "its bytes do not have its digest"
        } else {
            if !known {
                lock(&store.sound).insert(digest);
            }
            let uses = file.uses().cloned();
            return Ok(Some(Object { meta, content: Content::Disk(file), tier: NAME, uses }));
        };
        let store = Arc::clone(store);
        blocking(move || store.set_file_aside(&digest, why, &file)).await?;
        Ok(None)
    }
}

impl Tier for Disk {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, io::Result<Option<Object>>> {
        Box::pin(self.lookup(key))
    }

    /// Declines: what belongs on disk comes through a spool and [`Disk::admit`].
    fn put<'a>(&'a self, _: &'a Key, _: &'a Object) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, io::Result<()>> {
        let store = Arc::clone(&self.store);
        let key = key.clone();
        Box::pin(blocking(move || store.remove(&key)))
    }

    fn usage(&self) -> Usage {
        let Store { budget, objects, .. } = &*self.store;
        Usage { bytes: budget.total(), limit: budget.limit(), objects: objects.load(Ordering::SeqCst) }
    }
}

/// Runs what blocks on the blocking pool; a panic there is an error here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
