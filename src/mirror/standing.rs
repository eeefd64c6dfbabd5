//! Whether a package may be served at all: policy, what only a token can see, and what the upstream last said of it.

use super::{Gone, Mirror, MirrorError, Target, missing, origins::document_key};
use crate::{
    entry::Standing,
    origin::{FetchError, Missing},
    upstream::DocumentAsk,
};

impl Mirror {
    /// Lets a package through or not, before anything of it is answered. Tells its standing, as far as a stored list
    /// knows it.
    ///
    /// # Errors
    /// `Forbidden` by policy; `NotFound(Package)` for what only the token can see, and for what is gone where that is
    /// followed; `Blocked` for stored things too.
    pub(super) async fn admit(&self, target: &Target) -> Result<Standing, MirrorError> {
        if !self.access.allows(&target.upstream, &target.package) {
            return Err(MirrorError::Forbidden);
        }
        if self.access.must_be_public(&target.upstream, &target.package)
            && (self.upstream(target)?.has_token() || self.stored_with_token(target).await)
        {
            self.look(target).await?;
        }
        self.standing(target).await
    }

    /// For what was fetched with a token and is now served by a mirror that has none: it may be private.
    ///
    /// # Errors
    /// As [`Mirror::admit`].
    pub(super) async fn vouch(&self, target: &Target) -> Result<(), MirrorError> {
        let looked = self.upstream(target)?.has_token();
        if looked || !self.access.must_be_public(&target.upstream, &target.package) {
            return Ok(());
        }
        self.look(target).await
    }

    /// Looks whether the repository is public, at most once a day where it is there.
    async fn look(&self, target: &Target) -> Result<(), MirrorError> {
        match self.repository_document(target, self.cache.policies().repository()).await {
            Ok(repository) if repository.value.private => Err(missing(Missing::Package, repository.status)),
            Ok(_) => Ok(()),
            // Nobody can look (any more), but what was once fetched without a token is public.
            Err(MirrorError::Fetch(failure)) if failure.error != FetchError::Blocked => {
                let stored = self.stored(target, &DocumentAsk::Releases).await;
                let public = stored.is_some_and(|list| list.meta.validators.asked_as.is_none());
                if public { Ok(()) } else { Err(MirrorError::Fetch(failure)) }
            }
            Err(error) => Err(error),
        }
    }

    /// True when a document of the package is stored that was asked for with a token.
    async fn stored_with_token(&self, target: &Target) -> bool {
        for ask in [DocumentAsk::Releases, DocumentAsk::Latest, DocumentAsk::Repository] {
            let stored = self.stored(target, &ask).await;
            if stored.is_some_and(|document| document.meta.validators.asked_as.is_some()) {
                return true;
            }
        }
        false
    }

    /// What the upstream last said of the package, as far as a stored list tells: a block holds for stored zips too.
    async fn standing(&self, target: &Target) -> Result<Standing, MirrorError> {
        let document = self.stored(target, &DocumentAsk::Releases).await;
        match document.map_or(Standing::Present, |document| document.meta.standing) {
            // Whether that is still so is asked again as often as the list would be; until then it is the answer.
            Standing::Blocked => {
                self.releases_within(target, None).await?;
                Ok(Standing::Present)
            }
            Standing::Gone if self.access.gone == Gone::Follow => {
                self.releases_within(target, None).await?;
                Ok(Standing::Present)
            }
            // What is stored needs no upstream: the look whether the package has come back goes on beside it.
            Standing::Gone => {
                let policy = self.cache.policies().releases(self.upstream(target)?.has_token());
                let key = document_key(&target.upstream, &target.package, &DocumentAsk::Releases);
                self.cache.refresh(&key, policy, self.origin(target, DocumentAsk::Releases)?).await;
                Ok(Standing::Gone)
            }
            Standing::Present => Ok(Standing::Present),
        }
    }

    /// A block that was met anywhere holds for everything of the package that is stored.
    pub(super) async fn note_block(&self, target: &Target, error: &FetchError) {
        if *error == FetchError::Blocked {
            self.cache.block(&document_key(&target.upstream, &target.package, &DocumentAsk::Releases)).await;
        }
    }
}
