//! What one client may use: the limits of the `[clients]` section, and what each client has used.
//!
//! All limits are off by default, and then nothing is counted. A rate has a window: a client may use at once what the rate
//! allows in the window, and more as time passes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{ClientId, Refusal};
use crate::value::ByteSize;

/// Most clients in the table, about 200 bytes each; beyond that, those without a request are removed.
const MAX_CLIENTS_IN_TABLE: usize = 10_000;
/// Window of the rates per second.
const SECOND: Duration = Duration::from_secs(1);
/// Window of the rates per minute.
const MINUTE: Duration = Duration::from_secs(60);
/// Longest time that a client pays for bytes it was sent.
const MAX_DEBT: Duration = Duration::from_secs(600);
/// Shortest time between two log events about one client.
const REFUSAL_LOG_INTERVAL: Duration = MINUTE;

/// The `[clients]` section: limits of one client; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientLimits {
    /// Most connections at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Most requests under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// Most requests in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Most bytes of bodies in a second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<ByteSize>,
    /// Most documents and zips in a minute that an upstream is asked for because nothing is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_misses_per_minute: Option<u32>,
    /// Most packages, releases and versions in a minute that do not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_names_per_minute: Option<u32>,
}

impl ClientLimits {
    /// True when there is a limit besides that of connections.
    fn limits_requests(&self) -> bool {
        self.requests.is_some()
            || self.requests_per_second.is_some()
            || self.bytes_per_second.is_some()
            || self.cold_misses_per_minute.is_some()
            || self.unknown_names_per_minute.is_some()
    }
}

/// A limit of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientLimit {
    /// `clients.connections`.
    Connections,
    /// `clients.requests`.
    Requests,
    /// `clients.requests_per_second`.
    RequestRate,
    /// `clients.bytes_per_second`.
    ByteRate,
    /// `clients.cold_misses_per_minute`.
    ColdMisses,
    /// `clients.unknown_names_per_minute`.
    UnknownNames,
}

impl ClientLimit {
    const ALL: [Self; 6] =
        [Self::Connections, Self::Requests, Self::RequestRate, Self::ByteRate, Self::ColdMisses, Self::UnknownNames];

    /// The key in the section `[clients]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::RequestRate => "requests_per_second",
            Self::ByteRate => "bytes_per_second",
            Self::ColdMisses => "cold_misses_per_minute",
            Self::UnknownNames => "unknown_names_per_minute",
        }
    }
}

/// What each client has used. One per process.
#[derive(Debug, Default)]
pub struct ClientTable {
    limits: ArcSwap<ClientLimits>,
    clients: Mutex<HashMap<ClientId, Arc<Mutex<ClientUsage>>>>,
    /// By the position in [`ClientLimit::ALL`].
    refused: [AtomicU64; ClientLimit::ALL.len()],
}

#[derive(Debug, Default)]
struct ClientUsage {
    under_way: u32,
    requests: Rate,
    bytes: Rate,
    cold_misses: Rate,
    unknown_names: Rate,
    logged_at: Option<Instant>,
}

/// The use of one rate: the time at which nothing of it is used any more.
#[derive(Clone, Copy, Debug, Default)]
struct Rate(Option<Instant>);

impl Rate {
    /// How long the client waits for one more that costs `cost`; `None` when it may use it now.
    fn wait(self, now: Instant, cost: Duration, window: Duration) -> Option<Duration> {
        let used = self.0.map_or(Duration::ZERO, |free_at| free_at.saturating_duration_since(now));
        (used + cost).checked_sub(window).filter(|wait| !wait.is_zero())
    }

    fn charge(&mut self, now: Instant, cost: Duration) {
        let used = self.0.map_or(Duration::ZERO, |free_at| free_at.saturating_duration_since(now));
        self.0 = Some(now + (used + cost).min(MAX_DEBT));
    }

    fn is_unused(self, now: Instant) -> bool {
        self.0.is_none_or(|free_at| free_at <= now)
    }
}

/// The part of a window that one of `per_window` units takes.
fn cost(window: Duration, per_window: u32) -> Duration {
    window / per_window.max(1)
}

impl ClientTable {
    /// A table for limits that have been checked: none is zero.
    pub fn new(limits: ClientLimits) -> Arc<Self> {
        Arc::new(Self { limits: ArcSwap::from_pointee(limits), ..Self::default() })
    }

    /// Applies other limits from the next request and connection on. What clients have used so far counts.
    pub fn set_limits(&self, limits: ClientLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// Begins a request of a client; `None` without limits, and for the mirror itself.
    ///
    /// # Errors
    /// The limit that the client has reached.
    pub fn begin(self: &Arc<Self>, client: ClientId) -> Result<Option<ClientRequest>, Refusal> {
        let limits = self.limits.load();
        if client == ClientId::Mirror || !limits.limits_requests() {
            return Ok(None);
        }
        let usage = self.usage(client);
        let now = Instant::now();
        let mut used = usage.lock();
        let request_cost = limits.requests_per_second.map(|most| cost(SECOND, most));
        let refused = if limits.requests.is_some_and(|most| used.under_way >= most) {
            Some((ClientLimit::Requests, SECOND))
        } else if let Some(wait) = request_cost.and_then(|cost| used.requests.wait(now, cost, SECOND)) {
            Some((ClientLimit::RequestRate, wait))
        } else if limits.bytes_per_second.is_some() {
            used.bytes.wait(now, Duration::ZERO, SECOND).map(|wait| (ClientLimit::ByteRate, wait))
        } else {
            None
        };
        if let Some((limit, wait)) = refused {
            return Err(self.refuse(client, &mut used, limit, wait));
        }
        used.under_way += 1;
        if let Some(cost) = request_cost {
            used.requests.charge(now, cost);
        }
        drop(used);
        let allowance = FetchAllowance { table: self.clone(), client, usage, refused: Mutex::default() };
        Ok(Some(ClientRequest(Arc::new(allowance))))
    }

    /// True, and counted as a refusal, if a client that holds `held` connections may have no more. Calls `held` only
    /// under a limit.
    pub fn refuses_connection(&self, client: ClientId, held: impl FnOnce() -> usize) -> bool {
        let Some(most) = self.limits.load().connections.filter(|_| client != ClientId::Mirror) else { return false };
        let refused = u64::try_from(held()).unwrap_or(u64::MAX) >= u64::from(most);
        if refused {
            let usage = self.usage(client);
            self.refuse(client, &mut usage.lock(), ClientLimit::Connections, SECOND);
        }
        refused
    }

    /// Requests and connections that were refused since the start, by the key of the limit.
    pub fn counts(&self) -> [(&'static str, u64); ClientLimit::ALL.len()] {
        ClientLimit::ALL.map(|limit| (limit.key(), self.refused[limit as usize].load(Ordering::Relaxed)))
    }

    /// As [`ClientTable::counts`], without the limits that refused nothing.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.counts().into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Counts a refusal, and logs the first one of a client in a minute.
    fn refuse(&self, client: ClientId, used: &mut ClientUsage, limit: ClientLimit, retry_after: Duration) -> Refusal {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if used.logged_at.is_none_or(|at| now.duration_since(at) >= REFUSAL_LOG_INTERVAL) {
            used.logged_at = Some(now);
            let address = match client {
                ClientId::Address(address) => Some(tracing::field::display(address)),
                ClientId::Credential(_) | ClientId::Mirror => None,
            };
            tracing::warn!(client = address, limit = limit.key(), "a client has reached its limit");
        }
        Refusal::OverLimit { limit, retry_after }
    }

    fn usage(&self, client: ClientId) -> Arc<Mutex<ClientUsage>> {
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_CLIENTS_IN_TABLE && !clients.contains_key(&client) {
            let now = Instant::now();
            clients.retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.lock().is_unused(now));
            if clients.len() >= MAX_CLIENTS_IN_TABLE {
                clients.retain(|_, usage| Arc::strong_count(usage) > 1);
            }
        }
        clients.entry(client).or_default().clone()
    }
}

impl ClientUsage {
    fn is_unused(&self, now: Instant) -> bool {
        let rates = [self.requests, self.bytes, self.cold_misses, self.unknown_names];
        self.under_way == 0 && rates.iter().all(|rate| rate.is_unused(now))
    }
}

/// One request of a client that has limits, under way until this is dropped.
#[derive(Debug)]
pub struct ClientRequest(Arc<FetchAllowance>);

impl ClientRequest {
    /// What the request may fetch.
    pub fn allowance(&self) -> Arc<FetchAllowance> {
        self.0.clone()
    }

    /// Why something was not fetched for the request; `None` if nothing was refused.
    pub fn refused_fetch(&self) -> Option<Refusal> {
        *self.0.refused.lock()
    }

    /// Counts a name that does not exist.
    pub fn note_unknown_name(&self) {
        if let Some(most) = self.0.table.limits.load().unknown_names_per_minute {
            self.0.usage.lock().unknown_names.charge(Instant::now(), cost(MINUTE, most));
        }
    }

    /// Counts the bytes that the client was sent.
    pub fn note_bytes(&self, bytes: u64) {
        if let Some(rate) = self.0.table.limits.load().bytes_per_second {
            let nanos = u128::from(bytes) * SECOND.as_nanos() / u128::from(rate.0.max(1));
            let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.0.usage.lock().bytes.charge(Instant::now(), cost.min(MAX_DEBT));
        }
    }
}

impl Drop for ClientRequest {
    fn drop(&mut self) {
        self.0.usage.lock().under_way -= 1;
    }
}

/// Whether an upstream may be asked for what is not stored, on behalf of one request.
#[derive(Debug)]
pub struct FetchAllowance {
    table: Arc<ClientTable>,
    client: ClientId,
    usage: Arc<Mutex<ClientUsage>>,
    refused: Mutex<Option<Refusal>>,
}

impl FetchAllowance {
    /// Counts one cold miss, if the limits allow it.
    ///
    /// # Errors
    /// How long to wait, when the client has reached a limit.
    pub fn take(&self) -> Result<(), Duration> {
        let limits = self.table.limits.load();
        let now = Instant::now();
        let mut used = self.usage.lock();
        let miss_cost = limits.cold_misses_per_minute.map(|most| cost(MINUTE, most));
        let name_cost = limits.unknown_names_per_minute.map(|most| cost(MINUTE, most));
        let misses = miss_cost.and_then(|cost| used.cold_misses.wait(now, cost, MINUTE));
        let names = name_cost.and_then(|cost| used.unknown_names.wait(now, cost, MINUTE));
        let refused = misses.map(|wait| (ClientLimit::ColdMisses, wait));
        if let Some((limit, wait)) = refused.or(names.map(|wait| (ClientLimit::UnknownNames, wait))) {
            *self.refused.lock() = Some(self.table.refuse(self.client, &mut used, limit, wait));
            return Err(wait);
        }
        if let Some(cost) = miss_cost {
            used.cold_misses.charge(now, cost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> ClientId {
        ClientId::of_address(std::net::Ipv4Addr::from(number).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_over_a_rate_is_refused_until_time_has_passed_and_others_are_not() {
        let table = ClientTable::new(ClientLimits { requests_per_second: Some(5), ..ClientLimits::default() });
        for _ in 0..5 {
            assert!(table.begin(client(1)).expect("within the rate").is_some());
        }
        let refused = table.begin(client(1)).expect_err("over the rate");
        let Refusal::OverLimit { limit, retry_after } = refused else { panic!("{refused:?}") };
        assert_eq!((limit, retry_after.as_millis()), (ClientLimit::RequestRate, 200));
        table.begin(client(2)).expect("another client");
        tokio::time::advance(retry_after).await;
        table.begin(client(1)).expect("time has passed");
        assert_eq!(table.refused(), BTreeMap::from([("requests_per_second", 1)]));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_and_fetches_are_paid_for_later() {
        let limits = ClientLimits {
            requests: Some(1),
            bytes_per_second: Some(ByteSize(1000)),
            cold_misses_per_minute: Some(2),
            unknown_names_per_minute: Some(1),
            ..ClientLimits::default()
        };
        let table = ClientTable::new(limits);
        let request = table.begin(client(1)).expect("the first").expect("limited");
        assert!(table.begin(client(1)).is_err(), "a second one under way");
        let allowance = request.allowance();
        assert_eq!((allowance.take(), allowance.take()), (Ok(()), Ok(())));
        assert_eq!(allowance.take(), Err(Duration::from_secs(30)));
        assert!(request.refused_fetch().is_some());
        request.note_bytes(5000);
        drop(request);
        assert!(table.begin(client(1)).is_err(), "5 s of bytes, less the window of 1 s");
        tokio::time::advance(Duration::from_secs(4)).await;
        let request = table.begin(client(1)).expect("paid for").expect("limited");
        tokio::time::advance(MINUTE).await;
        request.note_unknown_name();
        assert_eq!(request.allowance().take(), Err(MINUTE));
    }

    #[tokio::test]
    async fn the_table_is_bounded_and_keeps_clients_with_requests() {
        let table = ClientTable::new(ClientLimits { requests: Some(9), ..ClientLimits::default() });
        let held = table.begin(client(0)).expect("a request");
        for number in 1..3 * u32::try_from(MAX_CLIENTS_IN_TABLE).expect("small") {
            drop(table.begin(client(number)).expect("a request"));
        }
        let clients = table.clients.lock();
        assert!(clients.len() <= MAX_CLIENTS_IN_TABLE && clients.contains_key(&client(0)), "{}", clients.len());
        drop(held);
    }
}
