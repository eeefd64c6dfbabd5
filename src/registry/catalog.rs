//! The catalog: packages with a pinned archive, packages that the configuration names, and the packages that upstreams
//! list, as far as they may be shown.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::{
    RegistryError, archive_source::ArchiveSource, authorize::Authorizer, hosting::HostedPackages, upstreams::Upstreams,
    version_rules::VersionRules,
};
use crate::{
    blocking::spawn_blocking,
    cache::Cache,
    http::cache_status::CacheStatus,
    package::{CatalogPackage, PackageId, PackageName},
};

mod fetched;
mod known;
pub(crate) mod overview;
mod search_text;

use fetched::{FetchedList, FetchedLists, UpstreamList};
use known::{KnownPackages, ShownPackages};
use overview::PackageOverview;
pub(crate) use search_text::{SearchTexts, SearchWords};

/// Longest making of a catalog that a page waits for while there is an older one.
const MAX_AWAITED_MAKING: Duration = Duration::from_millis(50);

/// A package that may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogEntry {
    /// The package; a repository in lower case when only the key of a pin names it.
    pub package: PackageId,
    /// What its upstream's list says of it, else the manifest of its newest pinned version. Its `name` is unused.
    pub facts: Arc<CatalogPackage>,
    /// The highest pinned tag of it that the rules about the names of versions allow; `None` without one.
    pub newest: Option<String>,
    /// True when an archive of it is pinned or the configuration names it; false when only its upstream lists it.
    pub is_known: bool,
}

/// The packages that may be shown, each once, in order of upstream and name.
#[derive(Debug)]
pub struct Catalog {
    /// The packages.
    pub packages: Vec<CatalogEntry>,
    /// What a search finds each of them by, in the same order.
    pub(crate) texts: SearchTexts,
}

/// A catalog and how it was found.
#[derive(Clone, Debug)]
pub struct CatalogAnswer {
    /// The catalog. Two answers from the same content share one.
    pub catalog: Arc<Catalog>,
    /// The age of its oldest part.
    pub age: Duration,
    /// What happened to the lists of the upstreams.
    pub status: CacheStatus,
}

/// Builds the catalog.
pub struct CatalogService {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    lists: Arc<FetchedLists>,
    known: Arc<KnownPackages>,
    last: Mutex<Option<MergedCatalog>>,
    hosted: Option<Arc<HostedPackages>>,
    last_hosted: Mutex<Option<HostedCatalog>>,
    /// Held while [`CatalogService::list_without_fetching`] makes a catalog.
    refreshing: Arc<tokio::sync::Mutex<()>>,
    overview: PackageOverview,
}

/// The published packages as a list, and the number of changes that it was made at.
struct HostedCatalog {
    changes: u64,
    list: UpstreamList,
}

/// The last catalog and what it was merged from.
struct MergedCatalog {
    known: Arc<ShownPackages>,
    lists: Vec<UpstreamList>,
    catalog: Arc<Catalog>,
    /// How long the merging took.
    duration: Duration,
}

impl CatalogService {
    pub(super) fn new(
        cache: Arc<Cache>,
        authorizer: Arc<Authorizer>,
        archives: Arc<ArchiveSource>,
        upstreams: Upstreams,
        rules: Arc<VersionRules>,
        overview: PackageOverview,
    ) -> Self {
        let hosted = upstreams.hosting().cloned();
        let lists = Arc::new(FetchedLists::new(cache.clone(), upstreams));
        let known = Arc::new(KnownPackages::new(cache.clone(), authorizer.clone(), archives, rules));
        Self {
            cache,
            authorizer,
            lists,
            known,
            last: Mutex::default(),
            hosted,
            last_hosted: Mutex::default(),
            refreshing: Arc::default(),
            overview,
        }
    }

    /// What is known of single packages.
    pub(crate) fn overview(&self) -> &PackageOverview {
        &self.overview
    }

    /// The catalog. `named` are the packages that the configuration names, `upstreams` those whose lists count.
    ///
    /// Waits at most 3 s for the list of an upstream; a fetch that takes longer goes on. Without a list, an upstream's
    /// packages are those that are known. The pins are read beside requests: one that finds an older collection waits for
    /// the next at most half a second. A package that may be private is left out until a check has shown that it is
    /// public. Checks that take longer than the answer waits go on in the background.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub async fn list(
        &self,
        named: impl Iterator<Item = PackageId>,
        upstreams: &[Arc<str>],
    ) -> Result<CatalogAnswer, RegistryError> {
        let asked = upstreams.iter().filter(|upstream| self.authorizer.may_allow_plain_names(upstream));
        let (known, fetched) = tokio::join!(self.known.get(named), self.lists.get(asked));
        let known = known?;
        let clock = self.cache.clock();
        let ages = fetched.lists.iter().map(|list| clock.since(list.list.fetched_at));
        let age = ages.chain([clock.since(known.collected_at)]).max().unwrap_or_default();
        let lists = fetched.lists.into_iter().chain(self.list_hosted().await).collect();
        Ok(CatalogAnswer { catalog: self.merge_cached(known.packages, lists).await?, age, status: fetched.status })
    }

    /// The catalog with the upstreams' lists that are in memory; fetches none. Waits at most `patience` for a new catalog,
    /// then returns the older one; returns that at once where making one takes longer than 50 ms. `None` while there is no
    /// catalog yet.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(crate) async fn list_without_fetching(
        self: &Arc<Self>,
        named: Vec<PackageId>,
        upstreams: Vec<Arc<str>>,
        patience: Duration,
    ) -> Result<Option<Arc<Catalog>>, RegistryError> {
        let last = || self.last.lock().as_ref().map(|merged| merged.catalog.clone());
        let refreshing = match self.refreshing.clone().try_lock_owned() {
            Ok(refreshing) => refreshing,
            // While another request's catalog is made, the older one is the answer.
            Err(_) if last().is_some() => return Ok(last()),
            Err(_) => match timeout(patience, self.refreshing.clone().lock_owned()).await {
                Ok(refreshing) => refreshing,
                Err(_) => return Ok(None),
            },
        };
        let this = self.clone();
        let (sender, receiver) = oneshot::channel();
        self.cache.spawn(async move {
            let catalog = this.make_without_fetching(named, &upstreams).await;
            drop(refreshing);
            // The request may have gone on without it.
            let _ = sender.send(catalog);
        });
        let is_slow = self.known.duration().max(self.merging_duration()) > MAX_AWAITED_MAKING;
        if let Some(last) = last().filter(|_| is_slow) {
            return Ok(Some(last));
        }
        match timeout(patience, receiver).await {
            Ok(Ok(Ok(catalog))) => Ok(Some(catalog)),
            Ok(Ok(Err(RegistryError::NotCollected))) | Ok(Err(_)) | Err(_) => Ok(last()),
            Ok(Ok(Err(error))) => Err(error),
        }
    }

    async fn make_without_fetching(
        &self,
        named: Vec<PackageId>,
        upstreams: &[Arc<str>],
    ) -> Result<Arc<Catalog>, RegistryError> {
        let asked = upstreams.iter().filter(|upstream| self.authorizer.may_allow_plain_names(upstream));
        let lists = self.lists.usable(asked);
        let known = self.known.recent(named).await?;
        let lists = lists.into_iter().chain(self.list_hosted().await).collect();
        self.merge_cached(known.packages, lists).await
    }

    /// How long the last merging took.
    fn merging_duration(&self) -> Duration {
        self.last.lock().as_ref().map(|merged| merged.duration).unwrap_or_default()
    }

    /// The published packages. The last list is kept for as long as nothing changes.
    async fn list_hosted(&self) -> Option<UpstreamList> {
        let hosted = self.hosted.as_ref()?;
        // Read before the packages: a list that is made during a change is made again.
        let changes = hosted.store().changes();
        if let Some(last) = self.last_hosted.lock().as_ref().filter(|last| last.changes == changes) {
            return Some(last.list.clone());
        }
        let list = FetchedList { packages: hosted.catalog().await, fetched_at: self.cache.clock().now() };
        let list = UpstreamList { upstream: hosted.upstream().clone(), list: Arc::new(list) };
        *self.last_hosted.lock() = Some(HostedCatalog { changes, list: list.clone() });
        Some(list)
    }

    /// The catalog of known packages and lists. The last one is kept, for as long as both are the same.
    ///
    /// # Errors
    /// `NotCollected` when the merging panics.
    async fn merge_cached(
        &self,
        known: Arc<ShownPackages>,
        lists: Vec<UpstreamList>,
    ) -> Result<Arc<Catalog>, RegistryError> {
        if let Some(catalog) = self.last_of(&known, &lists) {
            return Ok(catalog);
        }
        let begun = Instant::now();
        let merging = {
            let known = known.clone();
            let lists = lists.clone();
            let authorizer = self.authorizer.clone();
            // Takes seconds among many packages.
            spawn_blocking(move || {
                let is_allowed = |package: &PackageId| authorizer.check_policy(package).is_ok();
                Arc::new(Catalog::new(merge(&known, &lists, is_allowed)))
            })
        };
        let catalog = merging.await.map_err(|_| RegistryError::NotCollected)?;
        // Another request may have made the same catalog: both share that one.
        if let Some(catalog) = self.last_of(&known, &lists) {
            return Ok(catalog);
        }
        let duration = begun.elapsed();
        *self.last.lock() = Some(MergedCatalog { known, lists, catalog: catalog.clone(), duration });
        Ok(catalog)
    }

    /// The last catalog, if it was merged from exactly these.
    fn last_of(&self, known: &Arc<ShownPackages>, lists: &[UpstreamList]) -> Option<Arc<Catalog>> {
        let last = self.last.lock();
        let merged = last.as_ref().filter(|merged| Arc::ptr_eq(&merged.known, known) && merged.lists == lists);
        merged.map(|merged| merged.catalog.clone())
    }
}

impl Catalog {
    fn new(packages: Vec<CatalogEntry>) -> Self {
        let mut texts = SearchTexts::default();
        for entry in &packages {
            texts.push(&entry.package.spec(), entry.facts.description.as_deref());
        }
        Self { packages, texts }
    }

    /// The entry of a package.
    pub(crate) fn find(&self, package: &PackageId) -> Option<&CatalogEntry> {
        let at = self.position_after(&package.key_prefix());
        let entry = self.packages.get(at.checked_sub(1)?)?;
        (entry.package.key_prefix() == package.key_prefix()).then_some(entry)
    }

    /// The index of the first package after `key`, a [`PackageId::key_prefix`].
    pub(crate) fn position_after(&self, key: &str) -> usize {
        self.packages.partition_point(|entry| *entry.package.key_prefix() <= *key)
    }
}

/// What a list says of a package, with what the list lacks from its manifest.
fn add_manifest(listed: &Arc<CatalogPackage>, manifest: &CatalogPackage) -> Arc<CatalogPackage> {
    let with = CatalogPackage {
        kind: listed.kind.clone().or_else(|| manifest.kind.clone()),
        description: listed.description.clone().or_else(|| manifest.description.clone()),
        category: listed.category.clone().or_else(|| manifest.category.clone()),
        tags: if listed.tags.is_empty() { manifest.tags.clone() } else { listed.tags.clone() },
        organization: listed.organization.clone().or_else(|| manifest.organization.clone()),
        provider: if listed.provider.is_empty() { manifest.provider.clone() } else { listed.provider.clone() },
        ..CatalogPackage::clone(listed)
    };
    if with == **listed { listed.clone() } else { Arc::new(with) }
}

/// The known packages, and the listed ones that are allowed and not hidden.
fn merge(known: &ShownPackages, lists: &[UpstreamList], is_allowed: impl Fn(&PackageId) -> bool) -> Vec<CatalogEntry> {
    let by_id = |entry: &CatalogEntry| (entry.package.key_prefix(), entry.clone());
    let mut packages: BTreeMap<String, CatalogEntry> = known.shown.iter().map(by_id).collect();
    for UpstreamList { upstream, list } in lists {
        for facts in &list.packages {
            let Ok(name) = PackageName::plain(&facts.name) else { continue };
            let package = PackageId { upstream: upstream.clone(), name };
            let id = package.key_prefix();
            if known.hidden.contains(&id) || !is_allowed(&package) {
                continue;
            }
            match packages.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(CatalogEntry { package, facts: facts.clone(), newest: None, is_known: false });
                }
                // The first row of a name counts, as for a client that reads the list from its beginning.
                Entry::Occupied(mut entry) if entry.get().facts.name.is_empty() => {
                    let entry = entry.get_mut();
                    entry.facts = add_manifest(facts, &entry.facts);
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    packages.into_values().collect()
}

#[cfg(test)]
mod tests;
