//! Start of the disk tier: locks the directory, opens its files and recovers what a kill has left.

use std::{io, path::Path, sync::Arc};

use tracing::info;

use super::{
    Config, Disk, MIN_DISK_LIMIT, OpenError,
    admission::{Admission, AdmissionParts},
    blob_keys::{BlobKeys, BlobKeysParts},
    blob_metas::{BlobMetas, UnlinkedBlobs},
    blobs::Blobs,
    budget::{Budget, allocated_bytes},
    documents::{DocumentStore, DocumentStoreParts},
    eviction::Eviction,
    health::DiskHealth,
    holder::DirectoryLock,
    index::{self, BLOBS, DOCUMENTS, Index, IndexOrigin, IndexReservation, OpenedIndex},
    journal::{Journal, OpenedJournal},
    layout::Layout,
    lookup::Lookup,
    pending_updates::PendingUpdates,
    pins::PinStore,
    quarantine::Quarantine,
    recovery::Recovery,
    repair::Repair,
    scrub::Scrub,
    skipped::SkippedFiles,
    sources::{SourceFile, SourceStore},
    space::Space,
    upload_queue::UploadQueue,
    usage_flush::UsageFlush,
};
use crate::observe::CacheMetrics;

/// The files `format` and `holder`.
const FIXED_FILES_BYTES: u64 = 2 * 4096;

/// Opens a cache directory. Blocks.
pub(super) fn open(config: &Config, dir: &Path) -> Result<Disk, OpenError> {
    let limit = config.limit.0;
    if limit < MIN_DISK_LIMIT.0 {
        return Err(OpenError::Limit { limit, minimum: MIN_DISK_LIMIT.0 });
    }
    let io = |what: &'static str| move |source| OpenError::Io { what, source };
    let layout = Arc::new(Layout::new(dir));
    layout.check_is_cache_or_empty()?;
    layout.create().map_err(io("make the cache directory"))?;
    let lock = Arc::new(DirectoryLock::acquire(&layout.holder())?);
    let budget = Budget::new(limit);
    let skipped = Arc::new(SkippedFiles::new(budget.clone()));
    layout.prepare(&skipped)?;
    let index_len = layout.index().metadata().map_or(0, |stat| stat.len());
    let reservation = IndexReservation::new(budget.account_existing(2 * allocated_bytes(index_len)));
    let OpenedIndex { index, origin } =
        Index::open(&layout, reservation, Arc::clone(&lock)).map_err(io("open the index"))?;
    let index = Arc::new(index);
    let journal =
        OpenedJournal::open(&layout.pins(), &budget, &index, &skipped).map_err(io("open the pins journal"))?;
    let sources = SourceFile::open(&layout.sources(), &budget, &skipped).map_err(io("open the recorded sources"))?;
    let quarantine = Arc::new(Quarantine::open(layout.quarantine_dir(), &budget, &skipped));
    let found = FoundFiles { journal, sources, quarantine, skipped };
    let disk = compose(config, layout, budget, index, found, lock);
    resume(&disk, origin).map_err(io("read the index"))?;
    Ok(disk)
}

/// What the directory holds beside the index, blobs and documents.
struct FoundFiles {
    journal: OpenedJournal,
    sources: SourceFile,
    quarantine: Arc<Quarantine>,
    skipped: Arc<SkippedFiles>,
}

/// Connects the parts, each with those it is built on.
fn compose(
    config: &Config,
    layout: Arc<Layout>,
    budget: Arc<Budget>,
    index: Arc<Index>,
    found: FoundFiles,
    lock: Arc<DirectoryLock>,
) -> Disk {
    let FoundFiles { journal, sources, quarantine, skipped } = found;
    let documents_limit = config.documents.0.min(budget.limit() / 2);
    let health = Arc::new(DiskHealth::default());
    let updates = Arc::new(PendingUpdates::default());
    let unlinked = Arc::new(UnlinkedBlobs::default());
    let metas = Arc::new(BlobMetas::new(layout.clone(), index.clone(), unlinked.clone()));
    let uploads = Arc::new(UploadQueue::new(index.clone()));
    let blobs = Arc::new(Blobs::new(
        layout.clone(),
        index.clone(),
        budget.clone(),
        updates.clone(),
        unlinked,
        metas.clone(),
        uploads.clone(),
    ));
    let flush = Arc::new(UsageFlush::new(index.clone(), updates.clone(), health.clone()));
    let metrics = Arc::<CacheMetrics>::default();
    let eviction = Eviction::new(blobs.clone(), quarantine.clone(), flush.clone(), metrics.clone());
    let eviction = Arc::new(eviction);
    let unannounced_share = budget.limit() / 100 * u64::from(config.unannounced_percent);
    let space = Arc::new(Space::new(budget.clone(), eviction, index.clone(), unannounced_share));
    let keys = Arc::new(BlobKeys::new(BlobKeysParts {
        layout: layout.clone(),
        index: index.clone(),
        budget: budget.clone(),
        updates: updates.clone(),
        blobs: blobs.clone(),
        metas: metas.clone(),
        space: space.clone(),
        health: health.clone(),
    }));
    let admission = Arc::new(Admission::new(AdmissionParts {
        layout: layout.clone(),
        index: index.clone(),
        budget: budget.clone(),
        updates: updates.clone(),
        blobs: blobs.clone(),
        keys: keys.clone(),
        metas: metas.clone(),
        space: space.clone(),
        health: health.clone(),
        skipped: skipped.clone(),
        uploads: uploads.clone(),
    }));
    let repair = Arc::new(Repair::new(
        layout.clone(),
        budget.clone(),
        blobs.clone(),
        keys.clone(),
        space.clone(),
        quarantine.clone(),
    ));
    let documents = DocumentStoreParts {
        layout: layout.clone(),
        index: index.clone(),
        budget: budget.clone(),
        updates: updates.clone(),
        flush: flush.clone(),
        quarantine: quarantine.clone(),
        space: space.clone(),
        health: health.clone(),
    };
    Disk {
        scrub_period: config.scrub,
        adopted: config.adopted(),
        _fixed_files: budget.account_existing(FIXED_FILES_BYTES),
        lookup: Arc::new(Lookup::new(metas.clone(), blobs.clone(), repair.clone())),
        documents: Arc::new(DocumentStore::new(documents, documents_limit)),
        pins: Arc::new(PinStore::new(
            Journal::new(journal, index.clone(), space.clone()),
            space.clone(),
            health.clone(),
        )),
        sources: Arc::new(SourceStore::new(sources, space.clone(), health.clone())),
        scrub: Arc::new(Scrub::new(index.clone(), blobs.clone(), repair.clone())),
        layout,
        budget,
        health,
        skipped,
        updates,
        index,
        metas,
        blobs,
        quarantine,
        flush,
        space,
        keys,
        repair,
        admission,
        uploads,
        lock,
        metrics,
    }
}

/// Continues where the last run ended; compares index and folders if it did not end cleanly. Then makes the tier fit its
/// limit, which may have been lowered.
fn resume(disk: &Disk, origin: IndexOrigin) -> io::Result<()> {
    let clean = disk.index.read(index::is_clean)?;
    let last_use = disk.index.read(|txn| Ok(BLOBS.last_use(txn)?.max(DOCUMENTS.last_use(txn)?)))?;
    disk.updates.resume_clock(last_use);
    disk.scrub.resume()?;
    if !clean {
        if origin == IndexOrigin::Existing {
            info!("the last run did not end cleanly; the index is compared with the folders");
        }
        Recovery::new(&disk.layout, &disk.index, &disk.updates, &disk.skipped, disk.adopted).run()?;
    }
    disk.blobs.load()?;
    disk.uploads.load()?;
    disk.documents.load()?;
    // On a disk that other programs have filled, the least recently used blobs make space for this write.
    while clean && let Err(error) = disk.index.mark_open() {
        if error.kind() != io::ErrorKind::StorageFull || disk.space.evict(1) == 0 {
            return Err(error);
        }
    }
    disk.space.resize_index_reservation();
    disk.documents.trim();
    disk.space.evict_excess();
    Ok(())
}
