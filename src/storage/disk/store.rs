//! The disk tier's state in one struct, and what every part of it needs: space, lookups, pins, the flush.
//!
//! Everything here blocks; [`super::Disk`] calls it on the blocking pool. Locks are taken in this order: the
//! marks, eviction, a digest's stripe, the flush, the journal, the index. Whoever evicts only *tries* a stripe, so holding one while asking for
//! space is safe.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tracing::info;

use super::{
    Config, LEAST_LIMIT, OpenError, SpoolError,
    blob::BlobFile,
    budget::{Budget, Kind, Reservation, blocks},
    health::{DiskArea, Health},
    holder::Lock,
    index::{self, BLOBS, DOCUMENTS, Index, IndexReservation},
    layout::Layout,
    lookup_cache::{self, LookupCache},
    open_files::OpenFiles,
    pending_updates::PendingUpdates,
    pins::{Journal, PinEvent},
    quarantine::Quarantine,
    sidecar::Sidecar,
};
use crate::entry::{Digest, Key, Meta, Pin};

/// Memory for what is known of hot keys and hot pins, bytes each.
const FRONT: u64 = 6 << 20;
/// Locks over digests; two that share one only wait for each other.
const STRIPES: usize = 64;
/// `format` and `holder`.
const FIXED: u64 = 2 * 4096;

/// Everything the disk tier is made of.
pub(super) struct Store {
    pub(super) layout: Layout,
    pub(super) budget: Arc<Budget>,
    pub(super) index: Index,
    pub(super) handles: Arc<OpenFiles>,
    pub(super) quarantine: Quarantine,
    pub(super) recent: PendingUpdates,
    pub(super) health: Health,
    /// What is stored under a key.
    pub(super) front: LookupCache<Arc<Meta>>,
    /// Digests whose bytes were hashed since the start.
    pub(super) sound: Mutex<HashSet<Digest>>,
    /// Blobs that are never evicted, and what each counts.
    pub(super) kept: Mutex<HashMap<Digest, u64>>,
    /// Held shared while an admission takes over a key's mark of being kept, alone while a mark changes.
    pub(super) marking: RwLock<()>,
    /// Unlinked blobs whose rows are still in the index, and when they were unlinked.
    pub(super) gone: Mutex<HashMap<Digest, u64>>,
    /// Set when a failure may have left folders and index different: the next start compares them.
    pub(super) doubt: AtomicBool,
    /// Held while uses and renewals are written: two at once would count the same uses.
    flushing: Mutex<()>,
    /// Held while evicting.
    pub(super) evicting: Mutex<()>,
    /// Held while a document is named or removed.
    pub(super) documents: Mutex<()>,
    /// The part of the limit that documents may take, bytes.
    pub(super) documents_limit: u64,
    /// Number of stored blobs.
    pub(super) objects: AtomicU64,
    /// Where the scrub has got to.
    pub(super) scrubbed: Mutex<Digest>,
    pins: LookupCache<Option<Arc<Pin>>>,
    journal: Journal,
    room: IndexReservation,
    stripes: Vec<Mutex<()>>,
    lock: Lock,
    _fixed: Reservation,
}

impl Store {
    /// Takes the directory and makes everything in it usable.
    pub(super) fn open(config: &Config, dir: &Path) -> Result<Arc<Self>, OpenError> {
        let limit = config.limit.0;
        if limit < LEAST_LIMIT.0 {
            return Err(OpenError::Limit { limit, least: LEAST_LIMIT.0 });
        }
        let io = |what: &'static str| move |source| OpenError::Io { what, source };
        let layout = Layout::new(dir);
        layout.recognise()?;
        layout.create().map_err(io("make the cache directory"))?;
        let lock = Lock::take(&layout.holder())?;
        layout.prepare()?;
        let budget = Budget::new(limit);
        let fixed = budget.account_existing(FIXED);
        let index_len = layout.index().metadata().map_or(0, |stat| stat.len());
        let room: IndexReservation = Arc::new(Mutex::new(budget.account_existing(2 * blocks(index_len))));
        let (index, fresh) = Index::open(&layout, Arc::clone(&room)).map_err(io("open the index"))?;
        let journal = Journal::open(&layout.pins(), &budget, &index).map_err(io("open the pins journal"))?;
        let quarantine =
            Quarantine::open(layout.quarantine_dir(), &budget).map_err(io("read the quarantine folder"))?;
        let store = Self {
            index,
            handles: Arc::default(),
            quarantine,
            recent: PendingUpdates::default(),
            health: Health::default(),
            front: LookupCache::new(FRONT, |meta: &Arc<Meta>| lookup_cache::weight(&meta.verified)),
            sound: Mutex::default(),
            kept: Mutex::default(),
            marking: RwLock::default(),
            gone: Mutex::default(),
            doubt: AtomicBool::new(false),
            flushing: Mutex::default(),
            evicting: Mutex::default(),
            documents: Mutex::default(),
            documents_limit: config.documents.0.min(limit / 2),
            objects: AtomicU64::new(0),
            scrubbed: Mutex::new(Digest([0; 32])),
            pins: LookupCache::new(FRONT, |pin: &Option<Arc<Pin>>| {
                pin.as_ref().map_or(0, |pin| lookup_cache::weight(&pin.verified))
            }),
            journal,
            room,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            lock,
            _fixed: fixed,
            layout,
            budget,
        };
        store.resume(fresh).map_err(io("read the index"))?;
        Ok(Arc::new(store))
    }

    /// Takes up where the last run ended, or looks through the folders when it did not end well.
    fn resume(&self, fresh: bool) -> io::Result<()> {
        let (clean, scrubbed, last) = self.index.read(|txn| {
            let last = BLOBS.last_use(txn)?.max(DOCUMENTS.last_use(txn)?);
            Ok((index::state(txn, "clean")? == 1, index::state(txn, "scrubbed")?, last))
        })?;
        self.recent.resume(last);
        lock(&self.scrubbed).0[..8].copy_from_slice(&scrubbed.to_be_bytes());
        if !clean {
            if !fresh {
                info!("the last run did not end cleanly; the index is compared with the folders");
            }
            self.rescan()?;
        }
        *lock(&self.kept) = self.index.read(index::kept)?.into_iter().collect();
        let (blobs, documents) = self.index.read(|txn| Ok((BLOBS.totals(txn)?, DOCUMENTS.totals(txn)?)))?;
        self.budget.account_existing(blobs.0).commit(Kind::Blob);
        self.objects.store(blobs.1, Ordering::SeqCst);
        self.budget.account_existing(documents.0).commit(Kind::Document);
        // On a disk that others have filled, what was used least recently makes room for the start.
        while clean && let Err(error) = self.index.write(|txn| index::set_state(txn, "clean", 0)) {
            if error.kind() != io::ErrorKind::StorageFull || self.evict(1) == 0 {
                return Err(error);
            }
        }
        self.settle();
        // The limit may have been lowered since.
        self.trim_documents();
        let over = self.budget.total().saturating_sub(self.budget.limit());
        if over > 0 {
            self.evict(over);
        }
        Ok(())
    }

    /// Takes the lock of a digest: one thread at a time names, opens or removes its files.
    pub(super) fn stripe(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        lock(&self.stripes[usize::from(digest.0[1]) % STRIPES])
    }

    /// As [`Store::stripe`], without waiting.
    pub(super) fn try_stripe(&self, digest: &Digest) -> Option<MutexGuard<'_, ()>> {
        match self.stripes[usize::from(digest.0[1]) % STRIPES].try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Makes a charge at least `bytes` large, evicting what was used least recently.
    pub(super) fn reserve(&self, charge: &mut Reservation, bytes: u64) -> Result<(), SpoolError> {
        // Others may take what was freed; every round frees something or is the last.
        while !charge.grow(bytes) {
            let missing = (bytes - charge.bytes()).saturating_sub(self.budget.free());
            let hopeless = missing > self.evictable();
            if hopeless || (self.evict(missing) == 0 && missing > 0) {
                return if charge.grow(bytes) { Ok(()) } else { Err(SpoolError::NoSpace) };
            }
        }
        Ok(())
    }

    /// Bytes that evicting everything would free: what is kept stays.
    fn evictable(&self) -> u64 {
        let kept: u64 = lock(&self.kept).values().sum();
        self.budget.standing(Kind::Blob).saturating_sub(kept) + self.quarantine.evictable()
    }

    /// Takes `bytes` from the budget, evicting if need be.
    pub(super) fn take(&self, bytes: u64) -> Result<Reservation, SpoolError> {
        let mut charge = self.budget.account_existing(0);
        self.reserve(&mut charge, bytes).map(|()| charge)
    }

    /// Keeps the index's room at twice its length, as far as there is space. Called after writes, but never while
    /// evicting.
    pub(super) fn settle(&self) {
        let want = 2 * blocks(self.index.len());
        let mut room = lock(&self.room);
        let missing = want.saturating_sub(room.bytes());
        if !room.grow(want) {
            drop(room);
            // Not under the room's lock: evicting writes to the index, which may ask for room.
            if let Ok(extra) = self.take(missing) {
                drop(extra);
                lock(&self.room).grow(want);
            }
            return;
        }
        room.shrink(want);
    }

    /// What is reserved for the index, bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> u64 {
        lock(&self.room).bytes()
    }

    /// What is stored under a key, from the index and the sidecar.
    pub(super) fn load(&self, key: &Key) -> io::Result<Option<Arc<Meta>>> {
        let before = self.front.snapshot(key);
        let Some(digest) = self.index.read(|txn| index::find(txn, key))? else { return Ok(None) };
        if self.is_gone(&digest) {
            return Ok(None);
        }
        match Sidecar::read(&self.layout.sidecar(&digest)) {
            Ok(sidecar) => {
                let meta = sidecar.get(key).filter(|meta| meta.digest == digest);
                let meta = meta.map(|meta| Arc::new(meta.clone()));
                if let Some(meta) = &meta {
                    self.front.keep(key, Arc::clone(meta), &before);
                }
                Ok(meta)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    let path = self.layout.sidecar(&digest);
                    self.set_aside(&digest, "its sidecar is missing or damaged", || Sidecar::read(&path).is_err())?;
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// Opens a blob for reading; `None` when its file is not there.
    pub(super) fn open_blob(&self, digest: &Digest) -> io::Result<Option<Arc<BlobFile>>> {
        let _stripe = self.stripe(digest);
        if let Some(file) = self.handles.get(digest) {
            return Ok(Some(file));
        }
        match File::open(self.layout.blob(digest)) {
            Ok(file) => {
                let file = self.handles.open(*digest, file, self.recent.of(digest));
                if lock(&self.sound).contains(digest) {
                    file.set_sound();
                }
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pin of a key, if memory knows whether there is one.
    pub(super) fn hot_pin(&self, key: &Key) -> Option<Option<Arc<Pin>>> {
        self.pins.get(key)
    }

    /// The pin of a key.
    pub(super) fn pin(&self, key: &Key) -> io::Result<Option<Arc<Pin>>> {
        let before = self.pins.snapshot(key);
        let place = self.index.read(|txn| index::pin(txn, key))?;
        let pin = place.map(|place| self.journal.at(place, key)).transpose()?.map(Arc::new);
        self.pins.keep(key, pin.clone(), &before);
        Ok(pin)
    }

    /// Every pin whose key begins with `prefix`, in order of keys.
    pub(super) fn pins(&self, prefix: &str) -> io::Result<Vec<Pin>> {
        let places = self.index.read(|txn| index::pins(txn, prefix))?;
        places.into_iter().map(|place| self.journal.read(place)).collect()
    }

    /// Every key that is kept while nothing is stored under it, in order.
    pub(super) fn waiting(&self) -> io::Result<Vec<Key>> {
        self.index.read(index::waiting)
    }

    /// Every pinned key, in order.
    pub(super) fn pinned(&self) -> io::Result<Vec<Key>> {
        self.index.read(index::pinned)
    }

    /// Appends to the journal what `judge` says of a key's pin; durable when it returns.
    pub(super) fn settle_pin<E>(
        &self,
        key: &Key,
        judge: impl FnOnce(Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, E>,
    ) -> io::Result<Result<(), E>> {
        let reserve = |charge: &mut Reservation, bytes| Ok(self.reserve(charge, bytes)?);
        let settled = match self.journal.settle(&self.index, key, judge, reserve) {
            // Nothing was written: that says nothing about the disk.
            Ok(Ok(false)) => return Ok(Ok(())),
            Ok(Err(refused)) => return Ok(Err(refused)),
            written => written.map(drop),
        };
        self.pins.invalidate([key]);
        self.settle();
        self.health.note(&[DiskArea::Pins, DiskArea::Index], settled).map(Ok)
    }

    /// Writes what waits in memory to the index.
    pub(super) fn flush(&self) -> io::Result<()> {
        let _flushing = lock(&self.flushing);
        let waiting = self.recent.waiting();
        if waiting.is_empty() {
            return Ok(());
        }
        let renewals = waiting.renewals.iter().map(|(id, meta)| Ok((*id, serde_json::to_vec(&**meta)?)));
        let renewals = renewals.collect::<io::Result<Vec<_>>>()?;
        let written = self.index.write(|txn| {
            BLOBS.touch(txn, &waiting.blobs)?;
            DOCUMENTS.touch(txn, &waiting.documents)?;
            for (id, meta) in &renewals {
                // A renewal of a document that was removed meanwhile would stay for ever.
                if DOCUMENTS.peek(txn, id)?.is_some() {
                    index::set_renewal(txn, id, Some(meta))?;
                }
            }
            Ok(())
        });
        if written.is_ok() {
            self.recent.written(&waiting);
        }
        self.health.note(&[DiskArea::Index], written)
    }

    /// Flushes, marks the directory as closed cleanly and closes the index.
    pub(super) fn close(&self) -> io::Result<()> {
        self.flush()?;
        let scrubbed = lock(&self.scrubbed).0;
        let scrubbed = scrubbed.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        let sure = !self.doubt.load(Ordering::SeqCst);
        self.forget()?;
        self.index.close(|txn| {
            index::set_state(txn, "scrubbed", scrubbed)?;
            index::set_state(txn, "clean", u64::from(sure))
        })?;
        // Nothing is written from here on. Who still reads, or has not let go of the tier yet, must not keep the next
        // holder out.
        self.lock.release()
    }

    /// The lock on the directory.
    pub(super) fn holder(&self) -> &Lock {
        &self.lock
    }
}

/// Locks; a panic elsewhere does not make the data unusable, since every change is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
