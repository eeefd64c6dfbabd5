//! Renewal of release lists that lack a release that exists: every page is fetched again, beside the requests.
//!
//! A 304 of page one renews a list of several pages, so a release that is not on page one would be found only by the hourly
//! fetch of all pages.

use std::sync::Arc;

use super::{
    CachedValue, RegistryError, keys::document_key, package_documents::PackageDocuments, upstreams::Upstreams,
};
use crate::{
    cache::Cache,
    http::cache_status::CacheStatus,
    package::{NameForm, PackageId, Release},
    upstream::{DocumentAsk, ReleaseLookup},
};

/// Starts the renewal of stored lists that lack a release.
pub(super) struct ListRenewal {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
}

impl ListRenewal {
    pub(super) fn new(cache: Arc<Cache>, upstreams: Upstreams, documents: Arc<PackageDocuments>) -> Self {
        Self { cache, upstreams, documents }
    }

    /// Starts a fetch of all pages of the stored list: a release that the list lacks was found at its own address.
    pub(super) async fn renew(&self, package: &PackageId) -> Result<(), RegistryError> {
        let policy = self.documents.policies().releases(package, None)?;
        let origin = self.upstreams.document_origin(package, DocumentAsk::Releases)?;
        self.cache.documents().refetch_all_pages(&document_key(package, &DocumentAsk::Releases), policy, origin).await;
        Ok(())
    }

    /// Renews a stored list that lacks the upstream's latest release, if all its pages were last fetched before that release
    /// was first seen.
    pub(super) async fn renew_without_latest(
        &self,
        package: &PackageId,
        latest: &CachedValue<Release>,
    ) -> Result<(), RegistryError> {
        let Some(list) = self.documents.stored().document(package, &DocumentAsk::Releases).await else { return Ok(()) };
        let Some(seen) = self.documents.stored().changed_at(package, &DocumentAsk::Latest).await else { return Ok(()) };
        if list.meta.validators.last_full_fetch.is_some_and(|walked| walked >= seen) {
            return Ok(());
        }
        match self.documents.stored().releases(package).await {
            Some(list) if !list.has(&latest.value.tag_name) => self.renew(package).await,
            _ => Ok(()),
        }
    }

    /// Renews the list after the archive of a tag was fetched: where the stored list has several pages and lacks the tag, one
    /// request beside this one asks whether the tag has a release.
    pub(super) async fn renew_without_tag(self: &Arc<Self>, package: &PackageId, tag: &str, status: &CacheStatus) {
        if status.fwd.is_none() || package.name.form() != NameForm::Repository {
            return;
        }
        let Some(document) = self.documents.stored().document(package, &DocumentAsk::Releases).await else { return };
        let Some(list) = self.documents.stored().releases(package).await else { return };
        if document.meta.validators.pages.len() < 2 || list.truncated || list.has(tag) {
            return;
        }
        let renewal = self.clone();
        let package = package.clone();
        let ask = DocumentAsk::Tag(tag.to_owned());
        self.cache.spawn(async move {
            // An error is a tag without a release, or trouble: then the list waits for the hourly fetch of all pages.
            if renewal.documents.release(&package, ask, None).await.is_ok() {
                let renewed = renewal.renew(&package).await;
                debug_assert!(renewed.is_ok(), "the upstream has just answered");
            }
        });
    }

    /// The status of the release list if the stored one is complete and empty and, revalidated where that is due, still is;
    /// else `None`. Sends at most one request, the one for the list.
    pub(super) async fn confirm_no_release(&self, package: &PackageId) -> Result<Option<CacheStatus>, RegistryError> {
        if self.upstreams.release_lookup(package)? != ReleaseLookup::InList {
            return Ok(None);
        }
        match self.documents.stored().releases(package).await {
            Some(list) if list.releases.is_empty() && !list.truncated => {}
            _ => return Ok(None),
        }
        let age = self.documents.policies().fresh_period(package)?;
        let list = self.documents.releases(package, Some(age)).await?;
        let is_empty = list.value.releases.is_empty() && !list.value.truncated;
        Ok(is_empty.then_some(list.status))
    }
}
