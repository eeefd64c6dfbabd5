//! Decides whether a package may be served: by policy, by visibility, and by what the upstream last said of it.

use std::sync::Arc;

use super::{
    Gone, RegistryError, not_found, package_documents::PackageDocuments, policy::AccessPolicy,
    repository_names::renamed, upstreams::Upstreams,
};
use crate::{
    cache::{Cache, CacheFailure},
    entry::{Document, UpstreamStatus},
    http::cache_status::{CacheStatus, Fwd},
    origin::{FetchError, Missing},
    package::{NameForm, PackageId, Repository},
    upstream::DocumentAsk,
};

/// Checks packages before anything of them is answered.
pub(super) struct Authorizer {
    policy: AccessPolicy,
    cache: Arc<Cache>,
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
}

/// Who may be sent what is served of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone: it is public on its upstream.
    Public,
    /// The clients of this mirror alone: it was, or may be, fetched with a token that only the mirror has.
    Clients,
}

/// Whether a package may be listed, as far as stored documents say.
pub(super) enum Visibility {
    Visible,
    Hidden,
    /// The upstream must be asked whether the repository is private.
    Unknown {
        /// Whether the package is listed until the upstream answers.
        listed: bool,
    },
}

impl Authorizer {
    pub(super) fn new(
        policy: AccessPolicy,
        cache: Arc<Cache>,
        upstreams: Upstreams,
        documents: Arc<PackageDocuments>,
    ) -> Self {
        Self { policy, cache, upstreams, documents }
    }

    /// Checks a package by the configured patterns. Sends no upstream request.
    ///
    /// # Errors
    /// `Forbidden`.
    pub(super) fn check_policy(&self, package: &PackageId) -> Result<(), RegistryError> {
        if self.policy.allows(package) { Ok(()) } else { Err(RegistryError::Forbidden) }
    }

    /// False when the configured patterns permit no package with a plain name on this upstream. Sends no upstream request.
    pub(super) fn may_allow_plain_names(&self, upstream: &str) -> bool {
        self.policy.may_allow_plain_names(upstream)
    }

    /// Checks a package, and returns what the upstream last said of it.
    ///
    /// # Errors
    /// `Forbidden` by policy; `NotFound(Package)` for a private repository, and for one that is gone where
    /// `packages.gone = "follow"`; `Blocked` also when something is stored.
    pub(super) async fn authorize(&self, package: &PackageId) -> Result<UpstreamStatus, RegistryError> {
        self.check_policy(package)?;
        let present = if self.policy.has_patterns() { self.present_name(package).await? } else { None };
        if let Some(present) = &present {
            self.check_policy(present)?;
        }
        let must_be_public = |package: &PackageId| self.policy.must_be_public(package);
        if (must_be_public(package) || present.as_ref().is_some_and(must_be_public))
            && (self.upstreams.has_token(package)? || self.has_document_fetched_with_token(package).await)
        {
            self.check_public(package).await?;
        }
        self.upstream_status(package).await
    }

    /// The name that the repository has now, if it was renamed; `None` also while the upstream cannot be asked.
    pub(super) async fn present_name(&self, package: &PackageId) -> Result<Option<PackageId>, RegistryError> {
        if package.name.form() != NameForm::Repository {
            return Ok(None);
        }
        let stored = self.documents.stored().document(package, &DocumentAsk::Repository).await;
        let stored = match stored {
            Some(document) => self.documents.stored().parse_repository(&document).await,
            None => None,
        };
        let repository = match stored {
            Some(repository) => {
                self.documents.renew_repository(package).await?;
                Some(repository)
            }
            None => self.documents.repository_for_check(package).await.ok().map(|repository| repository.value),
        };
        Ok(repository.and_then(|repository| renamed(package, &repository)))
    }

    /// Who may be sent what is served of a package.
    pub(super) async fn audience(&self, package: &PackageId) -> Audience {
        let has_token = self.upstreams.has_token(package).unwrap_or(false);
        if !self.policy.must_be_public(package) && (has_token || self.has_document_fetched_with_token(package).await) {
            return Audience::Clients;
        }
        Audience::Public
    }

    /// Checks an archive that was fetched with a token when the upstream has no token now: the repository may be private.
    /// With a token, [`Authorizer::authorize`] has made this check.
    ///
    /// # Errors
    /// As [`Authorizer::authorize`].
    pub(super) async fn recheck_public(&self, package: &PackageId) -> Result<(), RegistryError> {
        let already_checked = self.upstreams.has_token(package)?;
        if already_checked || !self.policy.must_be_public(package) {
            return Ok(());
        }
        self.check_public(package).await
    }

    /// Checks that the repository is public. Its document is revalidated after `documents.repository`; while the last
    /// one says that the repository is public, no request waits for that. A private repository gets the error of one that
    /// does not exist.
    pub(super) async fn check_public(&self, package: &PackageId) -> Result<(), RegistryError> {
        if self.was_public(package).await {
            return self.documents.renew_repository(package).await;
        }
        match self.documents.repository_for_check(package).await {
            Ok(repository) if !repository.value.private => Ok(()),
            Ok(_) | Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Package), .. })) => {
                Err(not_found(Missing::Package, CacheStatus::forwarded(Fwd::UriMiss)))
            }
            Err(error) => Err(error),
        }
    }

    /// True when stored documents show that the repository was public when it was last looked at: its own document says
    /// so, or another one was fetched without a token.
    pub(super) async fn was_public(&self, package: &PackageId) -> bool {
        if let Some(document) = self.documents.stored().document(package, &DocumentAsk::Repository).await {
            let repository = self.documents.stored().parse_repository(&document).await;
            return document.meta.upstream_status == UpstreamStatus::Present
                && repository.is_some_and(|repository| !repository.private);
        }
        for ask in [DocumentAsk::Releases, DocumentAsk::Latest] {
            let stored = self.documents.stored().document(package, &ask).await;
            if stored.is_some_and(|document| !fetched_with_token(&document)) {
                return true;
            }
        }
        false
    }

    /// As [`Authorizer::recheck_public`], for a stored document: checks one that was fetched with a token.
    ///
    /// # Errors
    /// As [`Authorizer::authorize`].
    pub(super) async fn recheck_document(&self, package: &PackageId, ask: &DocumentAsk) -> Result<(), RegistryError> {
        match self.documents.stored().document(package, ask).await {
            Some(document) if fetched_with_token(&document) => self.recheck_public(package).await,
            _ => Ok(()),
        }
    }

    async fn has_document_fetched_with_token(&self, package: &PackageId) -> bool {
        for ask in [
            DocumentAsk::Releases,
            DocumentAsk::Latest,
            DocumentAsk::Tags,
            DocumentAsk::Branches,
            DocumentAsk::Repository,
        ] {
            let stored = self.documents.stored().document(package, &ask).await;
            if stored.as_ref().is_some_and(fetched_with_token) {
                return true;
            }
        }
        false
    }

    /// What the upstream last said of the package, from stored documents. A block applies to stored archives too.
    async fn upstream_status(&self, package: &PackageId) -> Result<UpstreamStatus, RegistryError> {
        match self.documents.stored().upstream_status(package).await {
            // Revalidates the list when that is due. Its error is the answer for as long as the package is blocked or gone.
            UpstreamStatus::Blocked => {
                self.documents.releases(package, None).await?;
                Ok(UpstreamStatus::Present)
            }
            UpstreamStatus::Gone if self.policy.gone() == Gone::Follow => {
                self.documents.releases(package, None).await?;
                Ok(UpstreamStatus::Present)
            }
            // Stored objects are served without the upstream; whether the package has come back is checked in the background.
            UpstreamStatus::Gone => {
                self.documents.revalidate_status(package).await?;
                Ok(UpstreamStatus::Gone)
            }
            UpstreamStatus::Present => Ok(UpstreamStatus::Present),
        }
    }

    /// Decides by policy and stored documents whether a package may be listed. Sends no upstream request.
    pub(super) async fn visibility(&self, package: &PackageId) -> Visibility {
        let Ok(has_token) = self.upstreams.has_token(package) else { return Visibility::Hidden };
        if !self.policy.allows(package) {
            return Visibility::Hidden;
        }
        let releases = self.documents.stored().peek(package, &DocumentAsk::Releases).await;
        match releases.as_ref().map(|document| document.meta.upstream_status) {
            Some(UpstreamStatus::Blocked) => return Visibility::Hidden,
            Some(UpstreamStatus::Gone) if self.policy.gone() == Gone::Follow => return Visibility::Hidden,
            _ => {}
        }
        let parse = |document: &Document| serde_json::from_slice::<Repository>(&document.body).ok();
        let repository = self.documents.stored().peek(package, &DocumentAsk::Repository).await;
        let present = repository.as_ref().and_then(parse).and_then(|repository| renamed(package, &repository));
        if present.as_ref().is_some_and(|present| !self.policy.allows(present)) {
            return Visibility::Hidden;
        }
        let must_be_public = |package: &PackageId| self.policy.must_be_public(package);
        if !must_be_public(package) && !present.as_ref().is_some_and(must_be_public) {
            return Visibility::Visible;
        }
        let latest = self.documents.stored().peek(package, &DocumentAsk::Latest).await;
        // Without a token now, documents from an earlier token may still be stored.
        let stored = [&releases, &latest, &repository];
        if !has_token && !stored.into_iter().flatten().any(fetched_with_token) {
            return Visibility::Visible;
        }
        let public = repository.as_ref().and_then(parse).map(|repository| !repository.private);
        let recent = repository.is_some_and(|document| {
            let age = self.cache.clock().elapsed(document.meta.validated_at);
            age.is_some_and(|age| age <= self.cache.document_config().repository.0)
        });
        match public {
            Some(true) if recent => Visibility::Visible,
            Some(false) if recent => Visibility::Hidden,
            // A list that was fetched without a token proves that the repository was public then.
            None => Visibility::Unknown { listed: releases.is_some_and(|document| !fetched_with_token(&document)) },
            Some(public) => Visibility::Unknown { listed: public },
        }
    }
}

fn fetched_with_token(document: &Document) -> bool {
    document.meta.validators.token_fingerprint.is_some()
}
