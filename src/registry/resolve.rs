//! From a version in a path to an archive, with the fewest upstream requests.
//!
//! On a forge, a name is tried as a pinned version, in the release list, as a tag without a release, and as a branch
//! ([`forge_name`]). `refs/tags/…` and `refs/heads/…` state their kind, and so does a full commit: forges refuse tags and
//! branches whose name is 40 hexadecimal digits, so no lookup is needed. On a registry, the archive itself is asked for
//! ([`registry_version`]). A moving version is resolved to its present revision, whatever is pinned under its name.

use std::sync::Arc;

use super::{
    RegistryError,
    archive_source::{self, ArchiveSource},
    authorize::Authorizer,
    error::unreadable_pin,
    list_renewal::ListRenewal,
    model_policy::{ModelPolicy, ensure_conforms},
    moving::MovingVersions,
    not_found,
    package_documents::PackageDocuments,
    ref_lists::RefLists,
    resolved::{ResolvedArchive, ResolvedVersion},
    spelling::Spellings,
};
use crate::{
    archive::ZipFacts,
    cache::{Cache, CacheFailure, Object, ServedArchive},
    entry::UpstreamStatus,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{NameForm, PackageId, Version},
    upstream::GitRef,
};

mod forge_name;
mod registry_version;

/// Finds the archive of a version of a package that may be served.
pub struct VersionResolver {
    cache: Arc<Cache>,
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    archives: Arc<ArchiveSource>,
    moving: Arc<MovingVersions>,
    ref_lists: Arc<RefLists>,
    list_renewal: Arc<ListRenewal>,
    model: Arc<ModelPolicy>,
    spellings: Spellings,
}

/// What a resolver is built on.
pub(super) struct VersionResolverParts {
    pub(super) cache: Arc<Cache>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) documents: Arc<PackageDocuments>,
    pub(super) archives: Arc<ArchiveSource>,
    pub(super) moving: Arc<MovingVersions>,
    pub(super) ref_lists: Arc<RefLists>,
    pub(super) list_renewal: Arc<ListRenewal>,
    pub(super) model: Arc<ModelPolicy>,
}

impl VersionResolver {
    pub(super) fn new(parts: VersionResolverParts) -> Self {
        let VersionResolverParts { cache, authorizer, documents, archives, moving, ref_lists, list_renewal, model } =
            parts;
        let spellings = Spellings::new(documents.clone(), archives.clone());
        Self { cache, authorizer, documents, archives, moving, ref_lists, list_renewal, model, spellings }
    }

    /// Finds the archive of a version for a client: a hit is counted. Where the package model is enforced, waits until the
    /// archive is complete. Of a repository with folders that are packages, a client may have the whole only through
    /// [`super::folders::FolderPackages::whole_archive`].
    ///
    /// # Errors
    /// [`RegistryError`]; a version that does not exist is `NotFound(Missing::Version)`.
    pub(super) async fn archive(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<ResolvedArchive, RegistryError> {
        if !self.model.is_enforced(package).await {
            return self.resolve_counted(package, version).await;
        }
        let findings = |facts: &_| ZipFacts::model_findings_in(facts).filter(|findings| !findings.is_empty());
        // Known from an earlier download: nothing is fetched for a refusal.
        ensure_conforms(self.pinned_fault(package, version, findings).await?, None)?;
        let mut archive = self.resolve_counted(package, version).await?;
        let object = archive_source::complete(archive.answer.served, &archive.answer.status).await?;
        ensure_conforms(ZipFacts::model_findings_in(&object.meta.verified.facts), Some(&archive.answer.status))?;
        archive.answer.served = ServedArchive::Stored(object);
        Ok(archive)
    }

    /// As [`VersionResolver::archive`], whether the package conforms to the package model or not.
    ///
    /// # Errors
    /// As [`VersionResolver::archive`].
    pub(super) async fn resolve_counted(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<ResolvedArchive, RegistryError> {
        let archive = self.resolve(package, version).await?;
        if let ServedArchive::Stored(object) = &archive.answer.served
            && archive.answer.status.fwd.is_none()
        {
            object.record_hit();
        }
        Ok(archive)
    }

    /// The entry that a component or plugin lacks, by the pin of exactly this version; `None` also for a version that was
    /// never seen, and for a branch or a moving version. Fetches no archive.
    ///
    /// # Errors
    /// When an entry is missing and the package may not be served; when the pins cannot be read.
    pub async fn pinned_missing_entry(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<Option<String>, RegistryError> {
        self.pinned_fault(package, version, |facts| ZipFacts::missing_entry_in(facts).map(str::to_owned)).await
    }

    /// What `fault` finds in the facts that the pin of exactly this version has.
    async fn pinned_fault<T>(
        &self,
        package: &PackageId,
        version: &Version,
        fault: impl FnOnce(&serde_json::Value) -> Option<T>,
    ) -> Result<Option<T>, RegistryError> {
        let Some(reference) = self.archives.immutable_reference(package, version) else { return Ok(None) };
        let Some(pin) = self.archives.pin(package, &reference).await.map_err(unreadable_pin)? else { return Ok(None) };
        let Some(fault) = fault(&pin.verified.facts) else { return Ok(None) };
        self.archives.ensure_served(package, &reference).await?;
        // Only a refusal needs this: any other version is authorized when its archive is looked up.
        self.authorizer.authorize(package).await?;
        Ok(Some(fault))
    }

    /// Quarantines a stored archive that its reader has found damaged: the next request fetches it again.
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
            (Some(name), _) => self.resolve_moving(package, version, name).await?,
            (None, NameForm::Repository) => self.resolve_on_forge(package, version).await?,
            (None, NameForm::Plain) => self.resolve_on_registry(package, version).await?,
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

    async fn resolve_on_forge(&self, package: &PackageId, version: &Version) -> Result<ResolvedArchive, RegistryError> {
        match version {
            Version::Tag(tag) => match self.find_git_tag(package, tag, None).await? {
                TagLookup::Found(archive) => Ok(archive),
                TagLookup::Absent(failure) => {
                    self.ref_lists.note_unknown(package, tag)?;
                    Err(failure.into())
                }
                TagLookup::Trouble(failure) => Err(self.trouble_error(package, tag, failure).await),
            },
            Version::Branch(branch) => self.resolve_branch(package, branch).await,
            Version::Commit(sha) => {
                let answer = self.archives.get(package, GitRef::Commit(sha.clone())).await?;
                Ok(ResolvedArchive { answer, resolved: ResolvedVersion::Commit(sha.clone()) })
            }
            Version::Name(name) => self.resolve_name(package, name).await,
            Version::DefaultBranch => {
                let repository = self.documents.repository(package).await?;
                self.resolve_branch(package, &repository.value.default_branch).await
            }
        }
    }

    /// Resolves a moving version to its present revision. On a forge, a name that is no tag may be a branch.
    async fn resolve_moving(
        &self,
        package: &PackageId,
        version: &Version,
        name: &str,
    ) -> Result<ResolvedArchive, RegistryError> {
        match self.moving.archive(package, name).await {
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(missing), status })) => {
                match (version, package.name.form()) {
                    (Version::Name(_), NameForm::Repository) => self.resolve_branch(package, name).await,
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

    /// Checks, for a missing version, that its package exists. While the upstream fails, the package counts as existing.
    async fn ensure_exists(&self, package: &PackageId) -> Result<(), RegistryError> {
        match self.documents.ensure_exists(package).await {
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => Ok(()),
            found => found,
        }
    }

    /// The error for a version that could not be asked for; offline, it says whether a stored complete list lacks it.
    async fn trouble_error(&self, package: &PackageId, name: &str, failure: CacheFailure) -> RegistryError {
        if !matches!(failure.error, FetchError::Offline { .. }) {
            return failure.into();
        }
        let absent = self.spellings.is_unlisted(package, name).await;
        RegistryError::Fetch(CacheFailure { error: FetchError::Offline { absent }, ..failure })
    }

    /// The archive of a tag that is stored, pinned or arriving: no list is read, and for a stored one no upstream request
    /// is sent.
    async fn find_known_tag(&self, package: &PackageId, tag: &str) -> Result<Option<ResolvedArchive>, RegistryError> {
        let reference = GitRef::Tag(tag.to_owned());
        if !self.archives.is_known(package, &reference).await? {
            return Ok(None);
        }
        let answer = self.archives.get(package, reference).await?;
        Ok(Some(ResolvedArchive::of_tag(answer, tag)))
    }

    async fn get_tag(&self, package: &PackageId, tag: &str) -> Result<ResolvedArchive, RegistryError> {
        let answer = self.archives.get(package, GitRef::Tag(tag.to_owned())).await?;
        Ok(ResolvedArchive::of_tag(answer, tag))
    }

    /// The archive of a tag in its other spelling, served while the upstream cannot be asked for that of the request.
    async fn get_other_spelling(&self, package: &PackageId, tag: &str) -> Result<ResolvedArchive, RegistryError> {
        let mut archive = self.get_tag(package, tag).await?;
        archive.answer.status = archive.answer.status.detail("other-spelling");
        Ok(archive)
    }

    /// Resolves a branch: a mutable document, its head commit, and the immutable archive of that commit.
    async fn resolve_branch(&self, package: &PackageId, name: &str) -> Result<ResolvedArchive, RegistryError> {
        let head = self.ref_lists.branch_head(package, name).await?;
        let commit = head.value.commit.clone();
        self.archives.note_commit(package, &commit).await?;
        let mut answer = self.archives.get(package, GitRef::Commit(commit.clone())).await?;
        // If the branch head was fetched, report that fetch in `Cache-Status`.
        if answer.status.fwd.is_none() {
            answer.status = head.status;
        }
        // The age of the answer is that of the branch head: the archive of a commit never changes.
        answer.age = head.age;
        Ok(ResolvedArchive { answer, resolved: ResolvedVersion::Branch { name: name.to_owned(), commit } })
    }
}

/// Whether a package has a tag of exactly one name.
enum TagLookup {
    /// The archive of the tag.
    Found(ResolvedArchive),
    /// The upstream has said that there is no such tag, now or a moment ago.
    Absent(CacheFailure),
    /// The upstream cannot be asked.
    Trouble(CacheFailure),
}

/// The error for a version that a complete list lacks. `status` is the list's.
fn no_version(status: CacheStatus) -> CacheFailure {
    CacheFailure { error: FetchError::NotFound(Missing::Version), status }
}
