//! Archives: immutable, pinned at first sight, filled once for everybody who waits.

use std::{sync::Arc, time::Duration};

use super::{
    Cache, Failure,
    fill::{Fill, FillState},
    passing::{Passing, Skip},
    tail::Tail,
};
use crate::{
    entry::Key,
    http::cache_status::{CacheStatus, Forward},
    origin::{FetchError, FetchedBody, Origin, Verify},
    tier::Object,
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
        tail: Tail,
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
        if let Some(object) = self.lookup(&ask.key).await {
            let status = CacheStatus::hit().detail(object.tier);
            return Ok(self.stored(object, status));
        }
        let status = CacheStatus::forwarded(Forward::UriMiss);
        if let Some(error) = self.failures.recent(&ask.key) {
            return Err(Failure::new(error, status.detail("cool-down")));
        }
        let (mut state, collapsed) = self.fills.join(&ask.key, FillState::Requested, |landing| {
            let fill = Fill { cache: self.clone(), ask: ask.clone(), landing };
            self.tasks.spawn(fill.run());
        });
        let status = if collapsed { status.collapsed() } else { status };
        let known = match state.wait_for(|state| !matches!(state, FillState::Requested)).await {
            Ok(known) => known.clone(),
            Err(_) => FillState::Failed(FetchError::Unreachable("the download was given up")),
        };
        let (tail, len) = match known {
            FillState::Complete(object) => return Ok(self.stored(object, status.fwd_status(200).stored(true))),
            FillState::Failed(error) => return Err(Failure::new(error, status)),
            FillState::Streaming(arriving) => {
                (Tail::spooled(self.clone(), ask.clone(), state, arriving.spool), arriving.len)
            }
            FillState::Requested | FillState::NoRoom => {
                let passing = Passing::open(self, ask, Skip::default()).await;
                let passing = passing.map_err(|error| Failure::new(error, status.clone()))?;
                let len = passing.len();
                let tail = Tail::passing(self.clone(), ask.clone(), state, passing);
                let status = status.fwd_status(200).detail("no-room");
                return Ok(ArchiveAnswer { served: Served::Arriving { tail, len }, age: Duration::ZERO, status });
            }
        };
        let status = status.fwd_status(200).stored(true);
        Ok(ArchiveAnswer { served: Served::Arriving { tail, len }, age: Duration::ZERO, status })
    }

    /// What is stored under a key, without asking anybody.
    pub async fn stored_archive(&self, key: &Key) -> Option<Object> {
        self.lookup(key).await
    }

    fn stored(&self, object: Object, status: CacheStatus) -> ArchiveAnswer {
        let age = self.clock.since(object.meta.stored_at);
        ArchiveAnswer { served: Served::Stored(object), age, status }
    }
}
