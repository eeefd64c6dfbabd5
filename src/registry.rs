//! The use cases: the releases of a package, one release, its zip, its metadata record.
//!
//! Here a package's name meets policy, cache and upstream. Nothing here knows HTTP or JSON envelopes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    cache::{
        ArchiveAnswer, ArchiveAsk, Cache,
        documents::DocumentAnswer,
        policy::{Mode, Policy},
    },
    entry::{Digest, Document, Key, UpstreamStatus},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing, Verify},
    package::{BranchHead, PackageId, Release, Releases, Repository},
    upstream::{DocumentAsk, GitRef, Upstream},
};

mod authorize;
pub mod catalog;
pub mod inventory;
pub mod metadata;
mod origins;
pub mod policy;
pub mod resolve;
pub mod transfer;
mod views;
pub mod warm;

use origins::{ArchiveFrom, DocumentFrom, archive_key, document_key};
use policy::{AccessPolicy, Gone};

pub use crate::cache::{
    Checked, Content, Failure, Generation, HitStats, ImportError, InventoryEntry, Object, Served, TierStats,
    WeakObject, spool_reader::SpoolReader,
};
pub use policy::{Config, Private};
pub use views::{
    CacheUsage, CatalogService, Inventory, MetadataRecords, ReleaseDocuments, Transfer, VersionResolver, Warming,
};

/// Bytes of documents that are kept parsed.
const PARSED: u64 = 32 << 20;

/// The mirror of several upstreams over one cache.
pub struct Registry {
    cache: Arc<Cache>,
    upstreams: BTreeMap<String, Arc<dyn Upstream>>,
    access: AccessPolicy,
    verify: Arc<dyn Verify>,
    parsed: moka::sync::Cache<Digest, Parsed>,
    /// Documents that were not stored in a generation: a zip's hit need not look on the disk for them while it holds.
    negative_lookups: moka::sync::Cache<Key, Generation>,
    known: catalog::CatalogCache,
}

/// A parsed document. Which kind it is follows from the key it was read under.
#[derive(Clone)]
enum Parsed {
    Releases(Arc<Releases>),
    Release(Arc<Release>),
    Repository(Arc<Repository>),
}

/// A value with what a client is told about its age and how it was come by.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The value.
    pub value: Arc<T>,
    /// SHA-256 of the normalised document it was read from: equal digests mean equal values.
    pub digest: Digest,
    /// How long ago the upstream last confirmed it.
    pub age: Duration,
    /// What happened.
    pub status: CacheStatus,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum RegistryError {
    /// `packages.allow` and `packages.deny` do not let this package through.
    Forbidden,
    /// The cache or the upstream has no answer.
    Fetch(Failure),
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        Self::Fetch(failure)
    }
}

impl Registry {
    /// Puts the parts together. `verify` judges every zip.
    pub fn build(
        cache: Arc<Cache>,
        upstreams: BTreeMap<String, Arc<dyn Upstream>>,
        access: AccessPolicy,
        verify: Arc<dyn Verify>,
    ) -> Self {
        let weigher = |_: &Digest, parsed: &Parsed| parsed.weight();
        let parsed = moka::sync::Cache::builder().max_capacity(PARSED).weigher(weigher).build();
        let negative_lookups = moka::sync::Cache::new(100_000);
        Self { cache, upstreams, access, verify, parsed, negative_lookups, known: catalog::CatalogCache::default() }
    }

    /// The current time on the clock that freshness is measured by.
    pub fn now(&self) -> Timestamp {
        self.cache.clock().now()
    }

    /// Why the cache directory works only in part; `None` when it works.
    pub fn degraded(&self) -> Option<String> {
        self.cache.disk().degraded()
    }

    /// Release lists, releases and the repository of a package.
    pub fn documents(&self) -> ReleaseDocuments<'_> {
        ReleaseDocuments(self)
    }

    /// Zips of versions.
    pub fn archives(&self) -> VersionResolver<'_> {
        VersionResolver(self)
    }

    /// Metadata records of the Serverless Registry Model.
    pub fn metadata(&self) -> MetadataRecords<'_> {
        MetadataRecords(self)
    }

    /// The list of packages that may be shown.
    pub fn catalog(&self) -> CatalogService<'_> {
        CatalogService(self)
    }

    /// What is stored.
    pub fn inventory(&self) -> Inventory<'_> {
        Inventory(self)
    }

    /// Export and import.
    pub fn transfer(&self) -> Transfer<'_> {
        Transfer(self)
    }

    /// Filling the cache ahead of the clients.
    pub fn warming(&self) -> Warming<'_> {
        Warming(self)
    }

    /// The present state of a package's documents; see [`Generation`].
    pub fn generation(&self, target: &PackageId) -> Generation {
        self.cache.generation(&document_key(&target.upstream, &target.name, &DocumentAsk::Releases))
    }

    /// Every release of a package, in the upstream's order.
    ///
    /// # Errors
    /// See [`RegistryError`].
    async fn releases(&self, target: &PackageId) -> Result<Answer<Releases>, RegistryError> {
        self.authorize(target).await?;
        self.releases_within(target, None).await
    }

    /// What the upstream calls latest.
    ///
    /// # Errors
    /// See [`RegistryError`]; a package without releases is `NotFound(Missing::Release)`.
    async fn latest(&self, target: &PackageId) -> Result<Answer<Release>, RegistryError> {
        self.authorize(target).await?;
        let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
        match self.release_document(target, DocumentAsk::Latest, policy).await {
            Err(RegistryError::Fetch(failure)) if matches!(failure.error, FetchError::Offline { .. }) => {
                self.latest_listed(target, failure).await
            }
            answer => answer,
        }
    }

    /// The newest release of the stored list that is no prerelease, for a mirror that cannot ask which is latest.
    async fn latest_listed(&self, target: &PackageId, failure: Failure) -> Result<Answer<Release>, RegistryError> {
        let Ok(list) = self.releases_within(target, None).await else { return Err(failure.into()) };
        let full = list.value.releases.iter().filter(|release| !release.prerelease);
        match full.max_by_key(|release| release.created_at) {
            Some(release) => Ok(listed(release, &list)),
            None => Err(missing(Missing::Release, list.status)),
        }
    }

    fn is_offline(&self) -> bool {
        self.cache.policies().mode == Mode::Offline
    }

    /// The release of a version: its tag as it is written, else with `v` added or removed.
    ///
    /// # Errors
    /// See [`RegistryError`]; an unknown version is `NotFound(Missing::Release)`.
    async fn release(&self, target: &PackageId, version: &str) -> Result<Answer<Release>, RegistryError> {
        self.authorize(target).await?;
        let mut list = self.releases_within(target, None).await?;
        let mut tag = resolve::find_tag(&list.value, version);
        if tag.is_none() {
            list = self.releases_within(target, Some(resolve::MIN_REVALIDATE_AGE)).await?;
            tag = resolve::find_tag(&list.value, version);
        }
        let found = tag.and_then(|tag| list.value.releases.iter().find(|release| release.tag_name == tag));
        if let Some(release) = found {
            return Ok(listed(release, &list));
        }
        if list.value.truncated {
            let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
            return self.release_document(target, DocumentAsk::Tag(version.to_owned()), policy).await;
        }
        if self.is_offline() {
            return Err(RegistryError::Fetch(Failure {
                error: FetchError::Offline { absent: true },
                status: list.status,
            }));
        }
        Err(missing(Missing::Release, list.status))
    }

    /// The repository itself, as fresh as a release list: clients read its default branch.
    ///
    /// # Errors
    /// See [`RegistryError`].
    async fn repository(&self, target: &PackageId) -> Result<Answer<Repository>, RegistryError> {
        self.authorize(target).await?;
        let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
        self.repository_document(target, policy).await
    }

    fn upstream(&self, target: &PackageId) -> Result<&Arc<dyn Upstream>, RegistryError> {
        let known = self.upstreams.get(&*target.upstream);
        known.ok_or_else(|| missing(Missing::Package, CacheStatus::hit(None)))
    }

    /// The release list; with `within`, not older than that where the upstream answers.
    async fn releases_within(
        &self,
        target: &PackageId,
        within: Option<Duration>,
    ) -> Result<Answer<Releases>, RegistryError> {
        let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
        let policy = within.map_or(policy, |age| policy.at_most(age));
        self.read(target, DocumentAsk::Releases, policy, |document| self.parse_releases(document)).await
    }

    /// The stored release list, whatever its age.
    async fn stored_releases(&self, target: &PackageId) -> Option<Arc<Releases>> {
        let document = self.stored(target, &DocumentAsk::Releases).await?;
        if document.meta.standing == UpstreamStatus::Present { self.parse_releases(&document) } else { None }
    }

    /// A stored document, whatever its age. The disk is asked once for what it has not.
    async fn stored(&self, target: &PackageId, ask: &DocumentAsk) -> Option<Document> {
        let key = document_key(&target.upstream, &target.name, ask);
        let known = self.cache.document_in_memory(&key);
        if known.is_some() || self.negative_lookups.get(&key).is_some_and(|generation| generation.is_current()) {
            return known;
        }
        let generation = self.cache.generation(&key);
        let stored = self.cache.stored_document(&key).await;
        if stored.is_none() {
            self.negative_lookups.insert(key, generation);
        }
        stored
    }

    fn parse_releases(&self, document: &Document) -> Option<Arc<Releases>> {
        match self.parsed(document, |body| Some(Parsed::Releases(Arc::new(serde_json::from_slice(body).ok()?))))? {
            Parsed::Releases(releases) => Some(releases),
            _ => None,
        }
    }

    async fn release_document(
        &self,
        target: &PackageId,
        ask: DocumentAsk,
        policy: Policy,
    ) -> Result<Answer<Release>, RegistryError> {
        let parse = |body: &[u8]| Some(Parsed::Release(Arc::new(serde_json::from_slice(body).ok()?)));
        self.read(target, ask, policy, |document| match self.parsed(document, parse)? {
            Parsed::Release(value) => Some(value),
            _ => None,
        })
        .await
    }

    async fn repository_document(
        &self,
        target: &PackageId,
        policy: Policy,
    ) -> Result<Answer<Repository>, RegistryError> {
        let parse = |body: &[u8]| Some(Parsed::Repository(Arc::new(serde_json::from_slice(body).ok()?)));
        self.read(target, DocumentAsk::Repository, policy, |document| match self.parsed(document, parse)? {
            Parsed::Repository(value) => Some(value),
            _ => None,
        })
        .await
    }

    async fn branch_head(&self, target: &PackageId, name: &str) -> Result<Answer<BranchHead>, RegistryError> {
        let ask = DocumentAsk::Branch(name.to_owned());
        let parse = |document: &Document| serde_json::from_slice(&document.body).ok().map(Arc::new);
        self.read(target, ask, self.cache.policies().branch(), parse).await
    }

    /// A parsed document. One that is stored in a form that cannot be read is thrown away and asked for anew: the
    /// upstream would only say that it has not changed.
    async fn read<T>(
        &self,
        target: &PackageId,
        ask: DocumentAsk,
        policy: Policy,
        parse: impl Fn(&Document) -> Option<Arc<T>>,
    ) -> Result<Answer<T>, RegistryError> {
        let mut answer = self.document(target, ask.clone(), policy).await?;
        let mut value = parse(&answer.document);
        if value.is_none() {
            let key = document_key(&target.upstream, &target.name, &ask);
            if let Err(error) = self.cache.discard(&key).await {
                tracing::warn!(%key, %error, "an unreadable document cannot be removed");
            }
            answer = self.document(target, ask, policy).await?;
            value = parse(&answer.document);
        }
        match value {
            Some(value) => Ok(answered(value, &answer)),
            None => Err(unreadable(&answer.status)),
        }
    }

    async fn document(
        &self,
        target: &PackageId,
        ask: DocumentAsk,
        policy: Policy,
    ) -> Result<DocumentAnswer, RegistryError> {
        let key = document_key(&target.upstream, &target.name, &ask);
        let origin = self.origin(target, ask)?;
        let answer = match self.cache.document(&key, policy, origin).await {
            Ok(answer) => answer,
            Err(failure) => {
                self.note_block(target, &failure.error).await;
                return Err(failure.into());
            }
        };
        if answer.document.meta.standing == UpstreamStatus::Gone {
            if self.access.gone == Gone::Follow {
                return Err(missing(Missing::Package, answer.status));
            }
            return Ok(DocumentAnswer { status: answer.status.detail("upstream-gone"), ..answer });
        }
        Ok(answer)
    }

    fn origin(&self, target: &PackageId, ask: DocumentAsk) -> Result<Arc<DocumentFrom>, RegistryError> {
        let upstream = self.upstream(target)?.clone();
        Ok(Arc::new(DocumentFrom { upstream, package: target.name.clone(), ask }))
    }

    /// Asks the cache for the zip of an unambiguous reference.
    async fn fetch(&self, target: &PackageId, reference: GitRef) -> Result<ArchiveAnswer, RegistryError> {
        let ask = self.archive_ask(target, reference)?;
        match self.cache.archive(&ask).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.note_block(target, &failure.error).await;
                Err(failure.into())
            }
        }
    }

    fn archive_ask(&self, target: &PackageId, reference: GitRef) -> Result<ArchiveAsk, RegistryError> {
        let key = archive_key(&target.upstream, &target.name, &reference);
        let upstream = self.upstream(target)?.clone();
        let origin = Arc::new(ArchiveFrom { upstream, package: target.name.clone(), reference });
        Ok(ArchiveAsk { key, origin, verify: self.verify.clone() })
    }

    fn parsed(&self, document: &Document, parse: impl FnOnce(&[u8]) -> Option<Parsed>) -> Option<Parsed> {
        if let Some(known) = self.parsed.get(&document.meta.digest) {
            return Some(known);
        }
        let parsed = parse(&document.body)?;
        self.parsed.insert(document.meta.digest, parsed.clone());
        Some(parsed)
    }
}

impl Parsed {
    /// A rough size in bytes: what weighs are notes and assets.
    fn weight(&self) -> u32 {
        let release = |release: &Release| 1024 + release.body.len() + 1024 * release.assets.len();
        let bytes = match self {
            Self::Releases(list) => list.releases.iter().map(release).sum(),
            Self::Release(one) => release(one),
            Self::Repository(_) => 8192,
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn answered<T>(value: Arc<T>, answer: &DocumentAnswer) -> Answer<T> {
    Answer { value, digest: answer.document.meta.digest, age: answer.age, status: answer.status.clone() }
}

/// One release of a list as an answer of its own.
fn listed(release: &Release, list: &Answer<Releases>) -> Answer<Release> {
    let digest = Digest::of(format!("{}#{}", list.digest, release.tag_name).as_bytes());
    Answer { value: Arc::new(release.clone()), digest, age: list.age, status: list.status.clone() }
}

fn missing(what: Missing, status: CacheStatus) -> RegistryError {
    RegistryError::Fetch(Failure { error: FetchError::NotFound(what), status })
}

/// A document that cannot be read although it has just been asked for anew.
fn unreadable(status: &CacheStatus) -> RegistryError {
    let error = FetchError::Invalid("its normalised form cannot be read".into());
    RegistryError::Fetch(Failure { error, status: status.clone() })
}
