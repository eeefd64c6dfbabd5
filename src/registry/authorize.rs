//! Whether a package may be served at all: policy, what only a token can see, and what the upstream last said of it.

use super::{Gone, PackageId, Registry, RegistryError, missing, origins::document_key};
use crate::{
    entry::UpstreamStatus,
    origin::{FetchError, Missing},
    upstream::DocumentAsk,
};

impl Registry {
    /// Lets a package through or not, before anything of it is answered. Tells its standing, as far as a stored list
    /// knows it.
    ///
    /// # Errors
    /// `Forbidden` by policy; `NotFound(Package)` for what only the token can see, and for what is gone where that is
    /// followed; `Blocked` for stored things too.
    pub(super) async fn authorize(&self, target: &PackageId) -> Result<UpstreamStatus, RegistryError> {
        if !self.access.allows(&target.upstream, &target.name) {
            return Err(RegistryError::Forbidden);
        }
        if self.access.must_be_public(&target.upstream, &target.name)
            && (self.upstream(target)?.has_token() || self.stored_with_token(target).await)
        {
            self.check_public(target).await?;
        }
        self.standing(target).await
    }

    /// For what was fetched with a token and is now served by a mirror that has none: it may be private.
    ///
    /// # Errors
    /// As [`Registry::admit`].
    pub(super) async fn recheck_public(&self, target: &PackageId) -> Result<(), RegistryError> {
        let looked = self.upstream(target)?.has_token();
        if looked || !self.access.must_be_public(&target.upstream, &target.name) {
            return Ok(());
        }
        self.check_public(target).await
    }

    /// Looks whether the repository is public, at most once a day where it is there.
    async fn check_public(&self, target: &PackageId) -> Result<(), RegistryError> {
        match self.repository_document(target, self.cache.policies().repository()).await {
            Ok(repository) if repository.value.private => Err(missing(Missing::Package, repository.status)),
            Ok(_) => Ok(()),
            // Nobody can look (any more), but what was once fetched without a token is public.
            Err(RegistryError::Fetch(failure)) if failure.error != FetchError::Blocked => {
                let stored = self.stored(target, &DocumentAsk::Releases).await;
                let public = stored.is_some_and(|list| list.meta.validators.asked_as.is_none());
                if public { Ok(()) } else { Err(RegistryError::Fetch(failure)) }
            }
            Err(error) => Err(error),
        }
    }

    /// True when a document of the package is stored that was asked for with a token.
    async fn stored_with_token(&self, target: &PackageId) -> bool {
        for ask in [DocumentAsk::Releases, DocumentAsk::Latest, DocumentAsk::Repository] {
            let stored = self.stored(target, &ask).await;
            if stored.is_some_and(|document| document.meta.validators.asked_as.is_some()) {
                return true;
            }
        }
        false
    }

    /// What the upstream last said of the package, as far as a stored list tells: a block holds for stored zips too.
    async fn standing(&self, target: &PackageId) -> Result<UpstreamStatus, RegistryError> {
        let document = self.stored(target, &DocumentAsk::Releases).await;
        match document.map_or(UpstreamStatus::Present, |document| document.meta.standing) {
            // Whether that is still so is asked again as often as the list would be; until then it is the answer.
            UpstreamStatus::Blocked => {
                self.releases_within(target, None).await?;
                Ok(UpstreamStatus::Present)
            }
            UpstreamStatus::Gone if self.access.gone == Gone::Follow => {
                self.releases_within(target, None).await?;
                Ok(UpstreamStatus::Present)
            }
            // What is stored needs no upstream: the look whether the package has come back goes on beside it.
            UpstreamStatus::Gone => {
                let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
                let key = document_key(&target.upstream, &target.name, &DocumentAsk::Releases);
                self.cache.refresh(&key, policy, self.origin(target, DocumentAsk::Releases)?).await;
                Ok(UpstreamStatus::Gone)
            }
            UpstreamStatus::Present => Ok(UpstreamStatus::Present),
        }
    }

    /// A block that was met anywhere holds for everything of the package that is stored.
    pub(super) async fn note_block(&self, target: &PackageId, error: &FetchError) {
        if *error == FetchError::Blocked {
            self.cache.block(&document_key(&target.upstream, &target.name, &DocumentAsk::Releases)).await;
        }
    }
}
