//! Work in flight, one per key: who comes second joins it, and it leaves the table last.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use crate::entry::Key;

type Running<S> = Arc<Table<S>>;

/// The flights, and how many there are: whoever only wants to know that there is none asks without the lock.
#[derive(Debug)]
struct Table<S> {
    flights: Mutex<HashMap<Key, watch::Receiver<S>>>,
    count: AtomicUsize,
}

impl<S> Table<S> {
    /// Works on the table.
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Key, watch::Receiver<S>>) -> T) -> T {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut flights);
        self.count.store(flights.len(), Ordering::Release);
        done
    }
}

/// The flights of one kind, by key. `S` is the state that everybody who waits can see.
#[derive(Debug)]
pub(crate) struct SingleFlight<S> {
    running: Running<S>,
}

/// The right and the duty to bring one flight down: owned by its task alone.
///
/// Dropping it takes the flight out of the table. Who still waits then sees the channel closed, which without a
/// final state means that the work failed.
#[derive(Debug)]
pub(crate) struct FlightGuard<S> {
    key: Key,
    running: Running<S>,
    /// Publishes the state.
    pub(crate) state: watch::Sender<S>,
}

impl<S> Default for SingleFlight<S> {
    fn default() -> Self {
        Self { running: Arc::new(Table { flights: Mutex::default(), count: AtomicUsize::new(0) }) }
    }
}

impl<S> SingleFlight<S> {
    /// Joins the flight of `key`, or begins one in state `first` by calling `start`; the flag is true for who joined.
    ///
    /// `start` runs after the flight is in the table, so there is never a second one.
    pub(crate) fn join(&self, key: &Key, first: S, start: impl FnOnce(FlightGuard<S>)) -> (watch::Receiver<S>, bool) {
        let joined = self.running.with(|flights| match flights.get(key) {
            Some(state) => Err(state.clone()),
            None => {
                let (state, seen) = watch::channel(first);
                flights.insert(key.clone(), seen.clone());
                Ok((state, seen))
            }
        });
        let (state, seen) = match joined {
            Ok(new) => new,
            Err(state) => return (state, true),
        };
        start(FlightGuard { key: key.clone(), running: self.running.clone(), state });
        (seen, false)
    }

    /// The state of the flight of `key`, where there is one.
    pub(crate) fn state(&self, key: &Key) -> Option<watch::Receiver<S>> {
        if self.len() == 0 {
            return None;
        }
        self.running.with(|flights| flights.get(key).cloned())
    }

    /// Number of flights at the moment.
    pub(crate) fn len(&self) -> usize {
        self.running.count.load(Ordering::Acquire)
    }
}

impl<S> Drop for FlightGuard<S> {
    fn drop(&mut self) {
        self.running.with(|flights| flights.remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_flight_per_key_until_it_has_landed() {
        let flights = SingleFlight::default();
        let mut guard = None;
        let key = Key::new("k");
        let (first, joined) = flights.join(&key, 1, |l| guard = Some(l));
        assert!(!joined);
        let (second, joined) = flights.join(&key, 9, |_| panic!("a second flight"));
        assert!(joined);
        guard.as_ref().expect("started").state.send_replace(2);
        assert_eq!((*first.borrow(), *second.borrow()), (2, 2));
        guard = None;
        assert_eq!(flights.len(), 0);
        assert!(guard.is_none() && first.has_changed().is_err(), "a dropped landing closes the channel");
        let (_, joined) = flights.join(&key, 3, drop);
        assert!(!joined);
    }
}
