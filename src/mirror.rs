//! The use cases: the releases of a package, one release, its zip, its metadata record.
//!
//! Here a package's name meets policy, cache and upstream. Nothing here knows HTTP or JSON envelopes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    cache::{ArchiveAnswer, ArchiveAsk, Cache, documents::DocumentAnswer, policy::Policy},
    entry::{Digest, Document, Key, Standing},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing, Verify},
    package::{BranchHead, PackageName, Release, Releases, Repository},
    upstream::{DocumentAsk, GitRef, Upstream},
};

pub mod access;
pub mod known;
pub mod metadata;
mod origins;
pub mod resolve;

use access::{Access, Gone};
use origins::{ArchiveFrom, DocumentFrom, archive_key, document_key};

pub use crate::cache::{Content, Failure, Object, Served, tail::Tail};
pub use access::{Config, Private};

/// Bytes of documents that are kept parsed.
const PARSED: u64 = 32 << 20;

/// A package on one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The upstream's configured name.
    pub upstream: Arc<str>,
    /// The package.
    pub package: PackageName,
}

/// The mirror of several upstreams over one cache.
pub struct Mirror {
    cache: Arc<Cache>,
    upstreams: BTreeMap<String, Arc<dyn Upstream>>,
    access: Access,
    verify: Arc<dyn Verify>,
    parsed: moka::sync::Cache<Digest, Parsed>,
    /// Packages whose stored standing has been looked at since the start.
    looked_at: moka::sync::Cache<Key, ()>,
    known: known::Kept,
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
pub enum MirrorError {
    /// `packages.allow` and `packages.deny` do not let this package through.
    Forbidden,
    /// The cache or the upstream has no answer.
    Fetch(Failure),
}

impl From<Failure> for MirrorError {
    fn from(failure: Failure) -> Self {
        Self::Fetch(failure)
    }
}

impl Mirror {
    /// Puts the parts together. `verify` judges every zip.
    pub fn build(
        cache: Arc<Cache>,
        upstreams: BTreeMap<String, Arc<dyn Upstream>>,
        access: Access,
        verify: Arc<dyn Verify>,
    ) -> Self {
        let weigher = |_: &Digest, parsed: &Parsed| parsed.weight();
        let parsed = moka::sync::Cache::builder().max_capacity(PARSED).weigher(weigher).build();
        let looked_at = moka::sync::Cache::new(100_000);
        Self { cache, upstreams, access, verify, parsed, looked_at, known: known::Kept::default() }
    }

    /// The cache below.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Every release of a package, in the upstream's order.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub async fn releases(&self, target: &Target) -> Result<Answer<Releases>, MirrorError> {
        self.admit(target).await?;
        self.releases_within(target, None).await
    }

    /// What the upstream calls latest.
    ///
    /// # Errors
    /// See [`MirrorError`]; a package without releases is `NotFound(Missing::Release)`.
    pub async fn latest(&self, target: &Target) -> Result<Answer<Release>, MirrorError> {
        self.admit(target).await?;
        let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
        self.release_document(target, DocumentAsk::Latest, policy).await
    }

    /// The release of a version: its tag as it is written, else with `v` added or removed.
    ///
    /// # Errors
    /// See [`MirrorError`]; an unknown version is `NotFound(Missing::Release)`.
    pub async fn release(&self, target: &Target, version: &str) -> Result<Answer<Release>, MirrorError> {
        self.admit(target).await?;
        let mut list = self.releases_within(target, None).await?;
        let mut tag = resolve::find_tag(&list.value, version);
        if tag.is_none() {
            list = self.releases_within(target, Some(resolve::BELIEVED)).await?;
            tag = resolve::find_tag(&list.value, version);
        }
        let found = tag.and_then(|tag| list.value.releases.iter().find(|release| release.tag_name == tag));
        if let Some(release) = found {
            let digest = Digest::of(format!("{}#{}", list.digest, release.tag_name).as_bytes());
            return Ok(Answer { value: Arc::new(release.clone()), digest, age: list.age, status: list.status });
        }
        if list.value.truncated {
            let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
            return self.release_document(target, DocumentAsk::Tag(version.to_owned()), policy).await;
        }
        Err(missing(Missing::Release, list.status))
    }

    /// The repository itself.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub async fn repository(&self, target: &Target) -> Result<Answer<Repository>, MirrorError> {
        self.admit(target).await?;
        self.repository_document(target).await
    }

    /// Policy: may this package be asked for, and where only the token can see it, may it be served?
    async fn admit(&self, target: &Target) -> Result<(), MirrorError> {
        if !self.access.allows(&target.upstream, &target.package) {
            return Err(MirrorError::Forbidden);
        }
        let upstream = self.upstream(target)?;
        if !upstream.has_token() || !self.access.must_be_public(&target.upstream, &target.package) {
            return Ok(());
        }
        match self.repository_document(target).await {
            Ok(repository) if repository.value.private => Err(missing(Missing::Package, repository.status)),
            Ok(_) => Ok(()),
            // Nobody can look at the moment, but what was once fetched without a token is public.
            Err(MirrorError::Fetch(failure)) if failure.error.is_trouble() => {
                let key = document_key(&target.upstream, &target.package, &DocumentAsk::Releases);
                let stored = self.cache.stored_document(&key).await;
                let public = stored.is_some_and(|document| document.meta.validators.asked_as.is_none());
                if public { Ok(()) } else { Err(MirrorError::Fetch(failure)) }
            }
            Err(error) => Err(error),
        }
    }

    /// What the upstream last said of the package, as far as a stored list tells: a block holds for stored zips too.
    async fn check_standing(&self, target: &Target) -> Result<(), MirrorError> {
        let key = document_key(&target.upstream, &target.package, &DocumentAsk::Releases);
        let document = if self.looked_at.contains_key(&key) {
            self.cache.document_in_memory(&key)
        } else {
            self.looked_at.insert(key.clone(), ());
            self.cache.stored_document(&key).await
        };
        let fail = |error| Err(MirrorError::Fetch(Failure { error, status: CacheStatus::hit(None) }));
        match document.map(|document| document.meta.standing) {
            Some(Standing::Blocked) => fail(FetchError::Blocked),
            Some(Standing::Gone) if self.access.gone == Gone::Follow => fail(FetchError::NotFound(Missing::Package)),
            _ => Ok(()),
        }
    }

    fn upstream(&self, target: &Target) -> Result<&Arc<dyn Upstream>, MirrorError> {
        let known = self.upstreams.get(&*target.upstream);
        known.ok_or_else(|| missing(Missing::Package, CacheStatus::hit(None)))
    }

    /// The release list; with `within`, not older than that where the upstream answers.
    async fn releases_within(
        &self,
        target: &Target,
        within: Option<Duration>,
    ) -> Result<Answer<Releases>, MirrorError> {
        let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
        let policy = within.map_or(policy, |age| policy.at_most(age));
        let answer = self.document(target, DocumentAsk::Releases, policy).await?;
        let value = self.parse_releases(&answer.document).ok_or_else(|| unreadable(&answer.status))?;
        Ok(answered(value, &answer))
    }

    /// The stored release list, whatever its age.
    async fn stored_releases(&self, target: &Target) -> Option<Arc<Releases>> {
        let key = document_key(&target.upstream, &target.package, &DocumentAsk::Releases);
        let document = self.cache.stored_document(&key).await?;
        if document.meta.standing == Standing::Present { self.parse_releases(&document) } else { None }
    }

    async fn document_is_stored(&self, target: &Target, ask: &DocumentAsk) -> bool {
        self.cache.stored_document(&document_key(&target.upstream, &target.package, ask)).await.is_some()
    }

    fn parse_releases(&self, document: &Document) -> Option<Arc<Releases>> {
        match self.parsed(document, |body| Some(Parsed::Releases(Arc::new(serde_json::from_slice(body).ok()?))))? {
            Parsed::Releases(releases) => Some(releases),
            _ => None,
        }
    }

    async fn release_document(
        &self,
        target: &Target,
        ask: DocumentAsk,
        policy: Policy,
    ) -> Result<Answer<Release>, MirrorError> {
        let answer = self.document(target, ask, policy).await?;
        let parse = |body: &[u8]| Some(Parsed::Release(Arc::new(serde_json::from_slice(body).ok()?)));
        match self.parsed(&answer.document, parse) {
            Some(Parsed::Release(value)) => Ok(answered(value, &answer)),
            _ => Err(unreadable(&answer.status)),
        }
    }

    async fn repository_document(&self, target: &Target) -> Result<Answer<Repository>, MirrorError> {
        let policy = self.cache.policies().repository();
        let answer = self.document(target, DocumentAsk::Repository, policy).await?;
        let parse = |body: &[u8]| Some(Parsed::Repository(Arc::new(serde_json::from_slice(body).ok()?)));
        match self.parsed(&answer.document, parse) {
            Some(Parsed::Repository(value)) => Ok(answered(value, &answer)),
            _ => Err(unreadable(&answer.status)),
        }
    }

    async fn branch_head(&self, target: &Target, name: &str) -> Result<(BranchHead, CacheStatus), MirrorError> {
        let policy = self.cache.policies().branch();
        let answer = self.document(target, DocumentAsk::Branch(name.to_owned()), policy).await?;
        let head = serde_json::from_slice(&answer.document.body).map_err(|_| unreadable(&answer.status))?;
        Ok((head, answer.status))
    }

    async fn document(&self, target: &Target, ask: DocumentAsk, policy: Policy) -> Result<DocumentAnswer, MirrorError> {
        let key = document_key(&target.upstream, &target.package, &ask);
        let upstream = self.upstream(target)?.clone();
        let origin = Arc::new(DocumentFrom { upstream, package: target.package.clone(), ask });
        let answer = self.cache.document(&key, policy, origin).await?;
        if answer.document.meta.standing == Standing::Gone {
            if self.access.gone == Gone::Follow {
                return Err(missing(Missing::Package, answer.status));
            }
            return Ok(DocumentAnswer { status: answer.status.detail("upstream-gone"), ..answer });
        }
        Ok(answer)
    }

    /// Asks the cache for the zip of an unambiguous reference.
    async fn fetch(&self, target: &Target, reference: GitRef) -> Result<ArchiveAnswer, MirrorError> {
        let ask = self.archive_ask(target, reference)?;
        Ok(self.cache.archive(&ask).await?)
    }

    fn archive_ask(&self, target: &Target, reference: GitRef) -> Result<ArchiveAsk, MirrorError> {
        let key = archive_key(&target.upstream, &target.package, &reference);
        let upstream = self.upstream(target)?.clone();
        let origin = Arc::new(ArchiveFrom { upstream, package: target.package.clone(), reference });
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

fn missing(what: Missing, status: CacheStatus) -> MirrorError {
    MirrorError::Fetch(Failure { error: FetchError::NotFound(what), status })
}

/// A stored document of an older or damaged form: asking again mends it.
fn unreadable(status: &CacheStatus) -> MirrorError {
    let error = FetchError::Invalid("the stored document cannot be read".into());
    MirrorError::Fetch(Failure { error, status: status.clone() })
}
