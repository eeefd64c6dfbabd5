//! The archives of a package by unambiguous reference. Access is not checked here: see [`super::authorize`].

use std::sync::Arc;

use super::{RegistryError, keys::archive_key, package_documents::PackageDocuments, upstreams::Upstreams};
use crate::{
    cache::{ArchiveAnswer, ArchiveAvailability, ArchiveRequest, Cache, fill_watcher::FillWatcher},
    entry::{Meta, Pin},
    origin::{FetchError, Verify},
    package::PackageId,
    upstream::GitRef,
};

/// Archives by package and reference, for the use cases.
pub(super) struct ArchiveSource {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
    verify: Arc<dyn Verify>,
}

impl ArchiveSource {
    pub(super) fn new(
        cache: Arc<Cache>,
        upstreams: Upstreams,
        documents: Arc<PackageDocuments>,
        verify: Arc<dyn Verify>,
    ) -> Self {
        Self { cache, upstreams, documents, verify }
    }

    /// The archive from the cache, else from a fill that this starts or joins.
    pub(super) async fn get(&self, package: &PackageId, reference: GitRef) -> Result<ArchiveAnswer, RegistryError> {
        let request = self.request(package, reference)?;
        match self.cache.archives().get(&request).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.documents.record_block(package, &failure.error).await;
                Err(failure.into())
            }
        }
    }

    /// Waits until the archive is complete, and returns what is stored about it.
    pub(super) async fn completed(&self, package: &PackageId, reference: GitRef) -> Result<Arc<Meta>, RegistryError> {
        Ok(self.cache.archives().completed(&self.request(package, reference)?).await?)
    }

    /// Follows the fill of the archive; starts it when there is none and the archive is not stored.
    pub(super) fn watch(&self, package: &PackageId, reference: GitRef) -> Result<FillWatcher, RegistryError> {
        Ok(self.cache.archives().watch(self.request(package, reference)?))
    }

    /// True when the reference needs no release list: its archive is stored, pinned or arriving.
    pub(super) async fn is_known(&self, package: &PackageId, reference: &GitRef) -> Result<bool, RegistryError> {
        Ok(self.cache.archives().is_known(&archive_key(package, reference)).await?)
    }

    /// Whether the archive is on disk, and its length when it was ever seen.
    pub(super) async fn availability(&self, package: &PackageId, reference: &GitRef) -> ArchiveAvailability {
        self.cache.archives().availability(&archive_key(package, reference)).await
    }

    /// The pin of the reference.
    pub(super) async fn pin(&self, package: &PackageId, reference: &GitRef) -> Result<Option<Arc<Pin>>, FetchError> {
        self.cache.pins().get(&archive_key(package, reference)).await
    }

    fn request(&self, package: &PackageId, reference: GitRef) -> Result<ArchiveRequest, RegistryError> {
        let key = archive_key(package, &reference);
        let origin = self.upstreams.archive_origin(package, reference)?;
        Ok(ArchiveRequest { key, origin, verify: self.verify.clone() })
    }
}
