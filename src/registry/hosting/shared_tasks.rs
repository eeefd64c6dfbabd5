//! Blocking tasks by key: concurrent callers of one key share one task.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{blocking::spawn_blocking, origin::BoxFuture};

/// Longest wait for a place among the running tasks.
const PLACE_PATIENCE: Duration = Duration::from_secs(5);

/// The running tasks: one for each key.
pub(super) struct SharedTasks<K: Hash + Eq, T> {
    running: Arc<RunningTasks<K, T>>,
    places: Arc<Semaphore>,
    runtime: Handle,
}

type RunningTasks<K, T> = Mutex<HashMap<K, SharedTask<T>>>;

/// A task that every caller of its key waits for.
pub(super) type SharedTask<T> = Shared<BoxFuture<'static, Result<T, NotRun>>>;

/// Removes a task from the running ones when it is dropped, however the task has ended.
struct RunningTask<K: Hash + Eq, T> {
    key: K,
    running: Arc<RunningTasks<K, T>>,
}

impl<K: Hash + Eq, T> Drop for RunningTask<K, T> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

/// Why a task has no outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotRun {
    /// No place was free for [`PLACE_PATIENCE`].
    Busy,
    /// It has panicked, which has been reported; or the app ends.
    Lost,
}

impl<K: Hash + Eq + Clone + Send + 'static, T: Clone + Send + Sync + 'static> SharedTasks<K, T> {
    /// At most `places` tasks run at the same time, on the runtime that this is called in.
    pub(super) fn new(places: usize) -> Self {
        Self { running: Arc::default(), places: Arc::new(Semaphore::new(places)), runtime: Handle::current() }
    }

    /// Joins the task of a key, or begins it: `work`, which may block. It goes on when its callers have left.
    pub(super) fn join(&self, key: &K, work: impl FnOnce() -> T + Send + 'static) -> SharedTask<T> {
        let (outcome, awaited) = oneshot::channel();
        let task: BoxFuture<'static, _> = Box::pin(async move { awaited.await.unwrap_or(Err(NotRun::Lost)) });
        let task = task.shared();
        match self.running.lock().entry(key.clone()) {
            Entry::Occupied(running) => return running.get().clone(),
            Entry::Vacant(entry) => drop(entry.insert(task.clone())),
        }
        let running = RunningTask { key: key.clone(), running: self.running.clone() };
        let places = self.places.clone();
        // After the lock is released: a runtime that has ended drops the task at once, and the drop takes the lock.
        self.runtime.spawn(async move {
            let done = match timeout(PLACE_PATIENCE, places.acquire()).await {
                Err(_) => Err(NotRun::Busy),
                Ok(_place) => spawn_blocking(work).await.map_err(|_| NotRun::Lost),
            };
            drop(running);
            // Every caller may have left.
            let _ = outcome.send(done);
        });
        task
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn app() -> (Runtime, SharedTasks<u8, u8>) {
        let app = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let tasks = app.block_on(async { SharedTasks::new(1) });
        (app, tasks)
    }

    fn connection_thread() -> Runtime {
        Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_task_goes_on_where_the_runtime_of_its_first_caller_ends() {
        let (app, tasks) = app();
        let first = connection_thread();
        let (release, released) = mpsc::channel::<()>();
        let entered = first.enter();
        let task = tasks.join(&1, move || {
            let _ = released.recv();
            7
        });
        drop(entered);
        first.shutdown_background();
        drop(release);
        assert!(matches!(app.block_on(task), Ok(7)));
        assert!(matches!(connection_thread().block_on(async { tasks.join(&1, || 8).await }), Ok(8)));
    }

    #[test]
    fn a_lost_task_leaves_no_entry() {
        let (app, tasks) = app();
        app.shutdown_background();
        let task = connection_thread().block_on(async { tasks.join(&1, || 7).await });
        assert!(matches!(task, Err(NotRun::Lost)) && tasks.running.lock().is_empty());
    }
}
