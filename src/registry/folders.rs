//! Folders of repositories as packages: their versions, releases, metadata records and archives.
//!
//! The versions of a folder are the tags that name it; without such tags, the repository's releases; without releases, the
//! `Version` in the folder's `publish.yaml` at the head of the default branch. The tag or commit that a version was first
//! served from is pinned, so that neither a later tag nor a later head changes the content of the version.
//!
//! Access is decided for the repository.

use std::{sync::Arc, time::Duration};

use super::{
    CachedValue, RegistryError,
    archive_source::{self, ArchiveSource},
    authorize::{Authorizer, Visibility},
    documents::ReleaseDocuments,
    metadata,
    model_policy::{ModelPolicy, ensure_conforms},
    not_found,
    package_documents::PackageDocuments,
    release_facts::{ArchiveFacts, FolderPart, KnownContent, ReleaseFacts},
    resolve::VersionResolver,
    resolved::ResolvedVersion,
    version_rules::{FolderRules, VersionRules},
    warming::{ListedRelease, PackageLists},
};
use crate::{
    archive::FolderFacts,
    cache::{ArchiveAvailability, Cache, CacheFailure, Object},
    entry::Digest,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{CatalogPackage, FolderPackage, Metadata, MetadataDetails, Release, Releases, Version, semantic},
    upstream::GitRef,
};

mod contained;
mod facts;
pub(in crate::registry) mod known;
mod list;
mod locate;
mod pins;
mod tag_names;

use facts::{FolderFactsCache, FolderRead};
use locate::LocatedVersion;
use pins::FolderPins;

/// Serves folders of repositories that may be served.
pub struct FolderPackages {
    authorizer: Arc<Authorizer>,
    documents: Arc<PackageDocuments>,
    releases: Arc<ReleaseDocuments>,
    resolver: Arc<VersionResolver>,
    archives: Arc<ArchiveSource>,
    release_facts: Arc<ReleaseFacts>,
    rules: Arc<VersionRules>,
    model: Arc<ModelPolicy>,
    pins: FolderPins,
    facts: FolderFactsCache,
    /// Every folder that an alias names.
    configured: Vec<Arc<FolderPackage>>,
}

/// What [`FolderPackages`] works with.
pub(super) struct FolderParts {
    pub(super) cache: Arc<Cache>,
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) documents: Arc<PackageDocuments>,
    pub(super) releases: Arc<ReleaseDocuments>,
    pub(super) resolver: Arc<VersionResolver>,
    pub(super) archives: Arc<ArchiveSource>,
    pub(super) release_facts: Arc<ReleaseFacts>,
    pub(super) rules: Arc<VersionRules>,
    pub(super) configured: Vec<Arc<FolderPackage>>,
    pub(super) model: Arc<ModelPolicy>,
}

/// The complete archive of the repository that a version of a folder is a part of.
pub struct FolderArchive {
    /// The repository's zip.
    pub object: Object,
    /// What is in the folder.
    pub facts: Arc<FolderFacts>,
    /// The version, as the folder's releases write it; the branch, tag or commit where one was asked for.
    pub version: String,
    /// What the version is in the repository.
    pub resolved: ResolvedVersion,
    /// Time since the upstream last confirmed what `resolved` says.
    pub age: Duration,
    /// What happened in the cache.
    pub status: CacheStatus,
}

/// One version of a folder.
#[derive(Clone, Debug)]
struct FolderVersion {
    /// Its release; the tag is the version.
    release: Release,
    /// What it is in the repository: a tag or a commit.
    reference: GitRef,
}

impl FolderPackages {
    pub(super) fn new(parts: FolderParts) -> Self {
        let FolderParts {
            cache,
            authorizer,
            documents,
            releases,
            resolver,
            archives,
            release_facts,
            rules,
            configured,
            model,
        } = parts;
        let pins = FolderPins::new(cache.pins().clone(), cache.clock().clone());
        let facts = FolderFactsCache::new(cache.memory().clone());
        Self {
            authorizer,
            documents,
            releases,
            resolver,
            archives,
            release_facts,
            rules,
            model,
            pins,
            facts,
            configured,
        }
    }

    /// The versions that may be served.
    async fn only_served(
        &self,
        folder: &FolderPackage,
        versions: Vec<FolderVersion>,
    ) -> Result<Vec<FolderVersion>, RegistryError> {
        let mut served = Vec::with_capacity(versions.len());
        for version in versions {
            match FolderRules(&self.rules).check_version(folder, &version.release, &version.reference).await {
                Ok(()) => served.push(version),
                Err(RegistryError::VersionRefused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(served)
    }

    /// Every version as a release: of tags in the order of the versions, the highest first; of releases in the upstream's
    /// order.
    ///
    /// # Errors
    /// See [`RegistryError`]; `NoFolder` when the head of the default branch has to be read and lacks the folder.
    pub async fn releases(&self, folder: &FolderPackage) -> Result<CachedValue<Releases>, RegistryError> {
        self.authorizer.authorize(&folder.repository).await?;
        Ok(self.listed(folder, None).await?.into_releases())
    }

    /// The highest stable semantic version. Where the versions are the repository's releases, the one that the upstream
    /// calls latest, or the highest stable one below it where the rules refuse that one.
    ///
    /// # Errors
    /// As [`FolderPackages::releases`]; without a stable version `NotFound(Missing::Release)`.
    pub async fn latest(&self, folder: &FolderPackage) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(&folder.repository).await?;
        let listed = self.listed(folder, None).await?;
        let mut ceiling = None;
        if listed.are_releases() {
            let latest = self.releases.latest(&folder.repository).await?;
            match FolderRules(&self.rules).check_name(folder, &latest.value.tag_name) {
                Ok(()) => return Ok(latest),
                Err(_) => ceiling = semantic(&latest.value.tag_name),
            }
        }
        match listed.highest_stable(ceiling) {
            Some(version) => Ok(listed.value(version.release.clone())),
            None => Err(not_found(Missing::Release, listed.status)),
        }
    }

    /// The release of a version, with or without `v`.
    ///
    /// # Errors
    /// As [`FolderPackages::releases`]; an unknown version is `NotFound(Missing::Release)`.
    pub async fn release(&self, folder: &FolderPackage, version: &str) -> Result<CachedValue<Release>, RegistryError> {
        self.authorizer.authorize(&folder.repository).await?;
        let found = self.find(folder, version).await?;
        Ok(CachedValue {
            digest: digest_of(&found.version.release),
            value: Arc::new(found.version.release),
            age: found.age,
            status: found.status,
        })
    }

    /// The metadata records of every version, without the fields of their types. `Type` is null where the archive was never seen.
    ///
    /// # Errors
    /// As [`FolderPackages::releases`].
    pub async fn metadata_list(&self, folder: &FolderPackage) -> Result<CachedValue<Vec<Metadata>>, RegistryError> {
        let list = self.releases(folder).await?;
        let mut records = Vec::with_capacity(list.value.releases.len());
        for release in &list.value.releases {
            let pin = self.pins.get(folder, &release.tag_name).await?;
            let manifest = pin.map(|pin| pin.facts.publish.clone()).unwrap_or_default();
            let record = metadata::record(&folder.alias, release, manifest);
            records.push(Metadata { details: MetadataDetails::default(), ..record });
        }
        let status = if list.value.truncated { list.status.and_detail("truncated") } else { list.status };
        Ok(CachedValue { digest: digest_of(&records), value: Arc::new(records), age: list.age, status })
    }

    /// The metadata record of one version. An archive that was never seen is fetched.
    ///
    /// # Errors
    /// As [`FolderPackages::release`] and [`FolderPackages::archive`].
    pub async fn metadata(
        &self,
        folder: &FolderPackage,
        version: &str,
    ) -> Result<CachedValue<Metadata>, RegistryError> {
        let release = self.release(folder, version).await?;
        let tag = &release.value.tag_name;
        let facts = match self.pins.get(folder, tag).await? {
            Some(pin) => pin.facts,
            None => {
                complete_archive(self, folder, self.locate(folder, &Version::Name(tag.clone())).await?).await?.facts
            }
        };
        let model_findings = self.model.shown_in(folder, facts.model.clone()).await;
        let record = metadata::record(&folder.alias, &release.value, facts.publish.clone());
        let record = Metadata { model_findings, ..record };
        let digest = digest_of(&record);
        Ok(CachedValue { value: Arc::new(record), digest, age: release.age, status: release.status })
    }

    /// The complete archive that a version is a part of, for a client: a hit is counted. Waits for the end of a download.
    /// An archive that turns out to be damaged is quarantined and fetched again, once.
    ///
    /// # Errors
    /// See [`RegistryError`]; a version that does not exist is `NotFound(Missing::Version)`, and a folder that the version
    /// lacks `NoFolder`.
    pub async fn archive(&self, folder: &FolderPackage, version: &Version) -> Result<FolderArchive, RegistryError> {
        let located = self.locate(folder, version).await?;
        if !self.model.is_enforced_in(folder).await {
            return complete_archive(self, folder, located).await;
        }
        if let Some(name) = &located.name
            && let Some(pin) = self.pins.get(folder, name).await?
        {
            // Known from an earlier download: nothing is fetched for a refusal.
            ensure_conforms(pin.facts.model.clone(), None)?;
        }
        let archive = complete_archive(self, folder, located).await?;
        ensure_conforms(archive.facts.model.clone(), Some(&archive.status))?;
        Ok(archive)
    }

    /// What the pin of a version says of the folder; `None` for a version that was never served. Fetches no archive.
    ///
    /// # Errors
    /// When the repository may not be served, or the pins cannot be read.
    pub async fn pinned_facts(
        &self,
        folder: &FolderPackage,
        version: &Version,
    ) -> Result<Option<Arc<FolderFacts>>, RegistryError> {
        self.authorizer.authorize(&folder.repository).await?;
        match version {
            Version::Name(name) => Ok(self.pins.find(folder, name).await?.map(|pin| pin.facts)),
            Version::Tag(_) | Version::Branch(_) | Version::Commit(_) | Version::DefaultBranch => Ok(None),
        }
    }

    /// What to store before clients ask: every version, with the availability of its archive, and the latest.
    ///
    /// # Errors
    /// As [`FolderPackages::releases`].
    pub async fn lists(&self, folder: &FolderPackage) -> Result<PackageLists, RegistryError> {
        self.authorizer.authorize(&folder.repository).await?;
        let listed = self.listed(folder, Some(self.documents.policies().miss_age(&folder.repository)?)).await?;
        let latest = match self.latest(folder).await {
            Ok(latest) => Some(latest.value.tag_name.clone()),
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. })) => None,
            Err(error) => return Err(error),
        };
        let mut releases = Vec::with_capacity(listed.versions.len());
        for version in &listed.versions {
            let availability = self.archives.availability(&folder.repository, &version.reference).await;
            let ArchiveAvailability { on_disk: stored, len } = availability;
            releases.push(ListedRelease { release: version.release.clone(), stored, len });
        }
        Ok(PackageLists { releases, latest, status: listed.status })
    }

    /// What the archive of a version says of the folder; `None` for a version that was never served. Sends no upstream
    /// request.
    pub async fn release_facts(&self, folder: &FolderPackage, version: &str) -> Option<ArchiveFacts> {
        let pin = self.pins.get(folder, version).await.ok().flatten()?;
        let part = FolderPart { path: folder.path.clone(), kind: pin.facts.publish.kind.clone() };
        let stored = self.release_facts.stored_files(&folder.repository, &pin.reference, Some(part)).await;
        let source = format!("{}//{}", pin.manifest, folder.path);
        Some(ArchiveFacts::new(KnownContent::Folder(pin.facts), &source, stored))
    }

    /// What a catalog shows of a folder: the manifest of the highest version that was served. `None` when its repository
    /// must not be shown. Sends no upstream request.
    pub async fn catalog_facts(&self, folder: &FolderPackage) -> Option<CatalogPackage> {
        match self.authorizer.visibility(&folder.repository).await {
            Visibility::Visible | Visibility::Unknown { listed: true } => {}
            Visibility::Hidden | Visibility::Unknown { listed: false } => return None,
        }
        let pins = self.pins.list(folder).await.unwrap_or_default();
        let newest = pins.into_iter().max_by_key(|pin| (semantic(&pin.version), pin.version.clone()));
        Some(newest.map(|pin| pin.facts.publish.clone().into()).unwrap_or_default())
    }
}

/// As [`FolderPackages::archive`], whether the folder conforms to the package model or not.
async fn complete_archive(
    packages: &FolderPackages,
    folder: &FolderPackage,
    located: LocatedVersion,
) -> Result<FolderArchive, RegistryError> {
    let mut may_retry = true;
    loop {
        let archive = packages.resolver.resolve_counted(&folder.repository, &located.version).await?;
        let status = archive.answer.status;
        let object = archive_source::complete(archive.answer.served, &status).await?;
        let facts = match packages.facts_of(folder, &located, &archive.resolved, &object).await? {
            FolderRead::Facts(facts) => facts,
            FolderRead::NoFolder => return Err(RegistryError::NoFolder { status }),
            FolderRead::Damaged => {
                packages.resolver.quarantine(&object).await;
                if !may_retry {
                    return Err(RegistryError::DamagedZip { status });
                }
                may_retry = false;
                continue;
            }
        };
        let folders = packages.refusable(&folder.repository, Some(&folder.path)).await;
        packages.ensure_parts_served(&folders, &folder.repository, &archive.resolved, &object, &status).await?;
        let version = located.name.clone().unwrap_or_else(|| archive.resolved.name().to_owned());
        let age = archive.answer.age;
        return Ok(FolderArchive { object, facts, version, resolved: archive.resolved, age, status });
    }
}

/// The digest of a value that is made of several documents.
fn digest_of(value: &impl serde::Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(value).unwrap_or_default())
}
