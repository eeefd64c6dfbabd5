//! The two spellings of a version, with and without `v`: which of them stored documents and pins have. Sends no upstream
//! request.
//!
//! The exact spelling always wins. The other one is served for a name that the upstream does not have, or that it cannot be
//! asked for while nothing stored suggests that it exists.

use std::sync::Arc;

use super::{RegistryError, archive_source::ArchiveSource, package_documents::PackageDocuments};
use crate::{
    package::{PackageId, with_v_toggled},
    upstream::GitRef,
};

/// What is stored about the spellings of versions.
pub(super) struct Spellings {
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
}

impl Spellings {
    pub(super) fn new(documents: Arc<PackageDocuments>, archives: Arc<ArchiveSource>) -> Self {
        Self { documents, archives }
    }

    /// True when the stored release list, of any age, has exactly this tag.
    pub(super) async fn is_listed(&self, package: &PackageId, tag: &str) -> bool {
        self.documents.stored().releases(package).await.is_some_and(|list| list.has(tag))
    }

    /// True when a complete list is stored and lacks a version in both spellings.
    pub(super) async fn is_unlisted(&self, package: &PackageId, name: &str) -> bool {
        let list = self.documents.stored().releases(package).await.filter(|list| !list.truncated);
        list.is_some_and(|list| !list.has(name) && !with_v_toggled(name).is_some_and(|other| list.has(&other)))
    }

    /// True when exactly this tag is in the stored release list, or was served before.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(super) async fn is_seen(&self, package: &PackageId, tag: &str) -> Result<bool, RegistryError> {
        Ok(self.is_listed(package, tag).await || self.is_known(package, tag).await?)
    }

    /// True when an archive was served, or arrives, under exactly this tag.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(super) async fn is_known(&self, package: &PackageId, tag: &str) -> Result<bool, RegistryError> {
        self.archives.is_known(package, &GitRef::Tag(tag.to_owned())).await
    }

    /// The other spelling of a name, if it may be served while the upstream cannot be asked for the name: where the stored
    /// list lacks the name and has the other spelling, or where no list is stored and the other spelling is the only one that
    /// was ever served.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(super) async fn fallback(&self, package: &PackageId, name: &str) -> Result<Option<String>, RegistryError> {
        let Some(other) = with_v_toggled(name) else { return Ok(None) };
        if self.is_known(package, name).await? {
            return Ok(None);
        }
        let is_allowed = match self.documents.stored().releases(package).await {
            Some(list) => !list.has(name) && list.has(&other),
            None => self.is_known(package, &other).await?,
        };
        Ok(Some(other).filter(|_| is_allowed))
    }
}
