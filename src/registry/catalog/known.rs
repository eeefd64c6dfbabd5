//! The packages that are pinned or configured. Collecting them walks over all pins, so it is done beside requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedMutexGuard, oneshot},
    time::timeout,
};

use super::CatalogEntry;
use crate::{
    cache::{Cache, CacheFailure},
    entry::Key,
    http::cache_status::CacheStatus,
    package::{CatalogPackage, PackageId, semantic},
    registry::{
        RegistryError,
        archive_source::ArchiveSource,
        authorize::{Authorizer, Visibility},
        keys::{parse_archive_key, parse_identity_key, parse_package},
        release_facts::manifest,
        version_rules::{KnownRules, VersionRules},
    },
    upstream::GitRef,
};

/// The known packages are collected again after this time ...
pub(super) const KNOWN_MAX_AGE: Duration = Duration::from_secs(30);
/// ... or after this many times the time that it took: among many pins the walk takes a twentieth of the time.
const KNOWN_AGE_PER_WALK: u32 = 20;
/// The least time after which [`KnownPackages::recent`] collects them again.
pub(super) const RECENT_MAX_AGE: Duration = Duration::from_secs(1);
/// Longest wait of a request for a new collection, where there is an older one.
const KNOWN_PATIENCE: Duration = Duration::from_millis(500);
/// Longest wait of a request for the first collection after a start, which goes on beside it.
pub(super) const FIRST_KNOWN_PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait of one collection for upstreams that are asked whether packages are private.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(3);
/// Most packages that are collected, about 1 KB each: the first ones by name.
pub(super) const MAX_KNOWN_PACKAGES: usize = 200_000;
/// Largest number of packages that are checked at the same time.
const MAX_VISIBILITY_CHECKS: usize = 8;

/// The known packages, by whether they may be shown.
#[derive(Default, PartialEq)]
pub(super) struct ShownPackages {
    pub(super) shown: Vec<CatalogEntry>,
    /// Those that must not be shown, by [`PackageId::key_prefix`].
    pub(super) hidden: BTreeSet<String>,
}

/// A collection and when it was made.
#[derive(Clone)]
pub(super) struct CollectedPackages {
    /// The same one for as long as nothing has changed.
    pub(super) packages: Arc<ShownPackages>,
    pub(super) collected_at: Timestamp,
    max_age: Duration,
    /// As `max_age`, for [`KnownPackages::recent`].
    recent_age: Duration,
    /// How long the collecting took.
    duration: Duration,
}

/// Whether a package may be served, as its authorization has decided.
struct PackageAuthorization {
    /// Its [`PackageId::key_prefix`].
    id: String,
    is_served: bool,
}

/// Collects the packages that are pinned or configured.
pub(super) struct KnownPackages {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    archives: Arc<ArchiveSource>,
    rules: Arc<VersionRules>,
    last: Mutex<Option<CollectedPackages>>,
    /// Held while collecting.
    pub(super) collecting: Arc<tokio::sync::Mutex<()>>,
}

impl KnownPackages {
    pub(super) fn new(
        cache: Arc<Cache>,
        authorizer: Arc<Authorizer>,
        archives: Arc<ArchiveSource>,
        rules: Arc<VersionRules>,
    ) -> Self {
        Self { cache, authorizer, archives, rules, last: Mutex::default(), collecting: Arc::default() }
    }

    /// How long the last collection took.
    pub(super) fn duration(&self) -> Duration {
        self.last.lock().as_ref().map(|last| last.duration).unwrap_or_default()
    }

    /// The known packages. `named` are those that the configuration names.
    ///
    /// # Errors
    /// When the pins cannot be read; [`RegistryError::NotCollected`] while the first collection takes longer than a request
    /// waits.
    pub(super) async fn get(
        self: &Arc<Self>,
        named: impl Iterator<Item = PackageId>,
    ) -> Result<CollectedPackages, RegistryError> {
        self.collected(named, |last| last.max_age).await
    }

    /// As [`KnownPackages::get`], with the age from which they are collected again.
    async fn collected(
        self: &Arc<Self>,
        named: impl Iterator<Item = PackageId>,
        max_age: impl FnOnce(&CollectedPackages) -> Duration,
    ) -> Result<CollectedPackages, RegistryError> {
        let Some(last) = self.last.lock().clone() else {
            let first = self.first(named.collect());
            return timeout(FIRST_KNOWN_PATIENCE, first).await.unwrap_or(Err(RegistryError::NotCollected));
        };
        if self.cache.clock().since(last.collected_at) < max_age(&last) {
            return Ok(last);
        }
        // While another request's collection runs, the older one is the answer.
        let Ok(collecting) = self.collecting.clone().try_lock_owned() else { return Ok(last) };
        let collected = self.collect_beside(collecting, named.collect());
        // One that took longer the last time is not awaited: the next request gets it.
        let patience = if last.duration < KNOWN_PATIENCE { KNOWN_PATIENCE } else { Duration::ZERO };
        match timeout(patience, collected).await {
            Ok(Ok(collected)) => collected,
            _ => Ok(last),
        }
    }

    /// The known packages, collected again after [`RECENT_MAX_AGE`], or less often where collecting takes long. Waits for a
    /// collection as [`KnownPackages::get`] does.
    ///
    /// # Errors
    /// As [`KnownPackages::get`].
    pub(super) async fn recent(self: &Arc<Self>, named: Vec<PackageId>) -> Result<CollectedPackages, RegistryError> {
        self.collected(named.into_iter(), |last| last.recent_age).await
    }

    /// The first collection: starts it, or waits for that of another request.
    async fn first(self: &Arc<Self>, named: Vec<PackageId>) -> Result<CollectedPackages, RegistryError> {
        let collecting = self.collecting.clone().lock_owned().await;
        if let Some(last) = self.last.lock().clone() {
            return Ok(last);
        }
        self.collect_beside(collecting, named).await.unwrap_or(Err(RegistryError::NotCollected))
    }

    /// Starts a collection, which goes on when the receiver is dropped.
    fn collect_beside(
        self: &Arc<Self>,
        collecting: OwnedMutexGuard<()>,
        named: Vec<PackageId>,
    ) -> oneshot::Receiver<Result<CollectedPackages, RegistryError>> {
        let this = self.clone();
        let (sender, receiver) = oneshot::channel();
        self.cache.spawn(async move {
            let collected = this.collect(named).await;
            drop(collecting);
            // The request may have gone on without it.
            let _ = sender.send(collected);
        });
        receiver
    }

    /// Collects the packages of all pins, and the configured ones. The caller holds `collecting`.
    async fn collect(&self, named: Vec<PackageId>) -> Result<CollectedPackages, RegistryError> {
        let begun = Instant::now();
        let collected_at = self.cache.clock().now();
        let mut newest = NewestTags::default();
        let rules = KnownRules(&self.rules);
        let is_refused = |package: &PackageId, tag: &str| rules.refuses_name(package, tag);
        let visited = self.cache.pins().visit_keys(|key| newest.add(&key, is_refused)).await;
        visited.map_err(|error| CacheFailure { error, status: CacheStatus::generated() })?;
        let NewestTags(mut candidates) = newest;
        if candidates.len() >= MAX_KNOWN_PACKAGES {
            tracing::warn!(limit = MAX_KNOWN_PACKAGES, "more packages are known than lists and pages show");
        }
        for package in named {
            candidates.entry(package.key_prefix()).or_insert_with(|| PinnedTags::none(package));
        }
        let listed = self.listed(&candidates).await;
        let mut packages = ShownPackages::default();
        for (id, PinnedTags { package, newest, newest_allowed }) in candidates {
            if listed.contains(&id) {
                let facts = Arc::new(self.facts(&package, newest_allowed.clone().or(newest)).await);
                packages.shown.push(CatalogEntry { package, facts, newest: newest_allowed, is_known: true });
            } else {
                packages.hidden.insert(id);
            }
        }
        let duration = begun.elapsed();
        let max_age = KNOWN_MAX_AGE.max(duration * KNOWN_AGE_PER_WALK);
        let recent_age = RECENT_MAX_AGE.max(duration * KNOWN_AGE_PER_WALK);
        let mut last = self.last.lock();
        let same = last.as_ref().map(|last| &last.packages).filter(|known| ***known == packages).cloned();
        let packages = same.unwrap_or_else(|| Arc::new(packages));
        Ok(last.insert(CollectedPackages { packages, collected_at, max_age, recent_age, duration }).clone())
    }

    /// The candidates that may be shown.
    async fn listed(&self, candidates: &BTreeMap<String, PinnedTags>) -> BTreeSet<String> {
        let mut listed = BTreeSet::new();
        let mut unknown = Vec::new();
        for (id, PinnedTags { package, .. }) in candidates {
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
        for PackageAuthorization { id, is_served } in self.authorize_all(unknown).await {
            if is_served {
                listed.insert(id);
            } else {
                listed.remove(&id);
            }
        }
        listed
    }

    /// Authorizes packages, and returns what is decided within [`VISIBILITY_TIMEOUT`].
    async fn authorize_all(&self, unknown: Vec<(String, PackageId)>) -> Vec<PackageAuthorization> {
        let checks = stream::iter(unknown).map(async |(id, package)| {
            let is_served = self.authorizer.authorize(&package).await.is_ok();
            PackageAuthorization { id, is_served }
        });
        let timeout = tokio::time::sleep(VISIBILITY_TIMEOUT);
        let checks = checks.buffer_unordered(MAX_VISIBILITY_CHECKS).take_until(timeout);
        pin!(checks).collect().await
    }

    /// What the manifest of a pinned version says; nothing without one.
    async fn facts(&self, package: &PackageId, tag: Option<String>) -> CatalogPackage {
        let Some(tag) = tag else { return CatalogPackage::default() };
        let pin = self.archives.pin(package, &GitRef::Tag(tag)).await.ok().flatten();
        CatalogPackage::from(pin.map(|pin| manifest(&pin.verified)).unwrap_or_default())
    }
}

/// The packages of archive keys by [`PackageId::key_prefix`].
#[derive(Default)]
pub(super) struct NewestTags(pub(super) BTreeMap<String, PinnedTags>);

/// The newest pinned tags of a package: the highest semantic version, else the last by name.
pub(super) struct PinnedTags {
    package: PackageId,
    pub(super) newest: Option<String>,
    /// The newest one that the rules about the names of versions allow.
    pub(super) newest_allowed: Option<String>,
}

impl NewestTags {
    /// Adds the package of a pinned key.
    pub(super) fn add(&mut self, key: &Key, is_refused: impl Fn(&PackageId, &str) -> bool) {
        let (package, tag) = match parse_archive_key(key) {
            Some((package, GitRef::Tag(tag))) => (package, Some(tag)),
            Some((package, _)) => (package, None),
            // The number of a repository is pinned with its first version.
            None if parse_identity_key(key).is_some() => return,
            None => match parse_package(key) {
                Some(package) => (package, None),
                None => return,
            },
        };
        let prefix = package.key_prefix();
        if self.0.len() >= MAX_KNOWN_PACKAGES && !self.0.contains_key(&prefix) {
            return;
        }
        let tags = self.0.entry(prefix).or_insert_with(|| PinnedTags::none(package));
        if let Some(tag) = tag {
            tags.add(tag, is_refused);
        }
    }
}

impl PinnedTags {
    fn none(package: PackageId) -> Self {
        Self { package, newest: None, newest_allowed: None }
    }

    fn add(&mut self, tag: String, is_refused: impl Fn(&PackageId, &str) -> bool) {
        let rank = |tag: &Option<String>| tag.as_ref().map(|tag| (semantic(tag), tag.clone()));
        let tag = Some(tag);
        let added = rank(&tag);
        let is_allowed = || tag.as_ref().is_some_and(|tag| !is_refused(&self.package, tag));
        if added > rank(&self.newest_allowed) && is_allowed() {
            self.newest_allowed.clone_from(&tag);
        }
        if added > rank(&self.newest) {
            self.newest = tag;
        }
    }
}
