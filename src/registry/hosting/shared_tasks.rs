//! Blocking tasks that all who ask for the same thing at the same time wait for.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::timeout};

use crate::blocking::spawn_blocking;
use crate::origin::BoxFuture;

/// Longest wait for a place among the running tasks.
const PLACE_PATIENCE: Duration = Duration::from_secs(5);

/// The running tasks: one for each key.
pub(super) struct SharedTasks<K, T> {
    running: Arc<Mutex<HashMap<K, SharedTask<T>>>>,
    places: Arc<Semaphore>,
}

/// A task that all who ask for its key wait for.
pub(super) type SharedTask<T> = Shared<BoxFuture<'static, Result<T, NotRun>>>;

/// Why a task has no outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotRun {
    /// No place was free for [`PLACE_PATIENCE`].
    Busy,
    /// It has panicked, which has been reported.
    Panicked,
}

impl<K: Hash + Eq + Clone + Send + 'static, T: Clone + Send + Sync + 'static> SharedTasks<K, T> {
    /// At most `places` tasks run at the same time.
    pub(super) fn new(places: usize) -> Self {
        Self { running: Arc::default(), places: Arc::new(Semaphore::new(places)) }
    }

    /// Joins the task of a key, or begins it: `work`, which may block. It goes on when its callers have left.
    pub(super) fn join(&self, key: &K, work: impl FnOnce() -> T + Send + 'static) -> SharedTask<T> {
        self.running.lock().entry(key.clone()).or_insert_with(|| self.begin(key.clone(), work)).clone()
    }

    fn begin(&self, key: K, work: impl FnOnce() -> T + Send + 'static) -> SharedTask<T> {
        let running = self.running.clone();
        let places = self.places.clone();
        let task = tokio::spawn(async move {
            let outcome = match timeout(PLACE_PATIENCE, places.acquire()).await {
                Err(_) => Err(NotRun::Busy),
                Ok(_place) => spawn_blocking(work).await.map_err(|_| NotRun::Panicked),
            };
            running.lock().remove(&key);
            outcome
        });
        (Box::pin(async move { task.await.unwrap_or(Err(NotRun::Panicked)) }) as BoxFuture<'static, _>).shared()
    }
}
