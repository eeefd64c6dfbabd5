//! Which repository a name is: the number that the forge gave it, pinned when a version of it is first served.
//!
//! A repository that takes over a name its owner gave up has another number. It is not the package that this
//! mirror has served: no version of it is served that was not served before, until an operator forgets the package's pins.
//! The number is read from the repository's document, where one is stored: with a token, where `[packages]` has rules,
//! and where clients ask for the repository. Sends no request of its own where none is stored.

use std::sync::Arc;

use super::{
    CachedValue, RegistryError,
    error::unreadable_pin,
    keys::{archive_key, identity_key},
    package_documents::PackageDocuments,
};
use crate::{
    cache::Cache,
    entry::{Digest, Pin, Verified},
    package::{PackageId, Release, Releases, Repository},
    upstream::{DocumentAsk, GitRef},
};

/// Compares repositories with their pins.
pub(super) struct RepositoryIdentity {
    cache: Arc<Cache>,
    documents: Arc<PackageDocuments>,
}

impl RepositoryIdentity {
    pub(super) fn new(cache: Arc<Cache>, documents: Arc<PackageDocuments>) -> Self {
        Self { cache, documents }
    }

    /// Checks, before a version is fetched that was never served, that the name is still the same repository; pins its
    /// number where none is pinned. The stored document is revalidated when it is older than a release list may be.
    ///
    /// # Errors
    /// `RepositoryReplaced`; when the pins cannot be read or written.
    pub(super) async fn ensure_same(&self, package: &PackageId, reference: &GitRef) -> Result<(), RegistryError> {
        if self.stored(package).await.is_none()
            || self.cache.archives().is_known(&archive_key(package, reference)).await?
        {
            return Ok(());
        }
        // While the upstream fails, the stored document says which repository it was.
        let present = match self.documents.repository(package).await {
            Ok(repository) => repository.value,
            Err(_) => match self.stored(package).await {
                Some(repository) => repository,
                None => return Ok(()),
            },
        };
        let Some(number) = number(&present) else { return Ok(()) };
        let pin = match self.pin(package).await? {
            Some(pin) => pin,
            None => self.cache.pins().record(self.new_pin(package, number)).await.map_err(unreadable_pin)?,
        };
        if pin.digest == number { Ok(()) } else { Err(RegistryError::RepositoryReplaced) }
    }

    /// True when the stored document is that of another repository than the one that was first served.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(super) async fn is_replaced(&self, package: &PackageId) -> Result<bool, RegistryError> {
        let Some(number) = self.stored(package).await.as_deref().and_then(number) else { return Ok(false) };
        Ok(self.pin(package).await?.is_some_and(|pin| pin.digest != number))
    }

    /// Refuses a release of a repository that was replaced, unless its archive was served before.
    ///
    /// # Errors
    /// As [`RepositoryIdentity::ensure_same`].
    pub(super) async fn check_release(
        &self,
        package: &PackageId,
        release: CachedValue<Release>,
    ) -> Result<CachedValue<Release>, RegistryError> {
        if self.is_replaced(package).await? && !self.was_served(package, &release.value.tag_name).await? {
            return Err(RegistryError::RepositoryReplaced);
        }
        Ok(release)
    }

    /// The releases that may be listed: of a repository that was replaced, those whose archives were served before.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(super) async fn filter_releases(
        &self,
        package: &PackageId,
        list: CachedValue<Releases>,
    ) -> Result<CachedValue<Releases>, RegistryError> {
        if !self.is_replaced(package).await? {
            return Ok(list);
        }
        let mut served = Releases { truncated: true, ..Releases::default() };
        for release in &list.value.releases {
            if self.was_served(package, &release.tag_name).await? {
                served.releases.push(release.clone());
            }
        }
        let tags: Vec<&str> = served.releases.iter().map(|release| release.tag_name.as_str()).collect();
        let digest = Digest::of(format!("{}#served:{}", list.digest, tags.join("\n")).as_bytes());
        Ok(CachedValue { value: Arc::new(served), digest, ..list })
    }

    async fn was_served(&self, package: &PackageId, tag: &str) -> Result<bool, RegistryError> {
        let reference = GitRef::Tag(tag.to_owned());
        Ok(self.cache.archives().is_known(&archive_key(package, &reference)).await?)
    }

    async fn stored(&self, package: &PackageId) -> Option<Arc<Repository>> {
        let document = self.documents.stored().document(package, &DocumentAsk::Repository).await?;
        self.documents.stored().parse_repository(&document).await
    }

    async fn pin(&self, package: &PackageId) -> Result<Option<Arc<Pin>>, RegistryError> {
        self.cache.pins().get(&identity_key(package)).await.map_err(unreadable_pin)
    }

    fn new_pin(&self, package: &PackageId, number: Digest) -> Pin {
        Pin {
            key: identity_key(package),
            digest: number,
            len: 0,
            first_seen: self.cache.clock().now(),
            verified: Verified { manifest: number, commit: None, facts: serde_json::Value::Null },
        }
    }
}

/// The digest of the number that the forge gave the repository.
fn number(repository: &Repository) -> Option<Digest> {
    let number = repository.rest.get("id")?.as_u64()?;
    Some(Digest::of(format!("repository {number}").as_bytes()))
}
