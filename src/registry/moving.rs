//! Moving versions, which are published again and again: a document, the present revision, and the archive of that
//! revision. Access is not checked here: see [`super::authorize`].

use std::sync::Arc;

use super::{
    CachedValue, RegistryError,
    archive_source::ArchiveSource,
    package_documents::PackageDocuments,
    resolved::{ResolvedArchive, ResolvedVersion},
    upstreams::Upstreams,
};
use crate::{
    package::{MovingHead, PackageId, Version},
    upstream::{DocumentAsk, GitRef},
};

/// Finds the present revisions of moving versions.
pub(super) struct MovingVersions {
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
}

impl MovingVersions {
    pub(super) fn new(upstreams: Upstreams, documents: Arc<PackageDocuments>, archives: Arc<ArchiveSource>) -> Self {
        Self { upstreams, documents, archives }
    }

    /// The name of the moving version that a version is; `None` for any other.
    pub(super) fn name<'v>(&self, package: &PackageId, version: &'v Version) -> Option<&'v str> {
        match version {
            Version::Tag(name) | Version::Name(name) => Some(&**name).filter(|name| self.is_moving(package, name)),
            Version::Branch(_) | Version::Commit(_) | Version::DefaultBranch => None,
        }
    }

    /// True when the configuration says that this tag moves.
    pub(super) fn is_moving(&self, package: &PackageId, tag: &str) -> bool {
        self.upstreams.is_moving(package, tag)
    }

    /// The reference of the present revision, as fresh as a branch.
    pub(super) async fn reference(&self, package: &PackageId, version: &str) -> Result<GitRef, RegistryError> {
        Ok(reference(version, &self.head(package, version).await?.value.revision))
    }

    /// The reference of the stored revision, whatever its age. Sends no upstream request.
    pub(super) async fn stored_reference(&self, package: &PackageId, version: &str) -> Option<GitRef> {
        if let Some(hosted) = self.upstreams.hosted(package) {
            return hosted.moving_reference(package, version);
        }
        let stored = self.documents.stored().document(package, &DocumentAsk::Moving(version.to_owned())).await?;
        let head: MovingHead = serde_json::from_slice(&stored.body).ok()?;
        Some(reference(version, &head.revision))
    }

    /// The archive of the present revision. While that cannot be fetched, another stored revision is served instead.
    pub(super) async fn archive(&self, package: &PackageId, version: &str) -> Result<ResolvedArchive, RegistryError> {
        let head = self.head(package, version).await?;
        let mut revision = head.value.revision.clone();
        let mut answer = match self.archives.get(package, reference(version, &revision)).await {
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {
                let stored = self.archives.stored_revision(package, version).await;
                revision = stored.ok_or(RegistryError::Fetch(failure.clone()))?;
                let mut answer = self.archives.get(package, reference(version, &revision)).await?;
                answer.status = failure.status.used_stale().detail("stale-if-error");
                answer
            }
            answer => answer?,
        };
        // If the head was fetched, `Cache-Status` reports that fetch, or that it is why the archive was fetched.
        if answer.status.fwd.is_none() {
            answer.status = head.status;
        } else if head.status.fwd.is_some() {
            answer.status.fwd = head.status.fwd;
        }
        // The age of the answer is that of the head: the archive of a revision never changes.
        answer.age = head.age;
        let resolved = ResolvedVersion::Moving { version: version.to_owned(), revision };
        Ok(ResolvedArchive { answer, resolved })
    }

    async fn head(&self, package: &PackageId, version: &str) -> Result<CachedValue<MovingHead>, RegistryError> {
        self.documents.moving_head(package, version).await
    }
}

fn reference(version: &str, revision: &str) -> GitRef {
    GitRef::Moving { version: version.to_owned(), revision: revision.to_owned() }
}
