//! The archives of a package by unambiguous reference. Which packages are served is not checked here, see
//! [`super::authorize`]; which versions are, is.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    RegistryError,
    hosting::HostedPackages,
    identity::RepositoryIdentity,
    keys::{archive_key, parse_archive_key, revision_prefix},
    model_policy::ModelPolicy,
    package_documents::PackageDocuments,
    upstreams::Upstreams,
    version_rules::VersionRules,
};
use crate::{
    cache::{
        ArchiveAnswer, ArchiveAvailability, ArchiveRequest, Asker, Cache, CacheFailure, Object, Pinning, ServedArchive,
        fill_watcher::FillWatcher,
    },
    entry::{Key, Meta, Pin},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing, Verify},
    package::{PackageId, Version},
    upstream::GitRef,
};

/// Archives by package and reference, for the use cases.
pub(super) struct ArchiveSource {
    cache: Arc<Cache>,
    upstreams: Upstreams,
    documents: Arc<PackageDocuments>,
    identity: Arc<RepositoryIdentity>,
    rules: Arc<VersionRules>,
    model: Arc<ModelPolicy>,
    verify: Arc<dyn Verify>,
}

/// What [`ArchiveSource`] works with.
pub(super) struct ArchiveSourceParts {
    pub(super) cache: Arc<Cache>,
    pub(super) upstreams: Upstreams,
    pub(super) documents: Arc<PackageDocuments>,
    pub(super) identity: Arc<RepositoryIdentity>,
    pub(super) rules: Arc<VersionRules>,
    pub(super) model: Arc<ModelPolicy>,
    pub(super) verify: Arc<dyn Verify>,
}

impl ArchiveSource {
    pub(super) fn new(parts: ArchiveSourceParts) -> Self {
        let ArchiveSourceParts { cache, upstreams, documents, identity, rules, model, verify } = parts;
        Self { cache, upstreams, documents, identity, rules, model, verify }
    }

    /// Checks whether the rules about versions permit the archive.
    ///
    /// # Errors
    /// `VersionRefused`.
    pub(super) async fn ensure_served(&self, package: &PackageId, reference: &GitRef) -> Result<(), RegistryError> {
        self.rules.check_reference(package, reference).await
    }

    /// Records for the rules about versions that a commit exists.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub(super) async fn note_commit(&self, package: &PackageId, commit: &str) -> Result<(), RegistryError> {
        self.rules.note_commit(package, commit).await
    }

    /// The archive from the cache, else from a fill that this starts or joins.
    pub(super) async fn get(&self, package: &PackageId, reference: GitRef) -> Result<ArchiveAnswer, RegistryError> {
        self.get_with_negative_age(package, reference, None).await
    }

    /// As [`ArchiveSource::get`]. `negative` is how long it is remembered that the archive does not exist; `None`: as long
    /// as other absences of the package.
    pub(super) async fn get_with_negative_age(
        &self,
        package: &PackageId,
        reference: GitRef,
        negative: Option<Duration>,
    ) -> Result<ArchiveAnswer, RegistryError> {
        self.rules.check_reference(package, &reference).await?;
        if let Some(hosted) = self.upstreams.hosted(package) {
            return hosted.archive(package, &reference).await;
        }
        self.identity.ensure_same(package, &reference).await?;
        let mut request = self.request(package, reference)?;
        request.negative = negative.unwrap_or(request.negative);
        match self.cache.archives().get(&request).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.documents.record_block(package, &failure.error).await;
                Err(failure.into())
            }
        }
    }

    /// The archive of a key for another node of the fleet, which applies the rules itself.
    ///
    /// # Errors
    /// `NotFound(Version)` for a key of no upstream's archive; why the archive cannot be fetched.
    pub(super) async fn get_for_node(&self, key: &Key) -> Result<ArchiveAnswer, RegistryError> {
        let found = parse_archive_key(key).filter(|(package, _)| self.upstreams.hosted(package).is_none());
        let (package, reference) = found.ok_or_else(absent)?;
        let request = ArchiveRequest { asker: Asker::Node, ..self.request(&package, reference)? };
        Ok(self.cache.archives().get(&request).await?)
    }

    /// Waits until the archive is complete, and returns what is stored about it.
    pub(super) async fn completed(&self, package: &PackageId, reference: GitRef) -> Result<Arc<Meta>, RegistryError> {
        if self.upstreams.hosted(package).is_some() {
            return Ok(self.object(package, reference).await?.meta);
        }
        self.rules.check_reference(package, &reference).await?;
        self.identity.ensure_same(package, &reference).await?;
        Ok(self.cache.archives().completed(&self.request(package, reference)?).await?)
    }

    /// The complete archive; waits for the end of its download.
    pub(super) async fn object(&self, package: &PackageId, reference: GitRef) -> Result<Object, RegistryError> {
        let answer = self.get(package, reference).await?;
        complete(answer.served, &answer.status).await
    }

    /// Follows the fill of the archive; starts it when there is none and the archive is not stored.
    pub(super) fn watch(&self, package: &PackageId, reference: GitRef) -> Result<FillWatcher, RegistryError> {
        Ok(self.cache.archives().watch(self.request(package, reference)?))
    }

    /// True when the reference needs no release list: its archive is stored, pinned or arriving.
    pub(super) async fn is_known(&self, package: &PackageId, reference: &GitRef) -> Result<bool, RegistryError> {
        match self.upstreams.hosted(package) {
            Some(hosted) => Ok(hosted.availability(package, reference).on_disk),
            None => Ok(self.cache.archives().is_known(&archive_key(package, reference)).await?),
        }
    }

    /// True while it is remembered that the upstream has no such archive.
    pub(super) fn is_absent(&self, package: &PackageId, reference: &GitRef) -> bool {
        self.cache.archives().is_absent(&archive_key(package, reference))
    }

    /// Forgets that the upstream had no such archive, if it said so before `since`.
    pub(super) fn forget_absence(&self, package: &PackageId, reference: &GitRef, since: Timestamp) {
        self.cache.archives().forget_absence(&archive_key(package, reference), since);
    }

    /// Whether the archive is on disk, and its length when it was ever seen.
    pub(super) async fn availability(&self, package: &PackageId, reference: &GitRef) -> ArchiveAvailability {
        if let Some(hosted) = self.upstreams.hosted(package) {
            return hosted.availability(package, reference);
        }
        let key = archive_key(package, reference);
        match reference {
            GitRef::Tag(_) | GitRef::Commit(_) => self.cache.archives().availability(&key).await,
            // Not pinned: the stored archive says its length.
            GitRef::Moving { .. } => {
                let meta = self.stored_meta(package, reference).await;
                ArchiveAvailability { on_disk: meta.is_some(), len: meta.map(|meta| meta.len) }
            }
        }
    }

    /// What is stored about an archive on disk; `None` when it is not there or cannot be read.
    pub(super) async fn stored_meta(&self, package: &PackageId, reference: &GitRef) -> Option<Arc<Meta>> {
        if let Some(hosted) = self.upstreams.hosted(package) {
            return stored_object(hosted.archive(package, reference).await).map(|object| object.meta);
        }
        self.cache.disk().inventory().meta(&archive_key(package, reference)).await.ok().flatten()
    }

    /// What is stored of an archive, without counting a use.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(super) async fn peek(&self, package: &PackageId, reference: &GitRef) -> io::Result<Option<Object>> {
        match self.upstreams.hosted(package) {
            Some(hosted) => Ok(stored_object(hosted.archive(package, reference).await)),
            None => self.cache.archive_tiers().peek(&archive_key(package, reference)).await,
        }
    }

    /// What is published on this mirror; `None` where nothing can be.
    pub(super) fn hosting(&self) -> Option<&Arc<HostedPackages>> {
        self.upstreams.hosting()
    }

    /// True for a package that is published on this mirror: nothing of it is fetched.
    pub(super) fn is_hosted(&self, package: &PackageId) -> bool {
        self.upstreams.hosted(package).is_some()
    }

    /// Any stored revision of a moving version.
    pub(super) async fn stored_revision(&self, package: &PackageId, version: &str) -> Option<String> {
        let stored = self.cache.archive_tiers().revisions(&revision_prefix(package, version)).await;
        let stored = stored.unwrap_or_else(|error| {
            tracing::warn!(%package, version, %error, "the stored revisions cannot be listed");
            Vec::new()
        });
        stored.iter().find_map(|key| match parse_archive_key(key)? {
            (_, GitRef::Moving { revision, .. }) => Some(revision),
            _ => None,
        })
    }

    /// The pin of the reference.
    pub(super) async fn pin(&self, package: &PackageId, reference: &GitRef) -> Result<Option<Arc<Pin>>, FetchError> {
        self.cache.pins().get(&archive_key(package, reference)).await
    }

    /// The reference that a version is without a lookup, in exactly its spelling. A branch and a moving version have none:
    /// they are mutable, and a pin that a moving version had before is ignored.
    pub(super) fn immutable_reference(&self, package: &PackageId, version: &Version) -> Option<GitRef> {
        match version {
            Version::Branch(_) | Version::DefaultBranch => None,
            Version::Commit(sha) => Some(GitRef::Commit(sha.clone())),
            Version::Tag(name) | Version::Name(name) => {
                (!self.upstreams.is_moving(package, name)).then(|| GitRef::Tag(name.clone()))
            }
        }
    }

    fn request(&self, package: &PackageId, reference: GitRef) -> Result<ArchiveRequest, RegistryError> {
        let key = archive_key(package, &reference);
        let pinning = pinning(package, &reference);
        let verify = self.model.logging(&self.verify, package, version_of(&reference));
        let origin = self.upstreams.archive_origin(package, reference)?;
        let negative = self.documents.policies().negative(package)?;
        Ok(ArchiveRequest { key, origin, verify, pinning, negative, asker: Asker::Client })
    }
}

/// The error for a key that leads to no archive.
fn absent() -> RegistryError {
    let error = FetchError::NotFound(Missing::Version);
    RegistryError::Fetch(CacheFailure { error, status: CacheStatus::generated() })
}

/// The archive of an answer, if it is stored.
fn stored_object(answer: Result<ArchiveAnswer, RegistryError>) -> Option<Object> {
    match answer.ok()?.served {
        ServedArchive::Stored(object) => Some(object),
        ServedArchive::Arriving { .. } => None,
    }
}

/// The tag, commit or moving version, for the log.
pub(super) fn version_of(reference: &GitRef) -> &str {
    match reference {
        GitRef::Tag(version) | GitRef::Commit(version) | GitRef::Moving { version, .. } => version,
    }
}

/// Whether the content of a reference is pinned.
pub(super) fn pinning(package: &PackageId, reference: &GitRef) -> Pinning {
    match reference {
        GitRef::Tag(_) | GitRef::Commit(_) => Pinning::Pinned,
        GitRef::Moving { version, .. } => Pinning::Revision { prefix: revision_prefix(package, version).into() },
    }
}

/// Waits until an archive is complete.
///
/// # Errors
/// The fill's error.
pub(super) async fn complete(served: ServedArchive, status: &CacheStatus) -> Result<Object, RegistryError> {
    let spool_reader = match served {
        ServedArchive::Stored(object) => return Ok(object),
        ServedArchive::Arriving { spool_reader, .. } => spool_reader,
    };
    spool_reader.whole().await.map_err(|error| RegistryError::Fetch(CacheFailure { error, status: status.clone() }))
}
