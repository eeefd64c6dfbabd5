//! The disk tier: archives and documents in files, durable, within one limit.
//!
//! [`Disk`] is the asynchronous interface and composes the parts; each part blocks and runs on the blocking pool. A hit
//! on an open, verified blob neither blocks nor writes.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    admission::Admission,
    blob_keys::BlobKeys,
    blob_metas::BlobMetas,
    blobs::Blobs,
    budget::{Budget, Reservation},
    documents::DocumentStore,
    health::DiskHealth,
    holder::DirectoryLock,
    index::Index,
    layout::Layout,
    lookup::Lookup,
    maintenance::Maintenance,
    pending_updates::PendingUpdates,
    pins::PinStore,
    quarantine::Quarantine,
    recovery::AdoptedBlobs,
    repair::Repair,
    scrub::Scrub,
    skipped::SkippedFiles,
    sources::SourceStore,
    space::Space,
    upload_queue::UploadQueue,
    usage_flush::UsageFlush,
};
use crate::{
    blocking::run_blocking_io,
    entry::{Key, Meta},
    observe::CacheMetrics,
    storage::{Object, ObjectContent, TierUsage},
    value::{ByteSize, Period},
};

mod admission;
mod append_file;
pub(crate) mod blob;
mod blob_keys;
mod blob_metas;
mod blobs;
mod budget;
mod digest_locks;
mod document_file;
pub(crate) mod documents;
mod eviction;
mod health;
pub(crate) mod holder;
mod index;
mod inventory;
mod journal;
mod layout;
mod lookup;
mod lookup_cache;
mod maintenance;
mod open_files;
mod page_cache;
mod pending_updates;
pub(crate) mod pins;
mod preallocation;
mod quarantine;
mod quiet_read;
mod recovery;
mod repair;
mod scrub;
mod sidecar;
mod skipped;
mod sources;
mod space;
pub(crate) mod spool;
mod stage;
mod startup;
#[cfg(test)]
mod tests;
mod upload_queue;
mod usage_flush;

pub use documents::DiskDocuments;
pub use holder::Holder;
pub use index::{PinState, QueuedUpload};
pub use inventory::{DiskInventory, DiskUsage, InventoryEntry};
#[cfg(feature = "fuzzing")]
pub use journal::fuzzing::index_record as fuzz_index_record;
pub use journal::{PinEvent, SettleError};
pub use pins::DiskPins;
pub use repair::Integrity;
pub use sources::{DiskSources, SourcePlace, SourceRecord, SourceSelection};
pub use spool::Spool;
pub use upload_queue::{DiskUploads, UploadQueueUsage};

/// The smallest `disk.limit`: index and journal must fit, with some space beside them.
pub const MIN_DISK_LIMIT: ByteSize = ByteSize::mib(4);

/// The tier's name in `Cache-Status`.
const DISK_TIER: &str = "disk";
/// Memory for recently used metadata, and as much for recently used pins.
const LOOKUP_CACHE_BYTES: u64 = 6 << 20;

/// The `[disk]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The cache directory; by default `srm-mirror` in the user's cache directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The limit of all bytes on disk.
    pub limit: ByteSize,
    /// The share of `limit` that documents may take; at most half of it.
    pub documents: ByteSize,
    /// The share of `limit`, in percent, that one body of unknown length may take by evicting others.
    pub unannounced_percent: u8,
    /// The background scrub re-hashes every blob once per period; `forever` turns it off.
    pub scrub: Period,
    /// True when archives are uploaded to a shared bucket, `[shared]`: what a recovery finds is queued for it.
    #[serde(skip)]
    pub uploads: bool,
}

impl Config {
    fn adopted(&self) -> AdoptedBlobs {
        if self.uploads { AdoptedBlobs::Queued } else { AdoptedBlobs::Indexed }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: None,
            limit: ByteSize::gib(50),
            documents: ByteSize::gib(1),
            unannounced_percent: 25,
            scrub: Period(std::time::Duration::from_secs(7 * 86_400)),
            uploads: false,
        }
    }
}

/// Why a cache directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error(
        "the cache directory {} is in use by {}; stop it, or name another directory with --cache-dir or disk.dir",
        dir.display(),
        pid.map_or("another process".into(), |pid| format!("process {pid}"))
    )]
    Busy {
        /// The directory.
        dir: PathBuf,
        /// The holder's process id, if it can be read.
        pid: Option<u32>,
    },
    /// It contains other files and was never a cache.
    #[error(
        "{} is not empty and is not a cache directory; name an empty or a new directory with --cache-dir or disk.dir",
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
        /// The content of the file `format`.
        found: String,
        /// The newest format that this version can read.
        known: u32,
    },
    /// The limit is too small.
    #[error("disk.limit is {}, the minimum is {}", ByteSize(*limit), ByteSize(*minimum))]
    Limit {
        /// The configured limit, bytes.
        limit: u64,
        /// The smallest possible limit, bytes.
        minimum: u64,
    },
    /// The file system fails.
    #[error("cannot {what}")]
    Io {
        /// The attempted operation, a verb and its object.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The budget has no space, and not enough can be evicted.
    #[error("no space in the cache's limit")]
    NoSpace,
    /// The file system fails.
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
    scrub_period: Period,
    adopted: AdoptedBlobs,
    layout: Arc<Layout>,
    budget: Arc<Budget>,
    health: Arc<DiskHealth>,
    skipped: Arc<SkippedFiles>,
    updates: Arc<PendingUpdates>,
    index: Arc<Index>,
    metas: Arc<BlobMetas>,
    blobs: Arc<Blobs>,
    quarantine: Arc<Quarantine>,
    flush: Arc<UsageFlush>,
    space: Arc<Space>,
    keys: Arc<BlobKeys>,
    repair: Arc<Repair>,
    lookup: Arc<Lookup>,
    admission: Arc<Admission>,
    uploads: Arc<UploadQueue>,
    documents: Arc<DocumentStore>,
    pins: Arc<PinStore>,
    sources: Arc<SourceStore>,
    scrub: Arc<Scrub>,
    lock: Arc<DirectoryLock>,
    metrics: Arc<CacheMetrics>,
    /// The bytes of `format` and `holder`.
    _fixed_files: Reservation,
}

impl Disk {
    /// Opens the directory, which is created if missing, and recovers it after a kill. Blocks; hashes nothing.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: &Config, dir: &Path) -> Result<Arc<Self>, OpenError> {
        startup::open(config, dir).map(Arc::new)
    }

    /// Writes the addresses that this process listens on into the file `holder`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_holder_addresses(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        self.lock.set_addresses(addresses)
    }

    /// Opens a spool. Its space is reserved as bytes arrive. Blocks.
    ///
    /// # Errors
    /// [`SpoolError::NoSpace`] when not enough can be evicted for the expected length.
    pub fn spool(&self, expected: Option<u64>) -> Result<Spool, SpoolError> {
        let spool = Spool::create(&self.space, &self.health, &self.layout, expected);
        if let Err(SpoolError::Io(error)) = &spool {
            self.health.record_failure(health::DiskArea::Spool, error);
        }
        spool
    }

    /// Stores a complete and verified spool under a key; visible and durable when it returns.
    ///
    /// The caller has computed `meta.digest` from the bytes: it is not computed again. If the same bytes are stored
    /// already, the key is added to them and the spool is removed. Dropping this future does not cancel the work.
    ///
    /// # Errors
    /// When the file system fails; then nothing is stored and the spool is removed, but its readers can still read it.
    pub async fn admit(&self, key: &Key, spool: Spool, meta: Meta) -> io::Result<Object> {
        self.admit_and_queue(key, spool, meta, None).await
    }

    /// As [`Disk::admit`], for an archive that is to be uploaded where `upload` says whether the bucket has its pin: it is
    /// in the queue of uploads when this returns.
    ///
    /// # Errors
    /// As [`Disk::admit`].
    pub async fn admit_and_queue(
        &self,
        key: &Key,
        spool: Spool,
        meta: Meta,
        upload: Option<PinState>,
    ) -> io::Result<Object> {
        let admission = Arc::clone(&self.admission);
        let key = key.clone();
        run_blocking_io(move || admission.run(&key, spool, meta, upload, |_| {})).await
    }

    /// The queue of uploads to the shared bucket.
    pub fn uploads(&self) -> DiskUploads {
        DiskUploads::new(Arc::clone(&self.uploads))
    }

    /// The archive of a key. A damaged archive is quarantined and reported as absent.
    ///
    /// # Errors
    /// When the file system or the index fails.
    pub async fn get(&self, key: &Key) -> io::Result<Option<Object>> {
        self.lookup.get(key).await
    }

    /// Removes the archive of a key and the key's keep mark; readers of the archive keep it.
    ///
    /// # Errors
    /// When a file or the index cannot be written.
    pub async fn remove(&self, key: &Key) -> io::Result<()> {
        self.remove_all(vec![key.clone()]).await
    }

    /// As [`Disk::remove`], for many keys: they share the writes of the index.
    ///
    /// # Errors
    /// The first error; a key that cannot be removed does not stop the removal of the others.
    pub async fn remove_all(&self, removed: Vec<Key>) -> io::Result<()> {
        let keys = Arc::clone(&self.keys);
        run_blocking_io(move || keys.remove_all(&removed)).await
    }

    /// Quarantines an object that was found damaged; its readers keep it. A blob that was stored again since is not
    /// quarantined.
    ///
    /// # Errors
    /// When the blob cannot be moved.
    pub async fn quarantine(&self, object: &Object, reason: &'static str) -> io::Result<()> {
        let repair = Arc::clone(&self.repair);
        let digest = object.meta.digest;
        let content = object.content.clone();
        run_blocking_io(move || match content {
            ObjectContent::Disk(file) => repair.quarantine_file(&digest, reason, &file),
            ObjectContent::Memory(_) => repair.quarantine(&digest, reason, || Ok(true)),
        })
        .await?;
        Ok(())
    }

    /// The documents of this tier.
    pub fn documents(&self) -> DiskDocuments {
        DiskDocuments::new(Arc::clone(&self.documents))
    }

    /// The pins of this tier.
    pub fn pins(&self) -> DiskPins {
        DiskPins::new(Arc::clone(&self.pins))
    }

    /// The recorded sources of names.
    pub fn sources(&self) -> DiskSources {
        DiskSources::new(Arc::clone(&self.sources))
    }

    /// The administration of the stored archives.
    pub fn inventory(&self) -> DiskInventory<'_> {
        DiskInventory::new(self)
    }

    /// The counters of the cache on this directory.
    pub fn metrics(&self) -> &Arc<CacheMetrics> {
        &self.metrics
    }

    /// How full the tier is.
    pub fn usage(&self) -> TierUsage {
        TierUsage { bytes: self.budget.total(), limit: self.budget.limit(), objects: self.blobs.count() }
    }

    /// What is wrong with the disk, in words: writes that fail, and files that the start could not read.
    pub fn degraded(&self) -> Vec<String> {
        self.health.failure().into_iter().chain(self.skipped.describe()).collect()
    }

    /// True if the last write of each kind succeeded.
    pub fn is_writable(&self) -> bool {
        self.health.failure().is_none()
    }

    /// Spawns the flush and the scrub; they end when `token` is cancelled.
    pub fn spawn_background(&self, tracker: &TaskTracker, token: &CancellationToken) {
        let Self { layout, index, pins, space, flush, scrub, .. } = self;
        let maintenance = Maintenance::new(layout.clone(), index.clone(), pins.clone(), space.clone(), flush.clone());
        scrub::spawn(Arc::new(maintenance), scrub.clone(), self.scrub_period, tracker, token);
    }

    /// Flushes pending updates and marks the directory as closed cleanly; later writes fail.
    ///
    /// # Errors
    /// When the updates cannot be written; the next start then compares index and folders.
    pub async fn close(&self) -> io::Result<()> {
        let Self { flush, blobs, index, scrub, lock, .. } = self;
        let flush = Arc::clone(flush);
        let blobs = Arc::clone(blobs);
        let index = Arc::clone(index);
        let scrub = Arc::clone(scrub);
        let lock = Arc::clone(lock);
        run_blocking_io(move || {
            flush.run()?;
            blobs.purge_unlinked_rows()?;
            index.close(|txn| scrub.save(txn))?;
            // Nothing is written from here on: readers and other handles on the tier do not keep the directory locked.
            lock.release()
        })
        .await
    }
}
