//! One task per key: a second caller joins the running flight, and a flight leaves the table only after its end.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::entry::Key;

/// The state that a flight publishes to everyone who waits for it.
pub(super) trait FlightState: Clone {
    /// The state before the task publishes one.
    fn requested() -> Self;

    /// The final state of a task that ended without publishing one: it panicked or was dropped.
    fn aborted() -> Self;

    /// True for a state that no other follows.
    fn is_final(&self) -> bool;
}

#[derive(Debug)]
struct FlightTable<S> {
    flights: Mutex<HashMap<Key, watch::Receiver<S>>>,
    /// The size of the table, readable without the lock.
    count: AtomicUsize,
}

impl<S> FlightTable<S> {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Key, watch::Receiver<S>>) -> T) -> T {
        let mut flights = self.flights.lock();
        let done = work(&mut flights);
        self.count.store(flights.len(), Ordering::Release);
        done
    }
}

/// The running flights of one kind, by key.
#[derive(Debug)]
pub(super) struct SingleFlight<S> {
    table: Arc<FlightTable<S>>,
}

/// The publishing side of one flight, owned by its task alone.
///
/// Dropping it publishes [`FlightState::aborted`] where no final state was published, and takes the flight out of the
/// table.
#[derive(Debug)]
pub(super) struct FlightGuard<S: FlightState> {
    key: Key,
    table: Arc<FlightTable<S>>,
    state: watch::Sender<S>,
}

/// The waiting side of one flight. Dropping it changes nothing for the flight.
#[derive(Clone, Debug)]
pub(super) struct Flight<S>(watch::Receiver<S>);

/// What [`SingleFlight::join`] returns.
#[derive(Debug)]
pub(super) struct JoinedFlight<S> {
    /// The flight of the key.
    pub(super) flight: Flight<S>,
    /// True when the flight was already running.
    pub(super) collapsed: bool,
}

impl<S> Default for SingleFlight<S> {
    fn default() -> Self {
        Self { table: Arc::new(FlightTable { flights: Mutex::default(), count: AtomicUsize::new(0) }) }
    }
}

impl<S: FlightState> SingleFlight<S> {
    /// Joins the flight of `key`, or starts one by calling `start`, which runs after the flight is in the table: so there
    /// is never a second one.
    pub(super) fn join(&self, key: &Key, start: impl FnOnce(FlightGuard<S>)) -> JoinedFlight<S> {
        let mut new = None;
        let receiver = self.table.with(|flights| match flights.get(key) {
            Some(running) => running.clone(),
            None => {
                let (sender, receiver) = watch::channel(S::requested());
                flights.insert(key.clone(), receiver.clone());
                new = Some(sender);
                receiver
            }
        });
        let collapsed = new.is_none();
        if let Some(state) = new {
            start(FlightGuard { key: key.clone(), table: self.table.clone(), state });
        }
        JoinedFlight { flight: Flight(receiver), collapsed }
    }

    /// The running flight of `key`.
    pub(super) fn find(&self, key: &Key) -> Option<Flight<S>> {
        if self.len() == 0 {
            return None;
        }
        self.table.with(|flights| flights.get(key).cloned()).map(Flight)
    }

    /// Number of running flights.
    pub(super) fn len(&self) -> usize {
        self.table.count.load(Ordering::Acquire)
    }
}

impl<S: FlightState> FlightGuard<S> {
    /// Publishes a state.
    pub(super) fn publish(&self, state: S) {
        self.state.send_replace(state);
    }

    /// Number of waiting sides, which may all have left by now.
    pub(super) fn waiting(&self) -> usize {
        // The table holds one receiver.
        self.state.receiver_count().saturating_sub(1)
    }

    /// A sender for updates from another thread. It keeps the flight from [`Flight::landed`] while it lives.
    pub(super) fn sender(&self) -> watch::Sender<S> {
        self.state.clone()
    }
}

impl<S: FlightState> Drop for FlightGuard<S> {
    fn drop(&mut self) {
        self.state.send_if_modified(|state| {
            let unfinished = !state.is_final();
            if unfinished {
                *state = S::aborted();
            }
            unfinished
        });
        self.table.with(|flights| flights.remove(&self.key));
    }
}

impl<S: FlightState> Flight<S> {
    /// The present state, marked as seen. The guard must not live across an await.
    pub(super) fn state(&mut self) -> watch::Ref<'_, S> {
        self.0.borrow_and_update()
    }

    /// Waits for a state that has not been seen yet. Returns at once after the end of the flight.
    pub(super) async fn changed(&mut self) {
        // A closed channel has a final state: see `FlightGuard`.
        let _ = self.0.changed().await;
    }

    /// Waits for a state that is `reached`, or for the final one.
    pub(super) async fn wait_for(&mut self, reached: impl Fn(&S) -> bool) -> S {
        match self.0.wait_for(|state| reached(state) || state.is_final()).await {
            Ok(state) => state.clone(),
            Err(_) => S::aborted(),
        }
    }

    /// Waits for the final state.
    pub(super) async fn finished(&mut self) -> S {
        self.wait_for(S::is_final).await
    }

    /// Waits until the flight has left the table.
    pub(super) async fn landed(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Stage {
        Requested,
        Half,
        Done,
        Aborted,
    }

    impl FlightState for Stage {
        fn requested() -> Self {
            Self::Requested
        }

        fn aborted() -> Self {
            Self::Aborted
        }

        fn is_final(&self) -> bool {
            matches!(self, Self::Done | Self::Aborted)
        }
    }

    #[test]
    fn there_is_one_flight_per_key_until_it_has_landed() {
        let flights = SingleFlight::default();
        let mut guard = None;
        let key = Key::new("k");
        let mut first = flights.join(&key, |started| guard = Some(started));
        let mut second = flights.join(&key, |_| panic!("a second flight"));
        assert_eq!((first.collapsed, second.collapsed), (false, true));
        guard.as_ref().expect("started").publish(Stage::Half);
        assert_eq!((*first.flight.state(), *second.flight.state()), (Stage::Half, Stage::Half));
        guard.as_ref().expect("started").publish(Stage::Done);
        guard = None;
        assert_eq!(flights.len(), 0);
        assert!(guard.is_none() && first.flight.0.has_changed().is_err(), "a dropped guard closes the channel");
        assert_eq!(*first.flight.state(), Stage::Done);
        assert!(!flights.join(&key, drop).collapsed);
    }

    #[tokio::test]
    async fn a_flight_whose_task_vanished_ends_as_aborted() {
        let flights = SingleFlight::<Stage>::default();
        let mut joined = flights.join(&Key::new("k"), |guard| guard.publish(Stage::Half));
        assert_eq!(joined.flight.finished().await, Stage::Aborted);
        assert_eq!(flights.len(), 0);
        joined.flight.landed().await;
    }
}
