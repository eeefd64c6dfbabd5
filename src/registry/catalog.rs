//! The catalog: packages with a pinned archive, packages that the configuration names, and the packages that upstreams
//! list, as far as they may be shown.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::{
    RegistryError,
    archive_source::ArchiveSource,
    authorize::{Authorizer, Visibility},
    keys::{parse_archive_key, parse_identity_key, parse_package},
    metadata::manifest,
    upstreams::Upstreams,
};
use crate::{
    cache::{Cache, CacheFailure},
    entry::Key,
    http::cache_status::CacheStatus,
    package::{CatalogPackage, PackageId, PackageName, PublishManifest, semantic},
    upstream::GitRef,
};

mod fetched;

use fetched::{FetchedLists, UpstreamList};

/// The known packages are collected again after this time: that walks over all pins.
const KNOWN_MAX_AGE: Duration = Duration::from_secs(30);
/// Longest wait of one catalog request for upstreams that are asked whether packages are private.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest number of packages that are checked at the same time.
const MAX_VISIBILITY_CHECKS: usize = 8;

/// A package that may be shown.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// The package; a repository in lower case when only the key of a pin names it.
    pub package: PackageId,
    /// What its upstream's list says of it, else the manifest of its newest pinned version. Its `name` is unused.
    pub facts: Arc<CatalogPackage>,
    /// True when an archive of it is pinned or the configuration names it; false when only its upstream lists it.
    pub is_known: bool,
}

/// The packages that may be shown, each once, in order of upstream and name.
#[derive(Debug)]
pub struct Catalog {
    /// The packages.
    pub packages: Vec<CatalogEntry>,
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
    archives: Arc<ArchiveSource>,
    lists: Arc<FetchedLists>,
    known: Mutex<Option<Arc<KnownPackages>>>,
    last: parking_lot::Mutex<Option<MergedCatalog>>,
}

/// The packages that are pinned or configured.
struct KnownPackages {
    shown: Vec<CatalogEntry>,
    /// Those that must not be shown.
    hidden: BTreeSet<String>,
    collected_at: Timestamp,
}

/// The last catalog and what it was merged from.
struct MergedCatalog {
    known: Arc<KnownPackages>,
    lists: Vec<UpstreamList>,
    catalog: Arc<Catalog>,
}

impl CatalogService {
    pub(super) fn new(
        cache: Arc<Cache>,
        authorizer: Arc<Authorizer>,
        archives: Arc<ArchiveSource>,
        upstreams: Upstreams,
    ) -> Self {
        let lists = Arc::new(FetchedLists::new(cache.clone(), upstreams));
        Self { cache, authorizer, archives, lists, known: Mutex::default(), last: parking_lot::Mutex::default() }
    }

    /// The catalog. `named` are the packages that the configuration names, `upstreams` those whose lists count.
    ///
    /// Waits at most 3 s for the list of an upstream; a fetch that takes longer goes on. Without a list, an upstream's
    /// packages are those that are known. A package that may be private is left out until a check has shown that it is
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
        let (known, fetched) = tokio::join!(self.known(named), self.lists.get(asked));
        let known = known?;
        let clock = self.cache.clock();
        let ages = fetched.lists.iter().map(|list| clock.since(list.list.fetched_at));
        let age = ages.chain([clock.since(known.collected_at)]).max().unwrap_or_default();
        Ok(CatalogAnswer { catalog: self.merged(known, fetched.lists), age, status: fetched.status })
    }

    /// The catalog of known packages and lists. The last one is kept, for as long as both are the same.
    fn merged(&self, known: Arc<KnownPackages>, lists: Vec<UpstreamList>) -> Arc<Catalog> {
        let mut last = self.last.lock();
        if let Some(merged) = &*last
            && Arc::ptr_eq(&merged.known, &known)
            && merged.lists == lists
        {
            return merged.catalog.clone();
        }
        let is_allowed = |package: &PackageId| self.authorizer.check_policy(package).is_ok();
        let catalog = Arc::new(Catalog { packages: merge(&known, &lists, is_allowed) });
        *last = Some(MergedCatalog { known, lists, catalog: catalog.clone() });
        catalog
    }

    async fn known(&self, named: impl Iterator<Item = PackageId>) -> Result<Arc<KnownPackages>, RegistryError> {
        let mut last = self.known.lock().await;
        let clock = self.cache.clock();
        if let Some(known) = last.as_ref().filter(|known| clock.since(known.collected_at) < KNOWN_MAX_AGE) {
            return Ok(known.clone());
        }
        let collected_at = clock.now();
        let pinned = self.cache.pins().keys().await;
        let pinned = pinned.map_err(|error| CacheFailure { error, status: CacheStatus::generated() })?;
        let mut candidates = newest_tags(&pinned);
        for package in named {
            candidates.entry(package.key_prefix()).or_insert((package, None));
        }
        let listed = self.listed(&candidates).await;
        let mut known = KnownPackages { shown: Vec::new(), hidden: BTreeSet::new(), collected_at };
        for (id, (package, tag)) in candidates {
            if listed.contains(&id) {
                let facts = Arc::new(self.facts(&package, tag).await);
                known.shown.push(CatalogEntry { package, facts, is_known: true });
            } else {
                known.hidden.insert(id);
            }
        }
        Ok(last.insert(Arc::new(known)).clone())
    }

    /// The candidates that may be shown.
    async fn listed(&self, candidates: &BTreeMap<String, (PackageId, Option<String>)>) -> BTreeSet<String> {
        let mut listed = BTreeSet::new();
        let mut unknown = Vec::new();
        for (id, (package, _)) in candidates {
            match self.authorizer.visibility(package).await {
                Visibility::Visible => drop(listed.insert(id.clone())),
                Visibility::Hidden => {}
                Visibility::Unknown { listed: by_default } => {
                    if by_default {
                        listed.insert(id.clone());
                    }
                    unknown.push((id.clone(), package.clone()));
                }
            }
        }
        for (id, public) in self.check(unknown).await {
            if public {
                listed.insert(id);
            } else {
                listed.remove(&id);
            }
        }
        listed
    }

    /// Authorizes packages, and returns what is decided within [`VISIBILITY_TIMEOUT`].
    async fn check(&self, unknown: Vec<(String, PackageId)>) -> Vec<(String, bool)> {
        let checks =
            stream::iter(unknown).map(async |(id, package)| (id, self.authorizer.authorize(&package).await.is_ok()));
        let timeout = tokio::time::sleep(VISIBILITY_TIMEOUT);
        let checks = checks.buffer_unordered(MAX_VISIBILITY_CHECKS).take_until(timeout);
        pin!(checks).collect().await
    }

    /// What the manifest of a pinned version says; nothing without one.
    async fn facts(&self, package: &PackageId, tag: Option<String>) -> CatalogPackage {
        let Some(tag) = tag else { return CatalogPackage::default() };
        let pin = self.archives.pin(package, &GitRef::Tag(tag)).await.ok().flatten();
        facts_of(pin.map(|pin| manifest(&pin.verified)).unwrap_or_default())
    }
}

/// The part of a manifest that a catalog shows.
pub(super) fn facts_of(manifest: PublishManifest) -> CatalogPackage {
    CatalogPackage {
        kind: manifest.kind,
        description: manifest.description,
        category: manifest.category,
        tags: manifest.tags,
        provider: manifest.provider,
        organization: manifest.organization,
        ..CatalogPackage::default()
    }
}

/// What a list says of a package, completed by its manifest.
fn completed(listed: &Arc<CatalogPackage>, manifest: &CatalogPackage) -> Arc<CatalogPackage> {
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
fn merge(known: &KnownPackages, lists: &[UpstreamList], is_allowed: impl Fn(&PackageId) -> bool) -> Vec<CatalogEntry> {
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
                    entry.insert(CatalogEntry { package, facts: facts.clone(), is_known: false });
                }
                // The first row of a name counts, as for a client that reads the list from its beginning.
                Entry::Occupied(mut entry) if entry.get().facts.name.is_empty() => {
                    let entry = entry.get_mut();
                    entry.facts = completed(facts, &entry.facts);
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    packages.into_values().collect()
}

/// The packages of archive keys by [`PackageId::key_prefix`], each with its newest tag: the highest semantic version,
/// else the last by name.
fn newest_tags(pinned: &[Key]) -> BTreeMap<String, (PackageId, Option<String>)> {
    let mut packages = BTreeMap::new();
    for key in pinned {
        let (package, tag) = match parse_archive_key(key) {
            Some((package, GitRef::Tag(tag))) => (package, Some(tag)),
            Some((package, _)) => (package, None),
            // The number of a repository is pinned with its first version.
            None if parse_identity_key(key).is_some() => continue,
            None => match parse_package(key) {
                Some(package) => (package, None),
                None => continue,
            },
        };
        match packages.entry(package.key_prefix()) {
            Entry::Vacant(entry) => drop(entry.insert((package, tag))),
            Entry::Occupied(mut entry) => {
                let (_, newest) = entry.get_mut();
                let rank = |tag: &Option<String>| tag.as_ref().map(|tag| (semantic(tag), tag.clone()));
                if rank(&tag) > rank(newest) {
                    *newest = tag;
                }
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests;
