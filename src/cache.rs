//! Looks up, decides, joins or starts a fill, answers or serves stale.
//!
//! Two kinds of things are kept by two policies: documents are mutable and revalidated ([`documents`]), archives are
//! immutable and pinned at first sight ([`archives`]). The cache knows neither forges nor zips: see [`crate::origin`].

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    entry::{Digest, Key, Meta, Pin},
    http::cache_status::CacheStatus,
    origin::FetchError,
    storage::{
        Generations, Tier as _,
        disk::{Disk, Spool, SpoolError},
        memory::{self, Memory},
    },
};

mod admin;
pub mod archives;
pub mod documents;
mod download;
#[cfg(test)]
mod fakes;
mod fill;
pub mod fill_watcher;
mod import;
mod negative_cache;
mod pass_through;
mod pinning;
pub mod policy;
mod progress;
mod single_flight;
pub mod spool_reader;
mod spool_writer;

use fill::FillState;
use negative_cache::NegativeCache;
use policy::{Archives, Documents};
use single_flight::SingleFlight;

pub use crate::storage::{
    Content, Generation, HitStats, Object, TierStats, Usage, WeakObject,
    disk::{DiskUsage, InventoryEntry},
};
pub use admin::Checked;
pub use archives::{ArchiveAnswer, ArchiveAsk, Served};
pub use import::ImportError;

/// Room for remembered failures: a flood of wrong names must not cost memory.
const FAILURES: u64 = 10_000;

/// The cache of one mirror.
pub struct Cache {
    memory: Memory,
    documents: memory::Documents,
    /// End with every change of what is stored.
    generations: Generations,
    /// End when a key leads to another zip or to none, and with nothing else: beside all other changes, what was read
    /// from disk may be copied into memory.
    removals: Generations,
    disk: Arc<Disk>,
    clock: Clock,
    policies: Documents,
    archives: Archives,
    failures: NegativeCache,
    fills: SingleFlight<FillState>,
    fill_permits: Semaphore,
    windows: Arc<Semaphore>,
    revalidations: SingleFlight<documents::Outcome>,
    tasks: TaskTracker,
    /// Where they run: whoever asks may be on a thread that is there for connections. A download that only passes
    /// through belongs to one connection and runs with it.
    runtime: Handle,
    /// Cancelled when nobody is left to wait for a download.
    given_up: CancellationToken,
}

/// Why there is no answer, and what happened on the way.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The cause.
    pub error: FetchError,
    /// What happened.
    pub status: CacheStatus,
}

impl Failure {
    fn new(error: FetchError, status: CacheStatus) -> Self {
        Self { error, status }
    }
}

impl Cache {
    /// Builds the cache over an open disk tier. Its fills run on `tasks`, which whoever drains the app waits for, and on
    /// the runtime that this is called in.
    pub fn build(
        memory: &memory::Config,
        disk: Arc<Disk>,
        policies: Documents,
        archives: Archives,
        clock: Clock,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(memory),
            documents: memory::Documents::new(memory),
            generations: Generations::default(),
            removals: Generations::default(),
            disk,
            failures: NegativeCache::with_room_for(FAILURES, clock.clone()),
            clock,
            policies,
            fill_permits: Semaphore::new(archives.concurrency),
            windows: Arc::new(Semaphore::new(pass_through::WINDOWS)),
            archives,
            fills: SingleFlight::default(),
            revalidations: SingleFlight::default(),
            tasks,
            runtime: Handle::current(),
            given_up: CancellationToken::new(),
        })
    }

    /// Gives up every download that still runs, now and later; what is complete is still admitted.
    pub fn give_up_downloads(&self) {
        self.given_up.cancel();
    }

    /// How long documents are fresh and usable.
    pub fn policies(&self) -> &Documents {
        &self.policies
    }

    /// The clock that freshness is counted by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The present state of the documents of the package that a key belongs to. Whoever takes it before reading them
    /// can tell later, at no cost, that they are still what they were.
    pub fn generation(&self, key: &Key) -> Generation {
        self.generations.snapshot(key)
    }

    /// The disk tier, for administration.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Number of downloads that are running.
    pub fn fills_running(&self) -> usize {
        self.fills.len()
    }

    /// What is pinned under a key.
    ///
    /// # Errors
    /// `Refused` when the pins cannot be read: without them nobody can vouch for the bytes.
    pub async fn pin(&self, key: &Key) -> Result<Option<Arc<Pin>>, FetchError> {
        self.disk.pin(key).await.map_err(|error| {
            tracing::error!(%key, %error, "the record of pins cannot be read");
            FetchError::Refused("the record of what was first seen cannot be read".into())
        })
    }

    /// Every key that is pinned, in order.
    ///
    /// # Errors
    /// As [`Cache::pin`].
    pub async fn pinned(&self) -> Result<Vec<Key>, FetchError> {
        self.disk.pinned().await.map_err(|error| {
            tracing::error!(%error, "the record of pins cannot be read");
            FetchError::Refused("the record of what was first seen cannot be read".into())
        })
    }

    /// Sets a stored object aside that a reader has found to be damaged: whoever asks next fetches it anew.
    pub async fn quarantine(&self, object: &Object) {
        let digest = &object.meta.digest;
        if let Err(error) = self.disk.set_aside(object, "a reader found it damaged").await {
            tracing::warn!(%digest, %error, "a damaged blob cannot be set aside");
        }
        self.forget_blob(digest);
    }

    /// Takes a blob that has left the disk out of memory, whoever copies it there meanwhile.
    fn forget_blob(&self, digest: &Digest) {
        self.removals.bump_all();
        self.memory.forget(digest);
        self.generations.bump_all();
    }

    /// True when a key needs nobody's list to be believed: it is stored, pinned or arriving.
    ///
    /// # Errors
    /// As [`Cache::pin`].
    pub async fn is_known(&self, key: &Key) -> Result<bool, Failure> {
        let arrives = |state: &FillState| matches!(state, FillState::Streaming(_) | FillState::Complete(_));
        if self.memory.find(key).is_some() || self.fills.state(key).is_some_and(|state| arrives(&state.borrow())) {
            return Ok(true);
        }
        let pin = self.pin(key).await.map_err(|error| Failure::new(error, CacheStatus::hit(None)))?;
        Ok(pin.is_some())
    }

    /// Looks into the tiers, fastest first, and copies what is small into memory. Trouble in a tier counts as absent.
    async fn lookup(&self, key: &Key) -> Option<Object> {
        if let Some(object) = self.memory.find(key) {
            object.touch();
            return Some(object);
        }
        let before = self.removals.snapshot(key);
        match self.disk.get(key).await {
            Ok(Some(object)) => {
                object.touch();
                self.promote(key, &object, &before).await;
                Some(object)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%key, %error, "the disk tier cannot be read");
                None
            }
        }
    }

    /// Copies what is small into memory, unless something of the package has been removed since `before`: it may have
    /// been this.
    async fn promote(&self, key: &Key, object: &Object, before: &Generation) {
        match self.memory.load(object).await {
            Ok(Some(object)) => before.run_if_current(|| self.memory.insert(key, object)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%key, %error, "cannot copy into memory"),
        }
    }

    /// A spool with room for `len` bytes (or a first step), or `None` with a log event.
    async fn spool(&self, len: Option<u64>) -> Option<Spool> {
        let disk = self.disk.clone();
        let made = tokio::task::spawn_blocking(move || disk.spool(len)).await;
        match made {
            Ok(Ok(spool)) => Some(spool),
            Ok(Err(SpoolError::NoSpace)) => {
                tracing::warn!(len, "no room on disk; passing through");
                None
            }
            Ok(Err(SpoolError::Io(error))) => {
                tracing::warn!(%error, "cannot open a spool; passing through");
                None
            }
            Err(_) => None,
        }
    }

    /// Compares what was fetched with its pin, or pins it. Durable when it returns, so that no client ever holds a
    /// whole body that a crash could make the mirror forget having vouched for.
    ///
    /// The pin that counts is the one that stands now: another may have come since the download began, when `pin` was
    /// read.
    async fn settle_pin(&self, key: &Key, pin: Option<Arc<Pin>>, meta: &Meta) -> Result<(), FetchError> {
        let new = Pin {
            key: key.clone(),
            digest: meta.digest,
            len: meta.len,
            first_seen: meta.stored_at,
            verified: meta.verified.clone(),
        };
        let first = new.clone();
        let settled =
            self.disk.settle_pin(key, move |old| pinning::compare_with_pin(first, old)).await.unwrap_or_else(|error| {
                tracing::error!(%key, %error, "cannot record what was first seen");
                pinning::compare_with_pin(new, pin.map(Arc::unwrap_or_clone)).map(drop)
            });
        settled.map_err(|old| {
            tracing::error!(
                %key, pinned = %old.verified.manifest, now = %meta.verified.manifest,
                first_seen = %old.first_seen, "pin-mismatch: the upstream's content has changed"
            );
            FetchError::PinMismatch
        })
    }

    /// Remembers a failure for as long as the policy says: a 404 as a short truth, anything else as a cool-down.
    fn remember_failure(&self, key: &Key, error: &FetchError) {
        let period = match error {
            // Nobody was asked: what is imported next must be found at once.
            FetchError::Offline { .. } => return,
            FetchError::NotFound(_) => self.policies.negative.0,
            FetchError::Throttled { retry_after } => self.policies.cooldown.0.min(*retry_after),
            _ => self.policies.cooldown.0,
        };
        self.failures.remember(key, error, period);
    }
}
