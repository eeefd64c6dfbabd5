//! The published state of a fill, and the one place where it is matched: [`FillHandle`].

use std::sync::Arc;

use tokio::sync::watch;

use super::single_flight::{Flight, FlightState};
use crate::{
    origin::FetchError,
    storage::{BlobFile, Object},
};

/// The state of a fill, as its clients see it.
#[derive(Clone, Debug)]
pub(super) enum FillState {
    /// Nothing is known yet, or nothing may be shown before the whole body is verified.
    Requested,
    /// The body is arriving.
    Streaming(ArrivingBody),
    /// The disk takes no more: the rest of the body arrives in memory, where it can be read once it is whole.
    Moved(MovedBody),
    /// The final state: the whole body is there, verified and pinned, or never will be.
    Ended(Result<Object, FetchError>),
}

/// A body that is arriving.
#[derive(Clone, Debug)]
pub(super) struct ArrivingBody {
    /// The growing file.
    pub(super) spool: Arc<BlobFile>,
    /// The announced length.
    pub(super) len: Option<u64>,
    /// Number of bytes in the file.
    pub(super) written: u64,
}

/// The part of a body that readers had on disk when it moved to memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct MovedBody {
    /// Bytes in the file.
    written: u64,
    /// The announced length.
    len: Option<u64>,
}

/// What the first published bytes, or the end, of a fill allow.
pub(super) enum FillHead {
    /// The body can be read while it arrives.
    Streaming(ArrivingBody),
    /// The whole body, verified and pinned.
    Complete(Object),
}

/// How far a fill is.
#[derive(Clone, Debug)]
pub(super) enum FillProgress {
    /// No byte may be read yet.
    Requested,
    /// `written` bytes of a body of `total` (if announced) are in the spool.
    Streaming { written: u64, total: Option<u64> },
    /// As `Streaming`, and no more bytes will be in the spool: it is not needed after these.
    Moved { written: u64, total: Option<u64> },
    /// All bytes may be read.
    Complete(Object),
}

/// One client's view of a fill. Dropping it leaves the fill alone.
#[derive(Clone, Debug)]
pub(super) struct FillHandle(Flight<FillState>);

impl FlightState for FillState {
    fn requested() -> Self {
        Self::Requested
    }

    fn aborted() -> Self {
        Self::Ended(Err(FetchError::Unreachable("the download was aborted")))
    }

    fn is_final(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

impl FillHandle {
    pub(super) fn new(flight: Flight<FillState>) -> Self {
        Self(flight)
    }

    /// Waits until bytes may be read or the fill has ended.
    ///
    /// # Errors
    /// The fill's error.
    pub(super) async fn head(&mut self) -> Result<FillHead, FetchError> {
        match self.0.wait_for(|state| matches!(state, FillState::Streaming(_))).await {
            FillState::Streaming(arriving) => Ok(FillHead::Streaming(arriving)),
            state => state.into_finished().map(FillHead::Complete),
        }
    }

    /// Waits for the end of the fill.
    ///
    /// # Errors
    /// The fill's error.
    pub(super) async fn finished(&mut self) -> Result<Object, FetchError> {
        self.0.finished().await.into_finished()
    }

    /// The object of a fill that is complete now.
    pub(super) fn completed(&mut self) -> Option<Object> {
        match &*self.0.state() {
            FillState::Ended(Ok(object)) => Some(object.clone()),
            _ => None,
        }
    }

    /// How far the fill is now.
    ///
    /// # Errors
    /// The fill's error.
    pub(super) fn progress(&mut self) -> Result<FillProgress, FetchError> {
        match &*self.0.state() {
            FillState::Requested => Ok(FillProgress::Requested),
            FillState::Streaming(body) => Ok(FillProgress::Streaming { written: body.written, total: body.len }),
            FillState::Moved(body) => Ok(FillProgress::Moved { written: body.written, total: body.len }),
            FillState::Ended(Ok(object)) => Ok(FillProgress::Complete(object.clone())),
            FillState::Ended(Err(error)) => Err(error.clone()),
        }
    }

    /// Waits until [`FillHandle::progress`] may return something else.
    pub(super) async fn changed(&mut self) {
        self.0.changed().await;
    }

    /// Waits until the fill has left the table: its archive is admitted, or never will be.
    pub(super) async fn landed(&mut self) {
        self.0.landed().await;
    }
}

impl FillState {
    fn into_finished(self) -> Result<Object, FetchError> {
        match self {
            Self::Ended(result) => result,
            Self::Requested | Self::Streaming(_) | Self::Moved(_) => Self::aborted().into_finished(),
        }
    }
}

/// Publishes how many bytes are in the spool.
pub(super) fn publish_written(state: &watch::Sender<FillState>, now: u64) {
    state.send_if_modified(|state| match state {
        FillState::Streaming(body) => {
            body.written = now;
            true
        }
        FillState::Requested | FillState::Moved(_) | FillState::Ended(_) => false,
    });
}

/// Publishes that the body moves to memory, if clients read its spool, in which `written` bytes are.
pub(super) fn publish_moved(state: &watch::Sender<FillState>, written: u64) {
    state.send_if_modified(|state| {
        let FillState::Streaming(body) = state else { return false };
        *state = FillState::Moved(MovedBody { written, len: body.len });
        true
    });
}
