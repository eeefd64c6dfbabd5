//! The cache of one mirror: looks up, decides, joins or starts a fill, answers or serves stale.
//!
//! Two kinds of objects are cached under two policies: documents are mutable and revalidated ([`documents`]), archives are
//! immutable and pinned at first sight ([`archives`]). The cache depends neither on forges nor on zips: see
//! [`crate::origin`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    entry::Key,
    http::cache_status::CacheStatus,
    observe::CacheCounters,
    origin::FetchError,
    storage::{Generations, disk::Disk, memory},
    value::memory_budget::MemoryBudget,
};

mod abandoned;
mod archive_request;
mod archive_tiers;
pub(crate) mod archives;
mod body_store;
mod bucket_contents;
mod bucket_import;
pub(crate) mod bucket_tier;
mod bucket_uploads;
mod document_tiers;
pub(crate) mod documents;
mod download;
mod download_source;
#[cfg(test)]
pub(crate) mod fakes;
mod fill;
mod fill_context;
mod fill_state;
pub(crate) mod fill_watcher;
pub(crate) mod fleet_tier;
mod import;
mod import_error;
mod loop_check;
mod memory_room;
mod negative_cache;
mod no_room;
mod pins;
pub mod policy;
mod progress;
mod push;
mod removals;
mod single_flight;
pub(crate) mod spool_reader;
mod spool_writer;
mod uploads;

use fill_context::FillContext;
use negative_cache::NegativeCache;
use policy::{ArchiveConfig, DocumentConfig};
use uploads::{PinnedKeys, Uploader};

pub use crate::shared::{
    BucketError, KeyFolder, KeyPage, ListedKey, OperationCounts, SetMode, SetSourceError, SharedSources, with_patience,
};
pub use crate::storage::{
    Generation, HitStats, Object, ObjectContent, TierStats, TierUsage, WeakObject,
    disk::{DiskUsage, Integrity, InventoryEntry, SourcePlace, SourceRecord, SourceSelection, UploadQueueUsage},
};
pub use archive_request::{ArchiveRequest, Asker, Pinning};
pub use archive_tiers::ArchiveTiers;
pub use archives::{ArchiveAnswer, ArchiveAvailability, ArchiveCache, ServedArchive};
pub use bucket_contents::{BucketReader, ClaimedZip};
pub use bucket_tier::{BucketState, BucketTier, LonePins, retry_after};
pub use bucket_uploads::NotUploaded;
pub use document_tiers::{DocumentCheck, DocumentImport, DocumentTiers};
pub use documents::DocumentCache;
pub use fleet_tier::{FleetFigures, FleetTier};
pub use import::ArchiveImporter;
pub use import_error::ImportError;
pub use pins::{PinConflict, PinRecords};
pub use push::{PushedArchive, PushedPin, Pusher};
pub use removals::{
    DocumentsRemoved, DueRemoval, DueRemovals, KeepChange, Removal, Removals, RemovedDocument, StoredRemovals,
};

/// Most entries of the negative cache: bounds the memory that a flood of unknown names takes.
const MAX_NEGATIVE_ENTRIES: u64 = 10_000;

/// The parts of the cache, built in one place over one disk tier.
pub struct Cache {
    archives: Arc<ArchiveCache>,
    archive_tiers: Arc<ArchiveTiers>,
    documents: Arc<DocumentCache>,
    document_tiers: Arc<DocumentTiers>,
    importer: ArchiveImporter,
    pins: PinRecords,
    disk: Arc<Disk>,
    bucket: Option<Arc<BucketTier>>,
    fleet: Option<Arc<FleetTier>>,
    removals: Option<Arc<Removals>>,
    generations: Generations,
    clock: Clock,
    tasks: BackgroundTasks,
    budget: MemoryBudget,
}

/// Why there is no answer, and what happened before the failure.
#[derive(Clone, Debug)]
pub struct CacheFailure {
    /// The cause.
    pub error: FetchError,
    /// What happened.
    pub status: CacheStatus,
}

impl CacheFailure {
    fn new(error: FetchError, status: CacheStatus) -> Self {
        Self { error, status }
    }
}

/// How full the tiers are, and what has happened since the start.
#[derive(Clone, Debug)]
pub struct CacheUsage {
    /// The memory tier's archives.
    pub memory: TierUsage,
    /// The disk tier.
    pub disk: TierUsage,
    /// The bytes on disk by kind.
    pub disk_areas: DiskUsage,
    /// What has happened since the start.
    pub counters: CacheCounters,
    /// The bucket that several mirrors share, if there is one.
    pub bucket: Option<BucketState>,
    /// What nodes of the fleet have read from each other, if there is one.
    pub fleet: Option<FleetFigures>,
}

/// Where an operator has removed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedBy {
    /// On this mirror: it is removed from the bucket, too.
    Operator,
    /// On another mirror. What was first seen after `at` stays, here and in the bucket.
    OtherMirror {
        /// When it was removed there.
        at: Timestamp,
    },
}

/// The tiers behind the disk that several mirrors share.
#[derive(Clone, Default)]
pub struct SharedTiers {
    /// The bucket that they share.
    pub bucket: Option<Arc<BucketTier>>,
    /// The other mirrors.
    pub fleet: Option<Arc<FleetTier>>,
    /// What operators remove on any of them.
    pub removals: Option<Arc<Removals>>,
}

/// What a cache is built from besides its tiers.
#[derive(Clone, Debug, Default)]
pub struct CacheConfig {
    /// How long documents are fresh and usable.
    pub documents: DocumentConfig,
    /// Limits of archives.
    pub archives: ArchiveConfig,
}

/// Where fills and revalidations run: on the runtime of the app, not on the connection thread whose request started them.
#[derive(Clone)]
struct BackgroundTasks {
    tracker: TaskTracker,
    runtime: Handle,
}

impl BackgroundTasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Runs a request to the bucket on the runtime of the app and returns its result. On the runtime of a connection thread
    /// it would stand still while that thread sends a zip. It goes on when the caller leaves.
    async fn ask_bucket<T, E>(&self, request: BoxFuture<'static, Result<T, E>>) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<BucketError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.spawn(async move {
            // The caller may have left.
            let _ = answer.send(request.await);
        });
        answered.await.unwrap_or_else(|_| Err(BucketError::TimedOut.into()))
    }
}

impl Cache {
    /// Builds the cache over an open disk tier. Fills and revalidations run on the runtime that this is called in and are
    /// tracked by `tasks`, so that shutdown can wait for them. Small archives in memory are counted in `budget`.
    pub fn build(
        memory: &memory::Config,
        budget: MemoryBudget,
        disk: Arc<Disk>,
        shared: SharedTiers,
        config: CacheConfig,
        clock: Clock,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let generations = Generations::default();
        let failures = NegativeCache::new(MAX_NEGATIVE_ENTRIES, config.documents.cooldown.0, clock.clone());
        let pins = PinRecords::new(disk.clone());
        let archive_tiers = Arc::new(ArchiveTiers::new(memory, &budget, disk.clone(), generations.clone()));
        let document_tiers = Arc::new(DocumentTiers::new(memory, disk.clone(), generations.clone(), clock.clone()));
        let tasks = BackgroundTasks { tracker: tasks, runtime: Handle::current() };
        let context = FillContext::new(
            archive_tiers.clone(),
            pins.clone(),
            failures.clone(),
            budget.clone(),
            config.archives,
            clock.clone(),
            tasks.clone(),
        );
        let SharedTiers { bucket, fleet, removals } = shared;
        let context = context.with_shared(bucket.clone(), fleet.clone());
        let importer = ArchiveImporter::new(&context);
        let documents =
            DocumentCache::new(document_tiers.clone(), failures, config.documents, clock.clone(), tasks.clone());
        let documents = documents.with_bucket(bucket.clone());
        Arc::new(Self {
            archives: Arc::new(ArchiveCache::new(context)),
            archive_tiers,
            documents: Arc::new(documents),
            document_tiers,
            importer,
            pins,
            disk,
            bucket,
            fleet,
            removals,
            generations,
            clock,
            tasks,
            budget,
        })
    }

    /// Archives: looked up, filled, followed, removed.
    pub fn archives(&self) -> &Arc<ArchiveCache> {
        &self.archives
    }

    /// Stored archives, for administration.
    pub fn archive_tiers(&self) -> &ArchiveTiers {
        &self.archive_tiers
    }

    /// Documents: looked up, revalidated, removed, imported.
    pub fn documents(&self) -> &Arc<DocumentCache> {
        &self.documents
    }

    /// Stored documents at any age.
    pub fn document_tiers(&self) -> &DocumentTiers {
        &self.document_tiers
    }

    /// Takes archives from other mirrors.
    pub fn importer(&self) -> &ArchiveImporter {
        &self.importer
    }

    /// The content that was first seen under each key.
    pub fn pins(&self) -> &PinRecords {
        &self.pins
    }

    /// The memory that requests under way share.
    pub fn memory(&self) -> &MemoryBudget {
        &self.budget
    }

    /// The disk tier, for administration.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The bucket behind the disk, if there is one.
    pub fn bucket(&self) -> Option<&Arc<BucketTier>> {
        self.bucket.as_ref()
    }

    /// The other nodes of the fleet, if there are any.
    pub fn fleet(&self) -> Option<&Arc<FleetTier>> {
        self.fleet.as_ref()
    }

    /// What operators remove on any mirror of the bucket, if there is one.
    pub fn removals(&self) -> Option<&Arc<Removals>> {
        self.removals.as_ref()
    }

    /// What waits for its upload to the bucket.
    pub fn uploads(&self) -> UploadQueueUsage {
        self.disk.uploads().usage()
    }

    /// What is wrong on this mirror's side: with the disk, and with the bucket behind it. One sentence each.
    pub fn faults(&self) -> Vec<String> {
        let of_bucket = self.bucket.iter().flat_map(|bucket| bucket.faults());
        self.disk.degraded().into_iter().chain(of_bucket).collect()
    }

    /// Uploads what is queued for the bucket until `token` is cancelled; does nothing without a bucket. `is_pinned` says of
    /// the key of an archive whether its content is pinned.
    pub fn spawn_uploads(&self, tracker: &TaskTracker, token: CancellationToken, is_pinned: PinnedKeys) {
        let Some(uploader) = self.uploader(is_pinned) else { return };
        tracker.spawn(async move { token.run_until_cancelled_owned(uploader.run()).await });
    }

    /// Uploads what is stored, on demand; `None` without a bucket. `is_pinned` as for [`Cache::spawn_uploads`].
    pub fn pusher(&self, is_pinned: PinnedKeys) -> Option<Pusher> {
        self.uploader(is_pinned).map(Pusher::new)
    }

    fn uploader(&self, is_pinned: PinnedKeys) -> Option<Uploader> {
        let bucket = self.bucket.clone()?;
        Some(Uploader { bucket, tiers: self.archive_tiers.clone(), pins: self.pins.clone(), is_pinned })
    }

    /// How long documents are fresh and usable.
    pub fn document_config(&self) -> &DocumentConfig {
        self.documents.config()
    }

    /// The clock that freshness is measured with.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The present generation of the package that a key belongs to: what is read after this call is unchanged while it
    /// is current.
    pub fn generation(&self, key: &Key) -> Generation {
        self.generations.snapshot(key)
    }

    /// Ends the present generation of the package that a key belongs to: cached responses that were made of its content are
    /// made again.
    pub fn end_generation(&self, key: &Key) {
        self.generations.bump(key);
    }

    /// Runs a task beside the requests, as fills and revalidations are: on the runtime of the app, waited for at shutdown.
    /// The task must end by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Boxed: Tokio's code for a task is compiled once for all of these.
        let task: BoxFuture<'static, ()> = Box::pin(task);
        self.tasks.spawn(task);
    }

    /// Runs a request to the bucket on the runtime of the app. It goes on when the caller leaves.
    ///
    /// # Errors
    /// Those of the request; `TimedOut` at shutdown.
    pub async fn ask_bucket<T, E>(&self, request: BoxFuture<'static, Result<T, E>>) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<BucketError> + Send + 'static,
    {
        self.tasks.ask_bucket(request).await
    }

    /// How full the tiers are, and what has happened since the start.
    pub fn usage(&self) -> CacheUsage {
        CacheUsage {
            memory: self.archive_tiers.memory_usage(),
            disk: self.disk.usage(),
            disk_areas: self.disk.inventory().usage(),
            counters: self.disk.metrics().read(),
            bucket: self.bucket.as_ref().map(|bucket| bucket.state()),
            fleet: self.fleet.as_ref().map(|fleet| fleet.figures()),
        }
    }
}
