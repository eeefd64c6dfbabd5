//! The release lists, releases and repository of a package, for clients.

use std::sync::Arc;

use super::{
    CachedValue, RegistryError, authorize::Authorizer, not_found, package_documents::PackageDocuments, resolve,
    upstreams::Upstreams,
};
use crate::{
    cache::CacheFailure,
    entry::Digest,
    origin::{FetchError, Missing},
    package::{PackageId, Release, Releases, Repository, with_v_toggled},
    upstream::{DocumentAsk, ReleaseLookup},
};

/// Serves the release documents of packages that may be served.
pub struct ReleaseDocuments {
    upstreams: Upstreams,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
}

impl ReleaseDocuments {
    pub(super) fn new(upstreams: Upstreams, authorizer: Arc<Authorizer>, documents: Arc<PackageDocuments>) -> Self {
        Self { upstreams, authorizer, documents }
    }

    /// Every release of a package, in the upstream's order.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn releases(&self, package: &PackageId) -> Result<CachedValue<Releases>, RegistryError> {
        self.authorizer.authorize(package).await?;
        self.documents.releases(package, None).await
    }

    /// The release that the upstream calls latest.
    ///
    /// # Errors
    /// See [`RegistryError`]; a package without releases is `NotFound(Missing::Release)`.
    pub async fn latest(&self, package: &PackageId) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(package).await?;
        match self.documents.release(package, DocumentAsk::Latest, None).await {
            Err(RegistryError::Fetch(failure)) if matches!(failure.error, FetchError::Offline { .. }) => {
                self.latest_from_list(package, failure).await
            }
            answer => answer,
        }
    }

    /// The newest release of the stored list that is no prerelease: offline, the upstream cannot be asked for its latest.
    async fn latest_from_list(
        &self,
        package: &PackageId,
        failure: CacheFailure,
    ) -> Result<CachedValue<Release>, RegistryError> {
        let Ok(list) = self.documents.releases(package, None).await else { return Err(failure.into()) };
        let stable = list.value.releases.iter().filter(|release| !release.prerelease);
        match stable.max_by_key(|release| release.created_at) {
            Some(release) => Ok(from_list(release, &list)),
            None => Err(not_found(Missing::Release, list.status)),
        }
    }

    /// The release of a version: its tag exactly as asked, else with `v` added or removed.
    ///
    /// # Errors
    /// See [`RegistryError`]; an unknown version is `NotFound(Missing::Release)`, or `NotFound(Missing::Version)` on an
    /// upstream that is asked for it without a list.
    pub async fn release(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(package).await?;
        match self.upstreams.release_lookup(package)? {
            ReleaseLookup::InList => self.release_in_list(package, version).await,
            ReleaseLookup::ByTag => self.release_by_tag(package, version).await,
        }
    }

    async fn release_in_list(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        let mut list = self.documents.releases(package, None).await?;
        let mut tag = resolve::find_tag(&list.value, version);
        if tag.is_none() {
            list = self.documents.releases(package, Some(resolve::MIN_REVALIDATE_AGE)).await?;
            tag = resolve::find_tag(&list.value, version);
        }
        let release = tag.and_then(|tag| list.value.releases.iter().find(|release| release.tag_name == tag));
        if let Some(release) = release {
            return Ok(from_list(release, &list));
        }
        if list.value.truncated {
            return self.documents.release(package, DocumentAsk::Tag(version.to_owned()), None).await;
        }
        if self.documents.is_offline() {
            let error = FetchError::Offline { absent: true };
            return Err(RegistryError::Fetch(CacheFailure { error, status: list.status }));
        }
        Err(not_found(Missing::Release, list.status))
    }

    /// The release at its own address: exactly as asked, else, once the upstream has said that it does not exist, with `v`
    /// added or removed. While the upstream fails, what other documents say of the version is served.
    async fn release_by_tag(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        let failure = match self.tagged_release(package, version).await {
            Err(RegistryError::Fetch(failure)) => failure,
            answer => return answer,
        };
        let toggled = with_v_toggled(version);
        if failure.error.is_trouble() {
            let status = failure.status.clone().used_stale().detail("stale-if-error");
            for tag in [Some(version), toggled.as_deref()].into_iter().flatten() {
                if let Some(release) = self.documents.stored().release(package, tag, &status).await {
                    return Ok(release);
                }
            }
            return Err(failure.into());
        }
        if matches!(failure.error, FetchError::NotFound(_)) {
            self.documents.ensure_exists(package).await?;
            if let Some(toggled) = toggled {
                match self.tagged_release(package, &toggled).await {
                    Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => {}
                    answer => return answer,
                }
            }
        }
        Err(failure.into())
    }

    async fn tagged_release(&self, package: &PackageId, tag: &str) -> Result<CachedValue<Release>, RegistryError> {
        let ask = DocumentAsk::Tag(tag.to_owned());
        let release = self.documents.release(package, ask.clone(), None).await?;
        self.authorizer.recheck_document(package, &ask).await?;
        Ok(release)
    }

    /// The repository itself, as fresh as a release list: clients read its default branch.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn repository(&self, package: &PackageId) -> Result<CachedValue<Repository>, RegistryError> {
        self.authorizer.authorize(package).await?;
        self.documents.repository(package).await
    }
}

/// One release of a list, with a digest of its own.
fn from_list(release: &Release, list: &CachedValue<Releases>) -> CachedValue<Release> {
    let digest = Digest::of(format!("{}#{}", list.digest, release.tag_name).as_bytes());
    CachedValue { value: Arc::new(release.clone()), digest, age: list.age, status: list.status.clone() }
}
