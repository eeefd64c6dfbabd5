//! The release lists, releases and repository of a package, for clients.

use std::sync::Arc;

use super::{
    CachedValue, RegistryError, authorize::Authorizer, not_found, package_documents::PackageDocuments, resolve,
};
use crate::{
    cache::CacheFailure,
    entry::Digest,
    origin::{FetchError, Missing},
    package::{PackageId, Release, Releases, Repository},
    upstream::DocumentAsk,
};

/// Serves the release documents of packages that may be served.
pub struct ReleaseDocuments {
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
}

impl ReleaseDocuments {
    pub(super) fn new(authorizer: Arc<Authorizer>, documents: Arc<PackageDocuments>) -> Self {
        Self { authorizer, documents }
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
    /// See [`RegistryError`]; an unknown version is `NotFound(Missing::Release)`.
    pub async fn release(&self, package: &PackageId, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(package).await?;
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
