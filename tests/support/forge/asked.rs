//! What the forge was asked.

use super::*;

impl Forge {
    /// All requests, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.log.all()
    }

    /// Calls `observer` for every request whose response begins. Only the first observer is used.
    pub fn observe(&self, observer: impl Fn(&Seen) + Send + Sync + 'static) {
        let _ = self.state.observer.set(Box::new(observer));
    }

    pub fn count(&self, fits: impl Fn(&Seen) -> bool) -> usize {
        self.requests().iter().filter(|seen| fits(seen)).count()
    }

    /// Number of requests of one kind.
    pub fn count_of(&self, route: Route) -> usize {
        self.count(|seen| seen.route() == route)
    }

    /// Number of requests by kind, without kinds that were not asked for.
    pub fn counts(&self) -> BTreeMap<Route, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.requests() {
            *counts.entry(seen.route()).or_default() += 1;
        }
        counts
    }

    /// Enables or disables the log of requests; initially enabled.
    pub fn keep_log(&self, keep: bool) {
        self.state.log.off.store(!keep, Ordering::Release);
    }

    pub fn clear_log(&self) {
        self.state.log.clear();
    }

    /// Waits until the log has a request that fits, which may be an earlier one. Checks again when a request is answered.
    pub async fn wait_for_request(&self, fits: impl Fn(&Seen) -> bool) -> Seen {
        self.state.log.wait_for(fits).await
    }

    /// Requests to the archive host and the object storage that carry a token or a signature.
    pub fn leaks(&self) -> Vec<Seen> {
        let mut seen = self.requests();
        seen.retain(|seen| {
            matches!(seen.host, Host::Archive | Host::Storage)
                && storage::SECRETS.iter().any(|name| seen.headers.contains_key(*name))
        });
        seen
    }

    /// Number of connections accepted on all ports.
    pub fn connections(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.accepted.load(Ordering::Acquire)).sum()
    }
}
