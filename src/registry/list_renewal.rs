//! Release lists that turn out to lack a release that exists: walked again from the first page to the last, beside the
//! requests.
//!
//! A 304 of page one renews a list of several pages, so a release that is not on page one would be found only by the hourly
//! walk over all pages.

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

/// Makes stored lists be walked again.
pub(super) struct ListRenewal {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
}

impl ListRenewal {
    pub(super) fn new(cache: Arc<Cache>, upstreams: Upstreams, documents: Arc<PackageDocuments>) -> Self {
        Self { cache, upstreams, documents }
    }

    /// A release was found at its own address, and the stored list lacks it.
    pub(super) async fn note_unlisted(&self, package: &PackageId) -> Result<(), RegistryError> {
        let policy = self.documents.policies().releases(package, None)?;
        let origin = self.upstreams.document_origin(package, DocumentAsk::Releases)?;
        self.cache.documents().walk_again(&document_key(package, &DocumentAsk::Releases), policy, origin).await;
        Ok(())
    }

    /// The upstream's latest release: a stored list that lacks it, and was last walked before it was first seen, is walked
    /// again.
    pub(super) async fn note_latest(
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
            Some(list) if !list.has(&latest.value.tag_name) => self.note_unlisted(package).await,
            _ => Ok(()),
        }
    }

    /// The archive of a tag was fetched. Where the stored list has several pages and lacks the tag, one request beside this
    /// one asks whether the tag has a release.
    pub(super) async fn note_found_tag(self: &Arc<Self>, package: &PackageId, tag: &str, status: &CacheStatus) {
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
            // A tag without a release, or trouble: then nothing is known, and the hourly walk remains.
            if renewal.documents.release(&package, ask, None).await.is_ok() {
                let noted = renewal.note_unlisted(&package).await;
                debug_assert!(noted.is_ok(), "the upstream has just answered");
            }
        });
    }

    /// True when the stored list says by itself that the package has no release: it is complete and empty, as fresh as a
    /// list must be. Sends at most one request, the one for the list.
    pub(super) async fn has_no_release(&self, package: &PackageId) -> Result<Option<CacheStatus>, RegistryError> {
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
