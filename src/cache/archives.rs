//! Archives: immutable, pinned at first sight, filled once for everybody who waits.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    Cache, Failure,
    fill::{Arriving, Fill, FillState},
    pass_through::{PassThrough, ResumePoint},
    spool_reader::SpoolReader,
};
use crate::{
    entry::{Key, Meta},
    http::cache_status::{CacheStatus, Fwd},
    origin::{FetchError, FetchedBody, Origin, Verify},
    storage::Object,
};

/// One archive: its key, where it comes from, and what makes it good. Cheap to clone.
#[derive(Clone)]
pub struct ArchiveAsk {
    /// The key.
    pub key: Key,
    /// Fetches it.
    pub origin: Arc<dyn Origin<Fetched = FetchedBody>>,
    /// Judges it.
    pub verify: Arc<dyn Verify>,
}

/// An archive, complete or on its way.
pub enum Served {
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

/// An archive and what happened on the way to it.
pub struct ArchiveAnswer {
    /// The archive.
    pub served: Served,
    /// How long ago it was fetched; zero while it arrives.
    pub age: Duration,
    /// What happened.
    pub status: CacheStatus,
}

impl Cache {
    /// Answers from a tier, else joins or starts the fill and answers as soon as its first bytes are known.
    ///
    /// # Errors
    /// The fill's error, before any byte has been handed out.
    pub async fn archive(self: &Arc<Self>, ask: &ArchiveAsk) -> Result<ArchiveAnswer, Failure> {
        let status = CacheStatus::forwarded(Fwd::UriMiss);
        // What is on its way is in no tier: fifty who wait for it need not each look on the disk.
        if self.fills.state(&ask.key).is_none() {
            if let Some(object) = self.lookup(&ask.key).await {
                let status = CacheStatus::hit(None).detail(object.tier);
                return Ok(self.stored(object, status));
            }
            if let Some(error) = self.failures.recent(&ask.key) {
                return Err(Failure::new(error, status.detail("cool-down")));
            }
        }
        let (mut state, collapsed) = self.fill(ask);
        if let FillState::Complete(object) = &*state.borrow() {
            // Complete and on its way into the tiers: whoever comes now waits for nothing.
            return Ok(self.stored(object.clone(), CacheStatus::hit(None).detail(object.tier)));
        }
        let status = if collapsed { status.collapsed() } else { status };
        let known = match state.wait_for(|state| !matches!(state, FillState::Requested)).await {
            Ok(known) => known.clone(),
            Err(_) => FillState::Failed(FetchError::Unreachable("the download was given up")),
        };
        let (spool_reader, len) = match known {
            // It came into a tier between the look and the start of the fill: nobody was asked.
            FillState::Complete(object) if object.uses.is_some() => {
                let status = CacheStatus::hit(None).detail(object.tier);
                return Ok(self.stored(object, status));
            }
            FillState::Complete(object) => return Ok(self.stored(object, status.status(200).stored())),
            FillState::Failed(error) => return Err(Failure::new(error, status)),
            FillState::Streaming(arriving) => {
                let Arriving { spool, len, .. } = arriving;
                (SpoolReader::spooled(self.clone(), ask.clone(), state, spool, len), len)
            }
            FillState::Requested | FillState::NoRoom => {
                let passing = PassThrough::open(self, ask, ResumePoint::default()).await;
                let passing = passing.map_err(|error| Failure::new(error, status.clone()))?;
                let len = passing.len();
                let spool_reader = SpoolReader::passing(self.clone(), ask.clone(), state, passing);
                let status = status.status(200).detail("no-room");
                return Ok(ArchiveAnswer {
                    served: Served::Arriving { spool_reader, len },
                    age: Duration::ZERO,
                    status,
                });
            }
        };
        let status = status.status(200).stored();
        Ok(ArchiveAnswer { served: Served::Arriving { spool_reader, len }, age: Duration::ZERO, status })
    }

    /// Waits until the archive is complete and tells what is stored about it.
    ///
    /// # Errors
    /// The fill's error. A body that only passes through for want of room is never complete here.
    pub async fn completed(self: &Arc<Self>, ask: &ArchiveAsk) -> Result<Arc<Meta>, Failure> {
        if let Some(object) = self.lookup(&ask.key).await {
            return Ok(object.meta);
        }
        let status = CacheStatus::forwarded(Fwd::UriMiss);
        if let Some(error) = self.failures.recent(&ask.key) {
            return Err(Failure::new(error, status.detail("cool-down")));
        }
        let (mut state, _) = self.fill(ask);
        let failed = |reason| Failure::new(FetchError::Unreachable(reason), status.clone());
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                FillState::Complete(object) => return Ok(object.meta),
                FillState::Failed(error) => return Err(Failure::new(error, status)),
                FillState::NoRoom => return Err(failed("there is no room to look into the zip")),
                FillState::Requested | FillState::Streaming(_) => {}
            }
            if state.changed().await.is_err() {
                return Err(failed("the download was given up"));
            }
        }
    }

    /// Joins or starts the fill of a key; the flag is true for who joined.
    pub(super) fn fill(self: &Arc<Self>, ask: &ArchiveAsk) -> (watch::Receiver<FillState>, bool) {
        self.fills.join(&ask.key, FillState::Requested, |guard| {
            let fill = Fill { cache: self.clone(), ask: ask.clone(), guard };
            self.tasks.spawn_on(fill.run(), &self.runtime);
        })
    }

    fn stored(&self, object: Object, status: CacheStatus) -> ArchiveAnswer {
        let age = self.clock.since(object.meta.stored_at);
        ArchiveAnswer { served: Served::Stored(object), age, status }
    }
}
