//! The archive cache: immutable archives, pinned at first sight, filled once for all clients that wait.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    ArchiveRequest, Asker, CacheFailure, RemovedBy,
    fill::Fill,
    fill_context::FillContext,
    fill_state::{ArrivingBody, FillHandle, FillHead, FillProgress, FillState},
    loop_check::wait_unless_loop,
    single_flight::{JoinedFlight, SingleFlight},
    spool_reader::SpoolReader,
};
use crate::{
    entry::{Key, Meta},
    http::cache_status::{CacheStatus, Fwd},
    origin::FetchError,
    storage::Object,
};

/// Archives by key: looked up, filled, followed and removed.
pub struct ArchiveCache {
    context: Arc<FillContext>,
    fills: SingleFlight<FillState>,
}

/// An archive, complete or arriving.
pub enum ServedArchive {
    /// Complete: length and digest are known, any part can be read.
    Stored(Object),
    /// Still arriving.
    Arriving {
        /// Reads it as it arrives.
        spool_reader: SpoolReader,
        /// The announced length.
        len: Option<u64>,
    },
}

/// An archive and how it was found.
pub struct ArchiveAnswer {
    /// The archive.
    pub served: ServedArchive,
    /// Time since it was fetched; zero while it arrives.
    pub age: Duration,
    /// What happened.
    pub status: CacheStatus,
}

/// Whether an archive is stored, by the index and the pins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveAvailability {
    /// True when it is on disk.
    pub on_disk: bool,
    /// Its length in bytes, if it was ever seen.
    pub len: Option<u64>,
}

impl ArchiveCache {
    pub(super) fn new(context: FillContext) -> Self {
        Self { context: Arc::new(context), fills: SingleFlight::default() }
    }

    /// Answers from a tier, else joins or starts the fill and answers as soon as its first bytes may be read. The status of
    /// an archive that arrives never says `stored`: it may still be refused, or find no room.
    ///
    /// # Errors
    /// The fill's error, before any byte has been handed out.
    pub async fn get(&self, request: &ArchiveRequest) -> Result<ArchiveAnswer, CacheFailure> {
        let status = CacheStatus::forwarded(Fwd::UriMiss);
        if request.asker == Asker::Node {
            let fleet = self.context.fleet.as_ref();
            fleet.inspect(|fleet| fleet.note_served());
            if fleet.is_some_and(|fleet| fleet.is_reading(&request.key)) {
                return Err(CacheFailure::new(FetchError::Loop, CacheStatus::generated()));
            }
        }
        // A running fill saves its waiting clients a lookup on disk each.
        if self.fills.find(&request.key).is_none() {
            if let Some(object) = self.context.tiers.lookup(&request.key).await {
                return Ok(self.hit(object));
            }
            if let Some(error) = self.context.failures.recent(&request.key) {
                return Err(remembered(error));
            }
        }
        let JoinedFlight { flight, collapsed } = self.join_fill(request);
        let mut fill = FillHandle::new(flight);
        if let Some(object) = fill.completed() {
            // Complete and being admitted: this client waits for nothing.
            return Ok(self.hit(object));
        }
        let status = if collapsed { status.collapsed() } else { status };
        let head = match collapsed {
            true => wait_unless_loop(&*request.origin, fill.head()).await.and_then(|head| head),
            false => fill.head().await,
        };
        match head {
            // Admitted between the lookup and the start of the fill: no upstream was asked.
            Ok(FillHead::Complete(object)) if object.usage.is_some() => Ok(self.hit(object)),
            Ok(FillHead::Complete(object)) => {
                let status = status.status(200);
                let status = if object.is_passing_through() { status.without_room() } else { status };
                Ok(self.answer_stored(object, status))
            }
            Ok(FillHead::Streaming(ArrivingBody { spool, len, .. })) => {
                let spool_reader = SpoolReader::of_spool(request.key.clone(), fill, spool);
                Ok(answer_arriving(spool_reader, len, status.status(200)))
            }
            Err(error) => Err(CacheFailure::new(error, status)),
        }
    }

    /// Waits until the archive is complete, and returns its meta.
    ///
    /// # Errors
    /// The fill's error.
    pub async fn completed(&self, request: &ArchiveRequest) -> Result<Arc<Meta>, CacheFailure> {
        if let Some(object) = self.context.tiers.lookup(&request.key).await {
            return Ok(object.meta);
        }
        let status = CacheStatus::forwarded(Fwd::UriMiss);
        if let Some(error) = self.context.failures.recent(&request.key) {
            return Err(remembered(error));
        }
        match self.fill(request).finished().await {
            Ok(object) => Ok(object.meta),
            Err(error) => Err(CacheFailure::new(error, status)),
        }
    }

    /// What is known of an archive without opening it.
    pub async fn availability(&self, key: &Key) -> ArchiveAvailability {
        let pin = self.context.pins.get(key).await.ok().flatten();
        let Some(pin) = pin else { return ArchiveAvailability::default() };
        ArchiveAvailability { on_disk: self.context.tiers.is_indexed(key).await, len: Some(pin.len) }
    }

    /// True for a key that exists even if the release list lacks it: it is in memory, arriving or pinned.
    ///
    /// # Errors
    /// When the pin records cannot be read.
    pub async fn is_known(&self, key: &Key) -> Result<bool, CacheFailure> {
        if self.context.tiers.in_memory(key).is_some() || self.is_arriving(key) {
            return Ok(true);
        }
        let pin =
            self.context.pins.get(key).await.map_err(|error| CacheFailure::new(error, CacheStatus::generated()))?;
        Ok(pin.is_some())
    }

    /// True while it is remembered that the origin does not have an archive.
    pub fn is_absent(&self, key: &Key) -> bool {
        matches!(self.context.failures.recent(key), Some(FetchError::NotFound(_)))
    }

    /// Forgets that the origin did not have an archive, if it said so before `since`.
    pub fn forget_absence(&self, key: &Key, since: Timestamp) {
        self.context.failures.forget_absence(key, since);
    }

    fn is_arriving(&self, key: &Key) -> bool {
        let progress = self.fills.find(key).map(|flight| FillHandle::new(flight).progress());
        matches!(
            progress,
            Some(Ok(FillProgress::Streaming { .. } | FillProgress::Moved { .. } | FillProgress::Complete(_)))
        )
    }

    /// Removes what is stored under keys. Their pins stay.
    ///
    /// # Errors
    /// The first one, when a file cannot be removed; the other keys are removed all the same.
    pub async fn remove_all(&self, keys: &[Key]) -> io::Result<()> {
        let removed = self.context.tiers.remove_all(keys).await;
        for key in keys {
            self.context.failures.forget(key);
            self.context.without_room.forget(key);
        }
        removed
    }

    /// Removes the pins of keys, in the shared bucket too: the next fetch of each may have other content. After a
    /// removal on another mirror, the pins that the bucket has got since stay there.
    ///
    /// # Errors
    /// The first one, when a pin cannot be removed; none is removed here before all are in the bucket.
    pub async fn forget_pins(&self, keys: Vec<Key>, by: RemovedBy) -> io::Result<()> {
        let pins = &self.context.pins;
        let Some(bucket) = &self.context.bucket else { return pins.forget_all(keys).await };
        let mut own = Vec::new();
        for key in &keys {
            own.extend(pins.read(key).await?);
        }
        let until = match by {
            RemovedBy::Operator => None,
            RemovedBy::OtherMirror { at } => Some(at),
        };
        bucket.forget(&keys, until).await.map_err(io::Error::other)?;
        pins.forget_all(keys).await?;
        // Removes what was written to the bucket in between, while the pins were still here. A write from now on is undone
        // by its own task, which reads the pin again.
        bucket.forget_pins(&own).await.map_err(io::Error::other)
    }

    /// Number of running fills.
    pub fn running_fills(&self) -> usize {
        self.fills.len()
    }

    /// Aborts every download, now and later. A body that is complete is still admitted.
    pub fn abort_downloads(&self) {
        self.context.aborted.cancel();
    }

    /// Joins or starts the fill of a key.
    pub(super) fn fill(&self, request: &ArchiveRequest) -> FillHandle {
        FillHandle::new(self.join_fill(request).flight)
    }

    fn join_fill(&self, request: &ArchiveRequest) -> JoinedFlight<FillState> {
        self.fills.join(&request.key, |guard| {
            let fill = Fill { context: self.context.clone(), request: request.clone(), guard };
            self.context.tasks.spawn(fill.run());
        })
    }

    /// What fills work with.
    pub(super) fn context(&self) -> &FillContext {
        &self.context
    }

    fn hit(&self, object: Object) -> ArchiveAnswer {
        let status = CacheStatus::hit(None).detail(object.tier);
        self.answer_stored(object, status)
    }

    fn answer_stored(&self, object: Object, status: CacheStatus) -> ArchiveAnswer {
        let age = self.context.clock.since(object.meta.stored_at);
        ArchiveAnswer { served: ServedArchive::Stored(object), age, status }
    }
}

/// A failure of the negative cache: nothing was forwarded.
fn remembered(error: FetchError) -> CacheFailure {
    let status = match &error {
        // The upstream's answer is still known.
        FetchError::NotFound(_) | FetchError::Blocked => CacheStatus::hit(None).detail("remembered"),
        _ => CacheStatus::generated().detail("cool-down"),
    };
    CacheFailure::new(error, status)
}

fn answer_arriving(spool_reader: SpoolReader, len: Option<u64>, status: CacheStatus) -> ArchiveAnswer {
    ArchiveAnswer { served: ServedArchive::Arriving { spool_reader, len }, age: Duration::ZERO, status }
}

#[cfg(test)]
mod tests;
