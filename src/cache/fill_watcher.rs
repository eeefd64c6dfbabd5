//! Following a fill to its end without reading its bytes, for whoever wants a zip stored and not sent.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::timeout};

use super::{ArchiveAsk, Cache, Content, Failure, Object, fill::FillState};
use crate::{
    entry::{Key, Meta},
    http::cache_status::{CacheStatus, Fwd},
    origin::FetchError,
};

/// Shortest time between two reports of progress.
const PAUSE: Duration = Duration::from_millis(100);

/// A fill that is followed. Dropping it leaves the fill alone.
pub struct FillWatcher {
    cache: Arc<Cache>,
    ask: ArchiveAsk,
    state: Option<watch::Receiver<FillState>>,
    reported: Option<u64>,
}

/// How far it is.
#[derive(Clone, Debug)]
pub enum FillEvent {
    /// It is arriving.
    Progress {
        /// Bytes so far.
        bytes: u64,
        /// The announced length.
        total: Option<u64>,
    },
    /// It is on disk.
    Stored(Arc<Meta>),
}

impl Cache {
    /// Follows the fill of an archive; starts it where there is none and the archive is not stored.
    pub fn follow(self: &Arc<Self>, ask: ArchiveAsk) -> FillWatcher {
        FillWatcher { cache: self.clone(), ask, state: None, reported: None }
    }

    /// What is known of an archive without opening it: whether it is on disk, and its length where it was ever seen.
    pub async fn holding(&self, ask: &ArchiveAsk) -> (bool, Option<u64>) {
        let pin = self.pin(&ask.key).await.ok().flatten();
        let Some(pin) = pin else { return (false, None) };
        let stored = self.disk.holds(&ask.key).await.unwrap_or(false);
        (stored, Some(pin.len))
    }

    /// Puts on disk what memory alone has: the disk may have evicted it, and memory is no place to be stored in.
    async fn put_on_disk(&self, key: &Key, object: &Object) -> Result<(), FetchError> {
        let Content::Memory(bytes) = &object.content else { return Ok(()) };
        if self.disk.holds(key).await.unwrap_or(false) {
            return Ok(());
        }
        let mut spool = self.spool(Some(object.meta.len)).await.ok_or_else(not_stored)?;
        let bytes = bytes.clone();
        let written = spawn_blocking(move || spool.append(&[bytes]).map(|()| spool)).await;
        let spool = written.map_err(|_| not_stored())?.map_err(|_| not_stored())?;
        let admitted = self.disk.admit(key, spool, (*object.meta).clone()).await;
        admitted.map(drop).map_err(|error| {
            tracing::warn!(%key, %error, "what memory has cannot be put on disk");
            not_stored()
        })
    }
}

impl FillWatcher {
    /// Waits for the next step. Nothing comes after [`FillEvent::Stored`] or an error.
    ///
    /// # Errors
    /// The fill's error; `Refused` when the archive is good but could not be stored.
    pub async fn next(&mut self) -> Result<FillEvent, Failure> {
        let status = CacheStatus::forwarded(Fwd::UriMiss);
        let failed = |error| Failure::new(error, status.clone());
        let mut state = match self.state.take() {
            Some(state) => state,
            None => {
                if let Some(object) = self.cache.lookup(&self.ask.key).await {
                    return self.stored(object).await.map_err(failed);
                }
                if let Some(error) = self.cache.failures.recent(&self.ask.key) {
                    return Err(failed(error));
                }
                self.cache.fill(&self.ask).0
            }
        };
        if self.reported.is_some() {
            // Bytes arrive far more often than anybody wants to read of them; the end is told at once.
            let ended = |state: &FillState| !matches!(state, FillState::Requested | FillState::Streaming(_));
            let _ = timeout(PAUSE, state.wait_for(ended)).await;
        }
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                FillState::Complete(_) => return self.landed(state).await.map_err(failed),
                FillState::Failed(error) => return Err(failed(error)),
                FillState::NoRoom => return Err(failed(not_stored())),
                FillState::Streaming(arriving) if self.reported.is_none_or(|bytes| bytes != arriving.written) => {
                    self.reported = Some(arriving.written);
                    self.state = Some(state);
                    return Ok(FillEvent::Progress { bytes: arriving.written, total: arriving.len });
                }
                FillState::Requested | FillState::Streaming(_) => {}
            }
            if state.changed().await.is_err() {
                return Err(failed(FetchError::Unreachable("the download was given up")));
            }
        }
    }

    /// Complete is what clients are served; stored it is when the flight has left the table.
    async fn landed(&self, mut state: watch::Receiver<FillState>) -> Result<FillEvent, FetchError> {
        while state.changed().await.is_ok() {}
        match self.cache.lookup(&self.ask.key).await {
            Some(object) => self.stored(object).await,
            None => Err(not_stored()),
        }
    }

    async fn stored(&self, object: Object) -> Result<FillEvent, FetchError> {
        self.cache.put_on_disk(&self.ask.key, &object).await?;
        Ok(FillEvent::Stored(object.meta))
    }
}

fn not_stored() -> FetchError {
    FetchError::Refused("it cannot be stored: the disk has no room for it or does not work".into())
}
