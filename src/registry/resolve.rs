//! From a version in a path to an archive, with the fewest upstream requests.
//!
//! On a forge, a name is tried as a pinned version, in the release list, as a tag without a release, and as a branch.
//! `refs/tags/…` and `refs/heads/…` state their kind, and so does a full commit: forges refuse tags and branches whose name
//! is 40 hexadecimal digits, so no lookup is needed. On a registry, the archive itself is asked for. A moving version is
//! resolved by its present revision, whatever is pinned under its name.

use std::{sync::Arc, time::Duration};

use super::{
    RegistryError, archive_source::ArchiveSource, authorize::Authorizer, moving::MovingVersions, not_found,
    package_documents::PackageDocuments,
};
use crate::{
    archive::ZipFacts,
    cache::{ArchiveAnswer, Cache, CacheFailure, Object, ServedArchive},
    entry::UpstreamStatus,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{NameForm, PackageId, Releases, Version, with_v_toggled},
    upstream::{DocumentAsk, GitRef},
};

/// A release list of at least this age is revalidated before a version that it lacks is reported missing, so that a new
/// release is found at once.
pub(super) const MIN_REVALIDATE_AGE: Duration = Duration::from_secs(5);

/// What a version was resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedVersion {
    /// A tag, in the upstream's spelling. Immutable.
    Tag(String),
    /// A commit. Immutable.
    Commit(String),
    /// A branch and the commit that it points at. Mutable.
    Branch {
        /// Its name.
        name: String,
        /// Full SHA.
        commit: String,
    },
    /// A moving version of a registry and its present revision. Mutable.
    Moving {
        /// Its name.
        version: String,
        /// What identifies its content.
        revision: String,
    },
}

impl ResolvedVersion {
    /// The unambiguous reference.
    pub(super) fn reference(&self) -> GitRef {
        match self {
            Self::Tag(tag) => GitRef::Tag(tag.clone()),
            Self::Commit(commit) | Self::Branch { commit, .. } => GitRef::Commit(commit.clone()),
            Self::Moving { version, revision } => {
                GitRef::Moving { version: version.clone(), revision: revision.clone() }
            }
        }
    }

    /// The name for people: the tag, the commit, the branch or the moving version.
    pub fn name(&self) -> &str {
        match self {
            Self::Tag(name) | Self::Commit(name) | Self::Branch { name, .. } | Self::Moving { version: name, .. } => {
                name
            }
        }
    }

    /// True when its content never changes.
    pub fn is_immutable(&self) -> bool {
        matches!(self, Self::Tag(_) | Self::Commit(_))
    }
}

/// An archive, and what its version was resolved to.
pub struct ResolvedArchive {
    /// The archive.
    pub answer: ArchiveAnswer,
    /// What the version is.
    pub resolved: ResolvedVersion,
}

impl ResolvedArchive {
    /// The stored archive of an immutable version that was found without an upstream request: the response may be cached.
    pub fn cacheable_object(&self) -> Option<&Object> {
        match (&self.answer.served, &self.resolved) {
            (ServedArchive::Stored(object), ResolvedVersion::Tag(_) | ResolvedVersion::Commit(_))
                if self.answer.status.fwd.is_none() =>
            {
                // An object still being admitted has no usage counters.
                object.usage.is_some().then_some(object)
            }
            _ => None,
        }
    }
}

/// Finds the archive of a version of a package that may be served.
pub struct VersionResolver {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
    moving: Arc<MovingVersions>,
}

/// What a resolver is built on.
pub(super) struct VersionResolverParts {
    pub(super) cache: Arc<Cache>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) documents: Arc<PackageDocuments>,
    pub(super) archives: Arc<ArchiveSource>,
    pub(super) moving: Arc<MovingVersions>,
}

impl VersionResolver {
    pub(super) fn new(parts: VersionResolverParts) -> Self {
        let VersionResolverParts { cache, authorizer, documents, archives, moving } = parts;
        Self { cache, authorizer, documents, archives, moving }
    }

    /// Finds the archive of a version for a client: a hit is counted.
    ///
    /// # Errors
    /// [`RegistryError`]; a version that does not exist is `NotFound(Missing::Version)`.
    pub async fn archive(&self, package: &PackageId, version: &Version) -> Result<ResolvedArchive, RegistryError> {
        let archive = self.resolve(package, version).await?;
        if let ServedArchive::Stored(object) = &archive.answer.served
            && archive.answer.status.fwd.is_none()
        {
            object.record_hit();
        }
        Ok(archive)
    }

    /// The entry that a pinned version lacks, for a component or plugin; `None` also for a version that was never seen,
    /// and for a branch or a moving version. Fetches no archive.
    ///
    /// # Errors
    /// When an entry is missing and the package may not be served; when the pins cannot be read.
    pub async fn pinned_missing_entry(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<Option<String>, RegistryError> {
        for reference in self.archives.immutable_references(package, version) {
            let Some(pin) = self.archives.pin(package, &reference).await.map_err(unreadable_pin)? else { continue };
            let Some(missing) = ZipFacts::missing_entry_in(&pin.verified.facts) else { return Ok(None) };
            // Only a refusal needs this: any other version is authorized when its archive is looked up.
            self.authorizer.authorize(package).await?;
            return Ok(Some(missing.to_owned()));
        }
        Ok(None)
    }

    /// Sets a stored archive aside that its reader found damaged: the next request fetches it again.
    pub async fn quarantine(&self, object: &Object) {
        self.cache.archive_tiers().quarantine(object).await;
    }

    /// As [`VersionResolver::archive`], uncounted.
    ///
    /// # Errors
    /// As [`VersionResolver::archive`].
    pub(super) async fn resolve(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<ResolvedArchive, RegistryError> {
        let upstream_status = self.authorizer.authorize(package).await?;
        let mut archive = match (self.moving.name(package, version), package.name.form()) {
            (Some(name), _) => self.moving(package, version, name).await?,
            (None, NameForm::Repository) => self.forge_version(package, version).await?,
            (None, NameForm::Plain) => self.registry_version(package, version).await?,
        };
        if let ServedArchive::Stored(object) = &archive.answer.served
            && !object.meta.anonymous
        {
            self.authorizer.recheck_public(package).await?;
        }
        if upstream_status == UpstreamStatus::Gone {
            archive.answer.status = archive.answer.status.detail("upstream-gone");
        }
        Ok(archive)
    }

    async fn forge_version(&self, package: &PackageId, version: &Version) -> Result<ResolvedArchive, RegistryError> {
        match version {
            Version::Tag(tag) => self.tag(package, tag).await,
            Version::Branch(branch) => self.branch(package, branch).await,
            Version::Commit(sha) => {
                let answer = self.archives.get(package, GitRef::Commit(sha.clone())).await?;
                Ok(ResolvedArchive { answer, resolved: ResolvedVersion::Commit(sha.clone()) })
            }
            Version::Name(name) => self.name(package, name).await,
        }
    }

    /// A version of a registry's package: its archive, exactly as asked. Once the registry has said that it does not
    /// exist, the same with `v` added or removed.
    async fn registry_version(&self, package: &PackageId, version: &Version) -> Result<ResolvedArchive, RegistryError> {
        let (name, other_spelling) = match version {
            Version::Tag(name) => (name, None),
            Version::Name(name) => (name, with_v_toggled(name)),
            // A registry has neither, so it is not asked.
            Version::Branch(_) | Version::Commit(_) => return Err(not_found(Missing::Version, CacheStatus::hit(None))),
        };
        let failure = match self.tag(package, name).await {
            Err(RegistryError::Fetch(failure)) => failure,
            answer => return answer,
        };
        if failure.error.is_trouble() {
            // The only spelling that was ever seen is taken for the one that is meant.
            if let Some(other) = other_spelling
                && let Some(mut archive) = self.known_tag(package, other).await?
            {
                archive.answer.status = archive.answer.status.detail("other-spelling");
                return Ok(archive);
            }
            return match failure.error {
                FetchError::Offline { .. } => Err(self.offline_error(package, name, failure).await),
                _ => Err(failure.into()),
            };
        }
        if matches!(failure.error, FetchError::NotFound(_)) {
            self.ensure_exists(package).await?;
            if let Some(other) = other_spelling {
                match self.tag(package, &other).await {
                    Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => {}
                    answer => return answer,
                }
            }
        }
        Err(failure.into())
    }

    /// A moving version by its present revision. On a forge, a name that is no tag may be a branch.
    async fn moving(
        &self,
        package: &PackageId,
        version: &Version,
        name: &str,
    ) -> Result<ResolvedArchive, RegistryError> {
        match self.moving.archive(package, name).await {
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(missing), status })) => {
                match (version, package.name.form()) {
                    (Version::Name(_), NameForm::Repository) => self.branch(package, name).await,
                    (_, NameForm::Repository) => Err(not_found(missing, status)),
                    (_, NameForm::Plain) => {
                        self.ensure_exists(package).await?;
                        Err(not_found(missing, status))
                    }
                }
            }
            answer => answer,
        }
    }

    /// Tells a missing version from a missing package. Trouble tells nothing: then the version is what is missing.
    async fn ensure_exists(&self, package: &PackageId) -> Result<(), RegistryError> {
        match self.documents.ensure_exists(package).await {
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => Ok(()),
            found => found,
        }
    }

    async fn name(&self, package: &PackageId, name: &str) -> Result<ResolvedArchive, RegistryError> {
        for tag in [Some(name.to_owned()), with_v_toggled(name)].into_iter().flatten() {
            if let Some(archive) = self.known_tag(package, tag).await? {
                return Ok(archive);
            }
        }
        if let Some(tag) = self.documents.stored().releases(package).await.and_then(|list| find_tag(&list, name)) {
            return self.tag(package, &tag).await;
        }
        // A polled branch costs one request, not three: while its head is fresh, the name is not looked up as a tag.
        if self.documents.stored().has_fresh_branch(package, name).await {
            return self.branch(package, name).await;
        }
        if let Some(tag) = self.listed_tag(package, name).await? {
            return self.tag(package, &tag).await;
        }
        match self.tag(package, name).await {
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Version), .. })) => {
                self.branch(package, name).await
            }
            // While the upstream fails, the tag may exist; a stored branch of that name is served instead.
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {
                let stored = self.documents.stored().document(package, &DocumentAsk::Branch(name.to_owned())).await;
                match failure.error {
                    _ if stored.is_some() => self.branch(package, name).await,
                    FetchError::Offline { .. } => Err(self.offline_error(package, name, failure).await),
                    _ => Err(RegistryError::Fetch(failure)),
                }
            }
            answer => answer,
        }
    }

    /// The offline error for a version; `absent` when a stored complete list lacks it.
    async fn offline_error(&self, package: &PackageId, name: &str, failure: CacheFailure) -> RegistryError {
        let list = self.documents.stored().releases(package).await.filter(|list| !list.truncated);
        let absent = list.is_some_and(|list| find_tag(&list, name).is_none());
        RegistryError::Fetch(CacheFailure { error: FetchError::Offline { absent }, ..failure })
    }

    /// The archive of a tag that is stored, pinned or arriving: no list is read, and for a stored one no upstream request
    /// is sent.
    async fn known_tag(&self, package: &PackageId, tag: String) -> Result<Option<ResolvedArchive>, RegistryError> {
        let reference = GitRef::Tag(tag.clone());
        if !self.archives.is_known(package, &reference).await? {
            return Ok(None);
        }
        let answer = self.archives.get(package, reference).await?;
        Ok(Some(ResolvedArchive { answer, resolved: ResolvedVersion::Tag(tag) }))
    }

    async fn tag(&self, package: &PackageId, tag: &str) -> Result<ResolvedArchive, RegistryError> {
        let answer = self.archives.get(package, GitRef::Tag(tag.to_owned())).await?;
        Ok(ResolvedArchive { answer, resolved: ResolvedVersion::Tag(tag.to_owned()) })
    }

    /// A branch is a mutable document, its head commit, and the immutable archive of that commit.
    async fn branch(&self, package: &PackageId, name: &str) -> Result<ResolvedArchive, RegistryError> {
        let head = self.documents.branch_head(package, name).await?;
        let commit = head.value.commit.clone();
        let mut answer = self.archives.get(package, GitRef::Commit(commit.clone())).await?;
        // If the branch head was fetched, report that fetch in `Cache-Status`.
        if answer.status.fwd.is_none() {
            answer.status = head.status;
        }
        // The age of the answer is that of the branch head: the archive of a commit never changes.
        answer.age = head.age;
        Ok(ResolvedArchive { answer, resolved: ResolvedVersion::Branch { name: name.to_owned(), commit } })
    }

    /// The tag under which the release list has a version. The list is revalidated unless it is younger than
    /// [`MIN_REVALIDATE_AGE`].
    async fn listed_tag(&self, package: &PackageId, name: &str) -> Result<Option<String>, RegistryError> {
        match self.documents.releases(package, Some(MIN_REVALIDATE_AGE)).await {
            Ok(list) => Ok(find_tag(&list.value, name)),
            // A repository without releases may still have tags and branches.
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Release), .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn unreadable_pin(error: FetchError) -> RegistryError {
    RegistryError::Fetch(CacheFailure { error, status: CacheStatus::hit(None) })
}

/// The tag of a version in a list: exactly as asked, else with `v` added or removed.
pub(super) fn find_tag(releases: &Releases, name: &str) -> Option<String> {
    let has = |tag: &str| releases.releases.iter().any(|release| release.tag_name == tag);
    if has(name) {
        return Some(name.to_owned());
    }
    with_v_toggled(name).filter(|toggled| has(toggled))
}
