//! Shares out the connections among clients.
//!
//! Up to `server.max_connections` are served, and one client may hold all of them. When all are taken, a new client takes
//! one from the client that holds more than half: an idle one, else the one without progress for the longest. A few more are
//! accepted beyond the limit, for health checks: any other request on those waits a moment for a place, and is then refused.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::timeouts::ConnectionTimeouts;
use crate::peer::ClientId;

/// Connections beyond the limit, for health checks.
pub(super) const RESERVED_CONNECTIONS: usize = 16;
/// Those of them that one client may hold.
const MAX_RESERVED_PER_CLIENT: usize = 4;
/// Those of them that may wait for a place at once; the others refuse what is no health check.
const MAX_WAITING_CONNECTIONS: usize = 8;
/// Longest wait of a reserved connection: for its request's header, and for a place.
pub(super) const RESERVED_WAIT: Duration = Duration::from_secs(2);

/// Shares the connections among clients. One per server.
#[derive(Debug)]
pub(super) struct ConnectionPlaces {
    max_connections: usize,
    state: Mutex<ConnectionTable>,
    /// Reserved connections that wait for a place.
    waiting: AtomicUsize,
    freed: Notify,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    /// Connections within the limit.
    taken: usize,
    /// Connections beyond it.
    reserved: usize,
    next_id: u64,
    /// The open connections by client; no entry is empty.
    clients: HashMap<ClientId, HashMap<u64, OpenConnection>>,
}

#[derive(Debug)]
struct OpenConnection {
    timeouts: Arc<ConnectionTimeouts>,
    /// Ends the connection at once.
    abort: CancellationToken,
    is_reserved: bool,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    places: Arc<ConnectionPlaces>,
    client: ClientId,
    id: u64,
    is_reserved: AtomicBool,
}

impl ConnectionPlaces {
    pub(super) fn new(max_connections: usize) -> Arc<Self> {
        let waiting = AtomicUsize::new(0);
        Arc::new(Self { max_connections, state: Mutex::default(), waiting, freed: Notify::new() })
    }

    /// The number of connections of a client.
    pub(super) fn held(&self, client: ClientId) -> usize {
        self.state.lock().clients.get(&client).map_or(0, HashMap::len)
    }

    /// A place for a new connection, or `None` when the connection is to be closed. Ends a connection of the client that
    /// holds more than half, if all are taken. [`ClientId::Mirror`] is a trusted proxy, which many clients share: none of
    /// its connections is ended.
    ///
    /// `timeouts` makes the time-outs of the connection for a longest wait for a header; `abort` ends it.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: ClientId,
        timeouts: impl FnOnce(Option<Duration>) -> Arc<ConnectionTimeouts>,
        abort: CancellationToken,
    ) -> Option<(ConnectionPlace, Arc<ConnectionTimeouts>)> {
        let mut state = self.state.lock();
        let is_reserved =
            state.taken >= self.max_connections && !state.end_one_of_the_largest(client, self.max_connections);
        if is_reserved {
            let held = state.clients.get(&client).into_iter().flat_map(HashMap::values);
            let own = held.filter(|connection| connection.is_reserved).count();
            if state.reserved >= RESERVED_CONNECTIONS || own >= MAX_RESERVED_PER_CLIENT {
                return None;
            }
            state.reserved += 1;
        } else {
            state.taken += 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        let timeouts = timeouts(is_reserved.then_some(RESERVED_WAIT));
        let connection = OpenConnection { timeouts: timeouts.clone(), abort, is_reserved };
        state.clients.entry(client).or_default().insert(id, connection);
        drop(state);
        let place = ConnectionPlace { places: self.clone(), client, id, is_reserved: AtomicBool::new(is_reserved) };
        Some((place, timeouts))
    }
}

impl ConnectionTable {
    /// Ends a connection of the client that holds the most, if that is more than half of all and more than `client` holds.
    fn end_one_of_the_largest(&mut self, client: ClientId, max_connections: usize) -> bool {
        let own = self.clients.get(&client).map_or(0, within_limit);
        let others = self.clients.iter().filter(|(other, _)| **other != client && **other != ClientId::Mirror);
        let counted = others.map(|(other, connections)| (within_limit(connections), *other, connections));
        let Some((held, largest, connections)) = counted.max_by_key(|(held, ..)| *held) else { return false };
        if held <= (max_connections / 2).max(own) {
            return false;
        }
        let within = connections.iter().filter(|(_, connection)| !connection.is_reserved);
        let Some(id) = within.min_by_key(|(_, connection)| connection.timeouts.eviction_order()).map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some(ended) = self.remove(largest, id) {
            ended.abort.cancel();
        }
        true
    }

    /// Removes a connection and frees its place.
    fn remove(&mut self, client: ClientId, id: u64) -> Option<OpenConnection> {
        let connections = self.clients.get_mut(&client)?;
        let removed = connections.remove(&id);
        if connections.is_empty() {
            self.clients.remove(&client);
        }
        match &removed {
            Some(connection) if connection.is_reserved => self.reserved -= 1,
            Some(_) => self.taken -= 1,
            None => {}
        }
        removed
    }
}

/// Connections that are not among the reserved ones.
fn within_limit(connections: &HashMap<u64, OpenConnection>) -> usize {
    connections.values().filter(|connection| !connection.is_reserved).count()
}

impl ConnectionPlace {
    /// True while the connection is beyond the limit: it answers only health checks.
    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved.load(Ordering::Relaxed)
    }

    /// Waits for a place within the limit, at most [`RESERVED_WAIT`], and takes it. False when none was free, and at once when
    /// many connections wait.
    pub(super) async fn wait_for_free_place(&self) -> bool {
        /// One of the waiting connections.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let others = self.places.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.places.waiting);
        if others >= MAX_WAITING_CONNECTIONS {
            return false;
        }
        let taken = async {
            loop {
                let freed = self.places.freed.notified();
                if self.try_take() {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(RESERVED_WAIT, taken).await.is_ok()
    }

    fn try_take(&self) -> bool {
        let mut state = self.places.state.lock();
        if !self.is_reserved() {
            return true;
        }
        if state.taken >= self.places.max_connections {
            return false;
        }
        let Some(connection) = state.clients.get_mut(&self.client).and_then(|held| held.get_mut(&self.id)) else {
            return false;
        };
        connection.is_reserved = false;
        state.reserved -= 1;
        state.taken += 1;
        self.is_reserved.store(false, Ordering::Relaxed);
        true
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        // Absent when it was ended for another client, which has its place.
        let removed = self.places.state.lock().remove(self.client, self.id);
        if removed.is_some() {
            self.places.freed.notify_one();
        }
    }
}
