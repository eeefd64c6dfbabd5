//! Threads that each serve a share of the connections, with a reactor of their own.
//!
//! A runtime whose workers share one reactor has nobody at it while its holder sends a zip: a request that comes
//! meanwhile waits, and the other worker sleeps. Here nobody shares anything; what a connection sets off for others
//! (downloads, revalidations) runs elsewhere.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A lane looks for new events after this many tasks. One that sends a zip takes up to half a millisecond: with tokio's
/// own 61, a new request might wait for thirty.
const EVENTS: u32 = 8;
/// It takes up what other threads have for it, new connections and the news of a download among it, in turn with its
/// own tasks: fifty that wait for the same bytes would have their first ones long after each other, were the news of
/// each to wait for more. Before all of its own tasks would be too often: news may come without end.
const OTHERS: u32 = 2;
/// Threads of a lane for what blocks, most of it reads of what the page cache lacks.
const BLOCKING: usize = 64;

/// The threads. They end when this is dropped, and their connections with them.
#[derive(Debug)]
pub struct ConnectionThreads {
    lanes: Vec<ConnectionThread>,
    _end: DropGuard,
}

#[derive(Debug)]
struct ConnectionThread {
    handle: Handle,
    load: Arc<AtomicUsize>,
}

/// A connection's place in a lane; given back when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    pub(super) handle: Handle,
    load: Arc<AtomicUsize>,
}

impl ConnectionThreads {
    /// Starts `count` threads: as many as the runtime has workers, of which few are busy at the same time. Not to be called
    /// in async code: where a thread cannot be had, its runtime goes again, which would panic there.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left.
    pub fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let lane = |number: usize| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENTS)
                .global_queue_interval(OTHERS)
                .max_blocking_threads(BLOCKING)
                .build()?;
            let handle = runtime.handle().clone();
            let end = end.clone();
            thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_background();
            })?;
            Ok(ConnectionThread { handle, load: Arc::default() })
        };
        let lanes = (0..count).map(lane).collect::<io::Result<_>>()?;
        Ok(Self { lanes, _end: end.drop_guard() })
    }

    /// A place where there are the fewest connections.
    pub(super) fn place(&self) -> Option<ConnectionSlot> {
        let lane = self.lanes.iter().min_by_key(|lane| lane.load.load(Ordering::Relaxed))?;
        lane.load.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionSlot { handle: lane.handle.clone(), load: lane.load.clone() })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_places_are_given_back() {
        let lanes = ConnectionThreads::start(3).expect("threads");
        assert_eq!(lanes.lanes.len(), 3);
        let loads = || lanes.lanes.iter().map(|lane| lane.load.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let places: Vec<_> = (0..3 * lanes.lanes.len()).filter_map(|_| lanes.place()).collect();
        assert!(loads().iter().all(|load| *load == 3), "{:?}", loads());
        drop(places);
        assert!(loads().iter().all(|load| *load == 0), "{:?}", loads());
    }
}
