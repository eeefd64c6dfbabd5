//! When a request was last refused because no place was free.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a shortage is reported after its last request.
const REPORTED_FOR: Duration = Duration::from_secs(60);
/// Shortest time between two log events.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The last shortage of one kind of places.
#[derive(Debug, Default)]
pub(super) struct Shortage(Mutex<ShortageState>);

#[derive(Debug, Default)]
struct ShortageState {
    last: Option<Instant>,
    logged: Option<Instant>,
}

impl Shortage {
    /// Records that a request is refused for want of a place; true when that is to be logged.
    pub(super) fn note(&self) -> bool {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.last = Some(now);
        let is_due = state.logged.is_none_or(|logged| now - logged >= LOG_INTERVAL);
        if is_due {
            state.logged = Some(now);
        }
        is_due
    }

    /// True if a request was refused within the last [`REPORTED_FOR`].
    pub(super) fn is_recent(&self) -> bool {
        self.0.lock().last.is_some_and(|last| last.elapsed() < REPORTED_FOR)
    }
}
