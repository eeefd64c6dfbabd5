//! The package lists of upstreams: fetched whole and rarely, when a catalog is asked for, and kept in memory.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use crate::{
    cache::{
        Cache,
        policy::{Freshness, Policy, StaleUse, UpstreamMode},
    },
    http::cache_status::{CacheStatus, Fwd},
    origin::FetchError,
    package::CatalogPackage,
    peer::RequestTrace,
    registry::upstreams::Upstreams,
};

/// How long a list is fresh: it is fetched again at most this often.
const LIST_FRESH_PERIOD: Duration = Duration::from_secs(300);
/// Longest wait of one catalog request for the lists.
const MAX_LIST_WAIT: Duration = Duration::from_secs(3);
/// Longest time of one fetch.
const LIST_FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed fetch; it doubles with every further failure, up to [`LIST_FRESH_PERIOD`].
const FIRST_LIST_PAUSE: Duration = Duration::from_secs(10);

/// Most packages of one list that are kept.
const MAX_FETCHED_PACKAGES: usize = 20_000;
/// Most bytes of one list that are kept, estimated.
const MAX_FETCHED_BYTES: usize = 16 << 20;
/// Characters of a text that are kept.
const MAX_FACT_CHARS: usize = 1_000;
/// Number of tags, and of providers, that are kept.
const MAX_FACT_WORDS: usize = 50;

/// The package list of an upstream.
#[derive(Debug)]
pub(super) struct FetchedList {
    pub(super) packages: Vec<Arc<CatalogPackage>>,
    pub(super) fetched_at: Timestamp,
}

/// An upstream's list. Two are equal if they come from the same fetch.
#[derive(Clone, Debug)]
pub(super) struct UpstreamList {
    pub(super) upstream: Arc<str>,
    pub(super) list: Arc<FetchedList>,
}

impl PartialEq for UpstreamList {
    fn eq(&self, other: &Self) -> bool {
        self.upstream == other.upstream && Arc::ptr_eq(&self.list, &other.list)
    }
}

/// The usable lists of some upstreams.
pub(super) struct ListsAnswer {
    pub(super) lists: Vec<UpstreamList>,
    /// What happened to the list that says most about the answer.
    pub(super) status: CacheStatus,
}

/// Keeps the last list of each upstream.
pub(super) struct FetchedLists {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    by_upstream: Mutex<BTreeMap<Arc<str>, ListState>>,
}

#[derive(Default)]
struct ListState {
    last: Option<Arc<FetchedList>>,
    /// Closed when the fetch has ended.
    running: Option<watch::Receiver<()>>,
    /// Failures since the last success.
    failures: u32,
    /// No fetch starts before.
    paused_until: Option<Timestamp>,
}

/// What a request does about one list.
enum ListUse {
    /// Takes what is there.
    Stored,
    /// Takes what is there while a fetch runs.
    WhileFetching,
    /// Waits for the fetch.
    Wait { running: watch::Receiver<()>, collapsed: bool },
}

impl FetchedLists {
    pub(super) fn new(cache: Arc<Cache>, upstreams: Upstreams) -> Self {
        Self { cache, upstreams, by_upstream: Mutex::default() }
    }

    /// The lists of these upstreams. Starts the fetches that are due, and waits for those without which there is no list
    /// to use, at most [`MAX_LIST_WAIT`].
    pub(super) async fn get(self: &Arc<Self>, upstreams: impl Iterator<Item = &Arc<str>>) -> ListsAnswer {
        let uses: Vec<(Arc<str>, ListUse)> =
            upstreams.map(|upstream| (upstream.clone(), self.begin(upstream))).collect();
        let ends = uses.iter().filter_map(|(_, list_use)| match list_use {
            ListUse::Wait { running, .. } => Some(running.clone()),
            _ => None,
        });
        let ends = ends.map(async |mut running| while running.changed().await.is_ok() {});
        // After the wait, the lists in memory are used; the fetches go on.
        let _ = timeout(MAX_LIST_WAIT, join_all(ends)).await;
        let mut found = ListsAnswer { lists: Vec::new(), status: CacheStatus::hit(None) };
        for (upstream, list_use) in uses {
            let list = self.by_upstream.lock().get(&upstream).and_then(|state| state.last.clone());
            let status = self.status(list_use, list.as_deref());
            if rank(&status) > rank(&found.status) {
                found.status = status;
            }
            let usable = list.filter(|list| self.is_usable(list));
            found.lists.extend(usable.map(|list| UpstreamList { upstream, list }));
        }
        found
    }

    /// The lists of these upstreams that are in memory and not too old to be used. Starts no fetch.
    pub(super) fn usable<'a>(&self, upstreams: impl Iterator<Item = &'a Arc<str>>) -> Vec<UpstreamList> {
        let states = self.by_upstream.lock();
        let list = |upstream: &Arc<str>| {
            let list = states.get(upstream)?.last.clone().filter(|list| self.is_usable(list))?;
            Some(UpstreamList { upstream: upstream.clone(), list })
        };
        upstreams.filter_map(list).collect()
    }

    fn policy(&self) -> Policy {
        Policy { fresh: LIST_FRESH_PERIOD, ..self.cache.document_config().releases(false) }
    }

    fn freshness(&self, list: &FetchedList) -> Freshness {
        self.policy().freshness(self.cache.clock().since(list.fetched_at))
    }

    /// False for a list that is too old to be used even while its upstream fails.
    fn is_usable(&self, list: &FetchedList) -> bool {
        !matches!(self.freshness(list), Freshness::Stale { usable: StaleUse::Never, .. })
    }

    /// Decides about one list, and starts its fetch if that is due.
    fn begin(self: &Arc<Self>, upstream: &Arc<str>) -> ListUse {
        let mut states = self.by_upstream.lock();
        let state = states.entry(upstream.clone()).or_default();
        let usable_now = match state.last.as_ref().map(|list| self.freshness(list)) {
            Some(Freshness::Fresh { .. } | Freshness::Stale { usable: StaleUse::AsFresh, .. }) => {
                return ListUse::Stored;
            }
            Some(Freshness::Stale { usable, .. }) => usable == StaleUse::WhileRevalidating,
            None => false,
        };
        // The channel of a fetch that was aborted is closed as well.
        let running = state.running.take().filter(|running| running.has_changed().is_ok());
        let collapsed = running.is_some();
        let running = running.or_else(|| self.start(upstream, state));
        state.running.clone_from(&running);
        match running {
            None => ListUse::Stored,
            Some(_) if usable_now => ListUse::WhileFetching,
            Some(running) => ListUse::Wait { running, collapsed },
        }
    }

    /// Starts a fetch, unless the mirror is offline or a fetch has failed a moment ago.
    fn start(self: &Arc<Self>, upstream: &Arc<str>, state: &ListState) -> Option<watch::Receiver<()>> {
        let is_paused = state.paused_until.is_some_and(|until| self.cache.clock().now() < until);
        if is_paused || self.policy().mode == UpstreamMode::Offline {
            return None;
        }
        let source = self.upstreams.by_name(upstream)?.clone();
        let (ended, running) = watch::channel(());
        let lists = self.clone();
        let upstream = upstream.clone();
        let trace = RequestTrace::current();
        self.cache.spawn(async move {
            let fetched = timeout(LIST_FETCH_TIMEOUT, trace.scope(source.catalog())).await;
            let fetched = fetched.unwrap_or(Err(FetchError::Timeout("no complete list of packages in time")));
            lists.end(&upstream, fetched);
            drop(ended);
        });
        Some(running)
    }

    fn end(&self, upstream: &Arc<str>, fetched: Result<Vec<CatalogPackage>, FetchError>) {
        let now = self.cache.clock().now();
        let fetched = fetched.map(|packages| bounded(upstream, packages));
        let mut states = self.by_upstream.lock();
        let state = states.entry(upstream.clone()).or_default();
        match fetched {
            Ok(packages) => {
                *state = ListState {
                    last: Some(Arc::new(FetchedList { packages, fetched_at: now })),
                    running: state.running.take(),
                    ..ListState::default()
                };
            }
            Err(error) => {
                let pause = pause(state.failures, &error);
                tracing::warn!(%upstream, %error, pause_s = pause.as_secs(), "cannot fetch the list of packages");
                state.failures = state.failures.saturating_add(1);
                state.paused_until = now.checked_add(pause).ok();
            }
        }
    }

    fn status(&self, list_use: ListUse, list: Option<&FetchedList>) -> CacheStatus {
        let ttl = |of: Duration| i64::try_from(of.as_secs()).unwrap_or(i64::MAX);
        let freshness = list.map(|list| self.freshness(list));
        match (list_use, freshness) {
            // The list of an upstream without a catalog is empty, and no request was sent for it.
            (ListUse::Stored | ListUse::Wait { .. }, Some(Freshness::Fresh { .. }))
                if list.is_some_and(|list| list.packages.is_empty()) =>
            {
                CacheStatus::hit(None)
            }
            (ListUse::Wait { collapsed: true, .. }, Some(Freshness::Fresh { .. })) => {
                CacheStatus::forwarded(Fwd::UriMiss).collapsed()
            }
            (ListUse::Wait { .. }, Some(Freshness::Fresh { .. })) => {
                CacheStatus::forwarded(Fwd::UriMiss).status(200).stored()
            }
            (ListUse::Wait { .. }, Some(Freshness::Stale { over, .. })) => {
                CacheStatus::forwarded(Fwd::Stale).used_stale().ttl(-ttl(over)).detail("stale-if-error")
            }
            (ListUse::Wait { .. }, None) => CacheStatus::forwarded(Fwd::UriMiss).detail("stored-packages-only"),
            (_, Some(Freshness::Fresh { ttl: left })) => CacheStatus::hit(Some(ttl(left))),
            (ListUse::WhileFetching, Some(Freshness::Stale { over, .. })) => {
                CacheStatus::hit(Some(-ttl(over))).detail("stale-while-revalidate")
            }
            (_, Some(Freshness::Stale { over, .. })) => {
                let detail = match self.policy().mode {
                    UpstreamMode::Online => "stale-if-error",
                    mode => mode.name(),
                };
                CacheStatus::hit(Some(-ttl(over))).detail(detail)
            }
            (_, None) => CacheStatus::hit(None).detail("stored-packages-only"),
        }
    }
}

/// How much a status says about an answer that several lists are part of.
fn rank(status: &CacheStatus) -> u8 {
    match status.ttl {
        _ if status.fwd.is_some() => 3,
        Some(ttl) if ttl < 0 => 2,
        _ if status.detail.is_some() => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// How long no fetch starts after a failure that followed `failures` others.
fn pause(failures: u32, error: &FetchError) -> Duration {
    let pause = FIRST_LIST_PAUSE.saturating_mul(1 << failures.min(10)).min(LIST_FRESH_PERIOD);
    match error {
        FetchError::Throttled { retry_after } | FetchError::CoolingDown { retry_after, .. } => pause.max(*retry_after),
        _ => pause,
    }
}

/// The packages with their texts truncated, as many as the limits allow.
fn bounded(upstream: &str, packages: Vec<CatalogPackage>) -> Vec<Arc<CatalogPackage>> {
    let total = packages.len();
    let mut kept = Vec::with_capacity(total.min(MAX_FETCHED_PACKAGES));
    let mut bytes = 0;
    for mut package in packages.into_iter().take(MAX_FETCHED_PACKAGES) {
        truncate(&mut package);
        bytes += weight(&package);
        if bytes > MAX_FETCHED_BYTES {
            break;
        }
        kept.push(Arc::new(package));
    }
    if kept.len() < total {
        tracing::warn!(upstream, total, kept = kept.len(), "the list of packages is longer than the mirror keeps");
    }
    kept
}

fn truncate(package: &mut CatalogPackage) {
    let text = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(MAX_FACT_CHARS) {
            text.truncate(end);
        }
        text.shrink_to_fit();
    };
    let CatalogPackage { name, kind, description, category, tags, provider, download: _, user, organization } = package;
    text(name);
    [kind, description, category, user, organization].into_iter().flatten().for_each(text);
    for words in [tags, provider] {
        words.truncate(MAX_FACT_WORDS);
        words.iter_mut().for_each(text);
        words.shrink_to_fit();
    }
}

/// An estimate of its size in bytes.
fn weight(package: &CatalogPackage) -> usize {
    let CatalogPackage { name, kind, description, category, tags, provider, download: _, user, organization } = package;
    let texts = [kind, description, category, user, organization].into_iter().flatten();
    let texts = texts.chain(tags).chain(provider).chain([name]);
    size_of::<CatalogPackage>() + texts.map(|text| text.len() + 2 * size_of::<String>()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, description: &str) -> CatalogPackage {
        CatalogPackage { name: name.into(), description: Some(description.into()), ..CatalogPackage::default() }
    }

    #[test]
    fn a_hostile_list_is_kept_within_its_limits() {
        let long = "\u{4e2d}".repeat(MAX_FACT_CHARS + 100);
        let one = CatalogPackage {
            tags: vec![long.clone(); MAX_FACT_WORDS + 5],
            provider: vec![long.clone(); MAX_FACT_WORDS + 5],
            ..package(&long, &long)
        };
        let kept = bounded("official", vec![one; 100]);
        let bytes: usize = kept.iter().map(|package| weight(package)).sum();
        assert!(bytes <= MAX_FETCHED_BYTES && !kept.is_empty() && kept.len() < 100, "{bytes} {}", kept.len());
        assert_eq!((kept[0].tags.len(), kept[0].provider.len()), (MAX_FACT_WORDS, MAX_FACT_WORDS));
        assert_eq!(kept[0].description.as_ref().map(|text| text.chars().count()), Some(MAX_FACT_CHARS));
        let many = vec![package("a", ""); MAX_FETCHED_PACKAGES + 5];
        assert_eq!(bounded("official", many).len(), MAX_FETCHED_PACKAGES);
    }

    #[test]
    fn the_pause_after_failures_grows_to_the_interval_between_fetches() {
        let pauses: Vec<u64> = (0..8).map(|failures| pause(failures, &FetchError::Status(500)).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
        let throttled = FetchError::Throttled { retry_after: Duration::from_secs(900) };
        assert_eq!(pause(0, &throttled).as_secs(), 900);
    }
}
