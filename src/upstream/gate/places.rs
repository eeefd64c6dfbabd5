//! Places for concurrent requests, shared fairly among clients while they are scarce.
//!
//! A free place is given at once. When none is free, the next one goes to the client that holds the fewest, and among
//! equals to the one that came first: while others wait, no place goes to a client with half of them. Where places are held
//! for long, the last free one is kept from a client with half of them, so that another client need not wait for the end of
//! a download. No place is taken away: the download that holds it may have readers of other clients.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::peer::ClientId;

/// Most requests that wait for a place of one kind. Each is a detached task of a few KiB.
const MAX_WAITING: usize = 1024;

/// A fixed number of places.
#[derive(Debug)]
pub(super) struct Places(Mutex<PlacesState>);

/// Which clients may take the last free place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastPlace {
    /// Every client, for places that are held for a moment.
    ForAnyone,
    /// Only a client with less than half of the places, for places that are held for long. Of fewer than
    /// [`MIN_PLACES_TO_KEEP_LAST`] places, every client.
    ForOthers,
}

/// Fewest places of which the last one is kept for other clients.
const MIN_PLACES_TO_KEEP_LAST: usize = 3;

#[derive(Debug)]
struct PlacesState {
    free: usize,
    /// A client with this many places does not get the last free one.
    half: usize,
    /// Places held, by client; no entry is zero.
    held: HashMap<ClientId, usize>,
    /// In the order of arrival.
    waiting: Vec<WaitingRequest>,
}

#[derive(Debug)]
struct WaitingRequest {
    client: ClientId,
    grant: oneshot::Sender<Place>,
}

/// One place. Dropping it gives it to the next request.
#[derive(Debug)]
pub(in crate::upstream) struct Place {
    /// `None` for a place that was not taken up.
    places: Option<Arc<Places>>,
    client: ClientId,
}

impl Places {
    pub(super) fn new(places: usize, last: LastPlace) -> Arc<Self> {
        let keeps_last = last == LastPlace::ForOthers && places >= MIN_PLACES_TO_KEEP_LAST;
        let half = if keeps_last { places.div_ceil(2) } else { usize::MAX };
        Arc::new(Self(Mutex::new(PlacesState { free: places, half, held: HashMap::new(), waiting: Vec::new() })))
    }

    /// Waits for a place; `None` when too many requests wait. Dropping the future leaves the queue.
    pub(super) async fn take(self: &Arc<Self>, client: ClientId) -> Option<Place> {
        let granted = {
            let mut state = self.0.lock();
            if state.may_take(client) {
                state.free -= 1;
                *state.held.entry(client).or_default() += 1;
                return Some(Place { places: Some(self.clone()), client });
            }
            state.waiting.retain(|request| !request.grant.is_closed());
            if state.waiting.len() >= MAX_WAITING {
                return None;
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.push(WaitingRequest { client, grant });
            granted
        };
        granted.await.ok()
    }

    /// How many requests wait for a place now.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().waiting.iter().filter(|request| !request.grant.is_closed()).count()
    }

    /// Takes a place back and gives it to the next request that still waits.
    fn give_back(self: &Arc<Self>, client: ClientId) {
        let mut state = self.0.lock();
        state.release(client);
        state.free += 1;
        while let Some(next) = state.next() {
            let WaitingRequest { client, grant } = state.waiting.remove(next);
            state.free -= 1;
            *state.held.entry(client).or_default() += 1;
            match grant.send(Place { places: Some(self.clone()), client }) {
                Ok(()) => {}
                // The request was given up. Its place must not come back through `Drop`: the lock is held.
                Err(mut place) => {
                    place.places = None;
                    state.release(client);
                    state.free += 1;
                }
            }
        }
    }
}

impl PlacesState {
    /// True if a place is free, and not the last one for a client with half of them.
    fn may_take(&self, client: ClientId) -> bool {
        self.free > 1 || (self.free == 1 && self.held_by(client) < self.half)
    }

    /// The waiting request whose client holds the fewest places, the first of equals, if it may have a place now.
    fn next(&self) -> Option<usize> {
        let next = (0..self.waiting.len()).min_by_key(|&index| self.held_by(self.waiting[index].client));
        next.filter(|&index| self.may_take(self.waiting[index].client))
    }

    fn held_by(&self, client: ClientId) -> usize {
        self.held.get(&client).copied().unwrap_or_default()
    }

    fn release(&mut self, client: ClientId) {
        if let Some(held) = self.held.get_mut(&client) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&client);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.places.take() {
            places.give_back(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::FutureExt as _;

    use super::*;

    fn client(last: u8) -> ClientId {
        ClientId::of_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[tokio::test]
    async fn a_client_that_is_alone_may_use_every_place() {
        let places = Places::new(3, LastPlace::ForAnyone);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(places.take(client(1)).now_or_never().expect("free").expect("a place"));
        }
        assert!(places.take(client(2)).now_or_never().is_none(), "a fourth place");
        held.pop();
        assert!(places.take(client(2)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_scarce_place_goes_to_the_client_that_holds_the_fewest_then_to_the_first() {
        let places = Places::new(3, LastPlace::ForAnyone);
        let _kept = places.take(client(1)).await;
        let greedy = [places.take(client(1)).await, places.take(client(1)).await];
        let mut waiting = Vec::new();
        for (index, last) in [1, 1, 2, 3].into_iter().enumerate() {
            let mut request = Box::pin(places.take(client(last)));
            assert!(request.as_mut().now_or_never().is_none());
            waiting.push((index, request));
        }
        let [first, second] = greedy;
        let mut order = Vec::new();
        let mut granted = Vec::new();
        for place in [first, second] {
            drop(place);
            let ready = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(at, (index, request))| request.as_mut().now_or_never().map(|place| (at, *index, place)));
            let (at, index, place) = ready.expect("one request gets the place");
            order.push(index);
            granted.push(place);
            drop(waiting.remove(at));
        }
        assert_eq!(order, [2, 3], "the clients without a place come before the one that has one");
    }

    #[tokio::test]
    async fn the_last_place_for_downloads_is_kept_from_a_client_with_half_of_them() {
        let places = Places::new(4, LastPlace::ForOthers);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(places.take(client(1)).now_or_never().expect("free").expect("a place"));
        }
        let mut fourth = Box::pin(places.take(client(1)));
        assert!(fourth.as_mut().now_or_never().is_none(), "the last one");
        let other = places.take(client(2)).now_or_never().expect("at once").expect("a place");
        // While both wait, the next places go to the other client, until it has as many.
        let mut second = Box::pin(places.take(client(2)));
        assert!(second.as_mut().now_or_never().is_none());
        held.pop();
        assert!(fourth.as_mut().now_or_never().is_none());
        let second = second.as_mut().now_or_never().expect("the next one").expect("a place");
        drop((other, second));
        let _third = fourth.as_mut().now_or_never().expect("a client with three of four while one is free");
        assert_eq!(places.0.lock().free, 1);
    }

    #[tokio::test]
    async fn few_places_are_all_for_a_client_that_is_alone() {
        let places = Places::new(2, LastPlace::ForOthers);
        let _first = places.take(client(1)).now_or_never().expect("free");
        assert!(places.take(client(1)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_request_that_gave_up_holds_no_place() {
        let places = Places::new(1, LastPlace::ForAnyone);
        let held = places.take(client(1)).await;
        let mut given_up = Box::pin(places.take(client(2)));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(held);
        assert!(places.take(client(3)).now_or_never().is_some());
        assert!(places.0.lock().held.is_empty(), "nothing is remembered of clients without a place");
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let places = Places::new(1, LastPlace::ForAnyone);
        let _held = places.take(client(1)).await;
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING {
            let mut request = Box::pin(places.take(client(2)));
            assert!(request.as_mut().now_or_never().is_none());
            waiting.push(request);
        }
        assert!(places.take(client(3)).now_or_never().expect("at once").is_none());
        assert_eq!(places.waiting(), MAX_WAITING);
        waiting.clear();
        assert_eq!(places.waiting(), 0);
        assert!(places.take(client(3)).now_or_never().is_none(), "requests that left the queue do not fill it");
    }
}
