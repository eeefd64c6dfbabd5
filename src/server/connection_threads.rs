//! Threads that each serve a share of the connections, each with its own tokio runtime and I/O driver.
//!
//! The workers of a multi-threaded runtime share one I/O driver: while the worker that holds it sends a zip, no events
//! are polled, and new requests wait although another worker is idle. Connection threads share nothing. Work that a
//! request starts for others (downloads, revalidations) runs on the main runtime.

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

/// Tasks between two polls for I/O events. A task that sends a zip takes up to half a millisecond: with tokio's default of
/// 61, a new request could wait for 30 ms.
const TASKS_PER_EVENT_POLL: u32 = 8;
/// Tasks between two polls of the queue of wake-ups from other threads: new connections, download progress. With a larger
/// number the readers of one download are woken long after each other; with 1, a steady stream of wake-ups would starve
/// the thread's own tasks.
const TASKS_PER_REMOTE_POLL: u32 = 2;
/// Most blocking threads of a connection thread. Most of them read from files what the page cache lacks.
const MAX_BLOCKING_THREADS: usize = 64;

/// The connection threads. Dropping it ends them and aborts their connections.
#[derive(Debug)]
pub struct ConnectionThreads {
    threads: Vec<ConnectionThread>,
    _end: DropGuard,
}

#[derive(Debug)]
struct ConnectionThread {
    handle: Handle,
    /// Connections of this thread.
    load: Arc<AtomicUsize>,
}

/// A connection's place on a thread; given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    pub(super) handle: Handle,
    load: Arc<AtomicUsize>,
}

impl ConnectionThreads {
    /// Starts `count` threads. Must not be called in async code, where dropping the runtime of a thread that failed to
    /// start would panic.
    ///
    /// # Errors
    /// When the system has no threads or descriptors left.
    pub fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let start = |number: usize| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(TASKS_PER_EVENT_POLL)
                .global_queue_interval(TASKS_PER_REMOTE_POLL)
                .max_blocking_threads(MAX_BLOCKING_THREADS)
                .build()?;
            let handle = runtime.handle().clone();
            let end = end.clone();
            thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_background();
            })?;
            Ok(ConnectionThread { handle, load: Arc::default() })
        };
        let threads = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, _end: end.drop_guard() })
    }

    /// A probe of these threads, which does not keep them.
    pub(crate) fn probe(&self) -> ThreadProbe {
        ThreadProbe { threads: self.threads.iter().map(|thread| thread.handle.clone()).collect() }
    }

    /// A slot on the thread with the fewest connections; `None` without threads.
    pub(super) fn reserve_slot(&self) -> Option<ConnectionSlot> {
        let thread = self.threads.iter().min_by_key(|thread| thread.load.load(Ordering::Relaxed))?;
        thread.load.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionSlot { handle: thread.handle.clone(), load: thread.load.clone() })
    }
}

/// Finds out whether connection threads run.
#[derive(Clone, Debug)]
pub(crate) struct ThreadProbe {
    threads: Vec<Handle>,
}

impl ThreadProbe {
    /// Ends when each thread has run a task; never where one does not, so that the caller sets a deadline.
    pub(crate) async fn all_run_a_task(&self) {
        let tasks: Vec<_> = self.threads.iter().map(|thread| thread.spawn(async {})).collect();
        for task in tasks {
            if task.await.is_err() {
                // The thread has ended without its task.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_thread_that_takes_no_work_is_noticed() {
        let threads = ConnectionThreads::start(2).expect("threads");
        let probe = threads.probe();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let all_run = |deadline| runtime.block_on(async { timeout(deadline, probe.all_run_a_task()).await.is_ok() });
        assert!(all_run(Duration::from_secs(60)));
        let (release, blocked) = mpsc::channel::<()>();
        threads.threads[1].handle.spawn(async move {
            let _ = blocked.recv();
        });
        assert!(!all_run(Duration::from_millis(50)));
        drop(release);
        assert!(all_run(Duration::from_secs(60)));
        drop(threads);
        // They end a moment later.
        assert!((0..100).any(|_| !all_run(Duration::from_millis(50))), "ended threads run nothing");
    }

    #[test]
    fn connections_are_spread_evenly_and_slots_are_given_back() {
        let threads = ConnectionThreads::start(3).expect("threads");
        assert_eq!(threads.threads.len(), 3);
        let loads = || threads.threads.iter().map(|thread| thread.load.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let slots: Vec<_> = (0..3 * threads.threads.len()).filter_map(|_| threads.reserve_slot()).collect();
        assert!(loads().iter().all(|load| *load == 3), "{:?}", loads());
        drop(slots);
        assert!(loads().iter().all(|load| *load == 0), "{:?}", loads());
    }
}
