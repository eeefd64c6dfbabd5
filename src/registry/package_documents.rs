//! The documents of a package, fetched through the cache and parsed. Access is not checked here: see
//! [`super::authorize`].

use std::{sync::Arc, time::Duration};

use super::{
    CachedValue, RegistryError,
    document_policies::DocumentPolicies,
    keys::document_key,
    no_memory, not_found,
    parsed::{DocumentValue, ParseFailure, ParsedDocuments},
    stored_documents::{StoredDocuments, status_asks},
    upstreams::Upstreams,
};
use crate::{
    cache::{Cache, CacheFailure, documents::DocumentAnswer, policy::Policy},
    entry::UpstreamStatus,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{BranchHead, MovingHead, PackageId, Release, Releases, Repository, RepositoryBranches, RepositoryTags},
    registry::policy::Gone,
    upstream::DocumentAsk,
};

/// Documents by package, for the use cases.
pub(super) struct PackageDocuments {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    gone: Gone,
    policies: DocumentPolicies,
    parsed: Arc<ParsedDocuments>,
    stored: StoredDocuments,
}

impl PackageDocuments {
    pub(super) fn new(cache: Arc<Cache>, upstreams: Upstreams, gone: Gone) -> Self {
        let parsed = Arc::new(ParsedDocuments::new(cache.memory().clone()));
        let stored = StoredDocuments::new(cache.clone(), parsed.clone());
        let policies = DocumentPolicies::new(cache.clone(), upstreams.clone());
        Self { cache, upstreams, gone, policies, parsed, stored }
    }

    /// What is stored, read without asking an upstream.
    pub(super) fn stored(&self) -> &StoredDocuments {
        &self.stored
    }

    /// How fresh documents must be.
    pub(super) fn policies(&self) -> &DocumentPolicies {
        &self.policies
    }

    /// The release list; with `max_age`, revalidated when it is older than that and the upstream answers.
    pub(super) async fn releases(
        &self,
        package: &PackageId,
        max_age: Option<Duration>,
    ) -> Result<CachedValue<Releases>, RegistryError> {
        let policy = self.policies.releases(package, max_age)?;
        self.get(package, DocumentAsk::Releases, policy).await
    }

    /// A document that is one release; `max_age` as in [`PackageDocuments::releases`].
    pub(super) async fn release(
        &self,
        package: &PackageId,
        ask: DocumentAsk,
        max_age: Option<Duration>,
    ) -> Result<CachedValue<Release>, RegistryError> {
        let policy = self.policies.releases(package, max_age)?;
        self.get(package, ask, policy).await
    }

    /// The repository itself, as fresh as a release list.
    pub(super) async fn repository(&self, package: &PackageId) -> Result<CachedValue<Repository>, RegistryError> {
        self.repository_by(package, self.policies.releases(package, None)?).await
    }

    /// The repository itself, as fresh as the check whether it is public needs it.
    pub(super) async fn repository_for_check(
        &self,
        package: &PackageId,
    ) -> Result<CachedValue<Repository>, RegistryError> {
        self.repository_by(package, self.policies.repository(package)?).await
    }

    /// Starts a revalidation of the repository, unless its document is fresh or was asked for a moment ago. Does not wait
    /// for it.
    pub(super) async fn renew_repository(&self, package: &PackageId) -> Result<(), RegistryError> {
        let ask = DocumentAsk::Repository;
        let origin = self.upstreams.document_origin(package, ask.clone())?;
        let policy = self.cache.document_config().repository();
        self.cache.documents().refresh_or_fetch(&document_key(package, &ask), policy, origin).await;
        Ok(())
    }

    async fn repository_by(
        &self,
        package: &PackageId,
        policy: Policy,
    ) -> Result<CachedValue<Repository>, RegistryError> {
        self.get(package, DocumentAsk::Repository, policy).await
    }

    /// The tags, as fresh as a release list; `max_age` as in [`PackageDocuments::releases`].
    pub(super) async fn tags(
        &self,
        package: &PackageId,
        max_age: Option<Duration>,
    ) -> Result<CachedValue<RepositoryTags>, RegistryError> {
        let policy = self.policies.releases(package, max_age)?;
        self.get(package, DocumentAsk::Tags, policy).await
    }

    /// The branches, as fresh as a release list; `max_age` as in [`PackageDocuments::releases`].
    pub(super) async fn branches(
        &self,
        package: &PackageId,
        max_age: Option<Duration>,
    ) -> Result<CachedValue<RepositoryBranches>, RegistryError> {
        let policy = self.policies.releases(package, max_age)?;
        self.get(package, DocumentAsk::Branches, policy).await
    }

    /// The commit that a branch points at.
    pub(super) async fn branch_head(
        &self,
        package: &PackageId,
        branch: &str,
    ) -> Result<CachedValue<BranchHead>, RegistryError> {
        let ask = DocumentAsk::Branch(branch.to_owned());
        self.get(package, ask, self.policies.branch(package)?).await
    }

    /// What a moving version is at present, as fresh as a branch.
    pub(super) async fn moving_head(
        &self,
        package: &PackageId,
        version: &str,
    ) -> Result<CachedValue<MovingHead>, RegistryError> {
        let ask = DocumentAsk::Moving(version.to_owned());
        self.get(package, ask, self.policies.branch(package)?).await
    }

    /// Checks that the package exists, by the document that shows it.
    ///
    /// # Errors
    /// `NotFound(Package)`; the upstream's failure.
    pub(super) async fn ensure_exists(&self, package: &PackageId) -> Result<(), RegistryError> {
        let found = match self.upstreams.existence_ask(package)? {
            DocumentAsk::Repository => self.repository(package).await.map(drop),
            ask => self.release(package, ask, None).await.map(drop),
        };
        match found {
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(missing), .. }))
                if missing != Missing::Package =>
            {
                Ok(())
            }
            found => found,
        }
    }

    /// Fetches a document again under the policy of its kind.
    pub(super) async fn refetch(&self, package: &PackageId, ask: DocumentAsk) -> Result<(), RegistryError> {
        let policy = match ask {
            DocumentAsk::Branch(_) | DocumentAsk::Moving(_) => self.policies.branch(package)?,
            DocumentAsk::Repository => self.policies.repository(package)?,
            _ => self.policies.releases(package, None)?,
        };
        self.fetch(package, ask, policy).await.map(drop)
    }

    /// Starts a revalidation of the stored documents that [`StoredDocuments::upstream_status`] reads, when they are not
    /// fresh. Does not wait for it.
    pub(super) async fn revalidate_status(&self, package: &PackageId) -> Result<(), RegistryError> {
        let policy = self.policies.releases(package, None)?;
        for ask in status_asks(package) {
            let origin = self.upstreams.document_origin(package, ask.clone())?;
            self.cache.documents().refresh(&document_key(package, ask), policy, origin).await;
        }
        Ok(())
    }

    /// Records a block that any request of the package met (451): it applies to everything stored of the package.
    pub(super) async fn record_block(&self, package: &PackageId, error: &FetchError) {
        if *error == FetchError::Blocked {
            for ask in status_asks(package) {
                self.cache.documents().block(&document_key(package, ask)).await;
            }
        }
    }

    /// True when no upstream may be asked.
    pub(super) fn is_offline(&self) -> bool {
        self.policies.is_offline()
    }

    /// A parsed document. A stored one that cannot be parsed is removed and fetched again in full: a revalidation would
    /// only answer that it has not changed.
    async fn get<T: DocumentValue>(
        &self,
        package: &PackageId,
        ask: DocumentAsk,
        policy: Policy,
    ) -> Result<CachedValue<T>, RegistryError> {
        let mut answer = self.fetch(package, ask.clone(), policy).await?;
        let mut value = self.parsed.get::<T>(&answer.document).await;
        if matches!(value, Err(ParseFailure::Unreadable)) {
            let key = document_key(package, &ask);
            if let Err(error) = self.cache.document_tiers().remove_all(std::slice::from_ref(&key)).await {
                tracing::warn!(%key, %error, "cannot remove an unreadable document");
            }
            answer = self.fetch(package, ask, policy).await?;
            value = self.parsed.get::<T>(&answer.document).await;
        }
        let DocumentAnswer { document, age, status } = answer;
        match value {
            Ok(value) => Ok(CachedValue { value, digest: document.meta.digest, age, status }),
            Err(ParseFailure::Unreadable) => Err(unreadable(status)),
            Err(ParseFailure::NoMemory(shortage)) => Err(no_memory(shortage)),
        }
    }

    async fn fetch(
        &self,
        package: &PackageId,
        ask: DocumentAsk,
        policy: Policy,
    ) -> Result<DocumentAnswer, RegistryError> {
        if let Some(hosted) = self.upstreams.hosted(package) {
            return hosted.document(package, &ask).await;
        }
        let key = document_key(package, &ask);
        let origin = self.upstreams.document_origin(package, ask)?;
        let answer = match self.cache.documents().get(&key, policy, origin).await {
            Ok(answer) => answer,
            Err(failure) => {
                self.record_block(package, &failure.error).await;
                return Err(failure.into());
            }
        };
        if answer.document.meta.upstream_status == UpstreamStatus::Gone {
            if self.gone == Gone::Follow {
                return Err(not_found(Missing::Package, answer.status));
            }
            return Ok(DocumentAnswer { status: answer.status.detail("upstream-gone"), ..answer });
        }
        Ok(answer)
    }
}

/// The error for a document that was fetched in full and still cannot be parsed.
fn unreadable(status: CacheStatus) -> RegistryError {
    let error = FetchError::Invalid("its normalised form cannot be read".into());
    RegistryError::Fetch(CacheFailure { error, status })
}
