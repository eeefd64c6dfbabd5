//! The versions of a folder as a list: of tags, of releases, or of the head of the default branch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use semver::Version as SemanticVersion;

use super::{
    FolderPackages, FolderVersion, digest_of,
    facts::FolderRead,
    pins::FolderPin,
    tag_names::{FolderTag, folder_tags},
};
use crate::{
    archive::FolderFacts,
    cache::CacheFailure,
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{FolderPackage, Release, Releases, RepositoryTags, semantic, with_v_toggled},
    registry::{CachedValue, RegistryError, not_found},
    upstream::GitRef,
};

/// The versions of a folder.
pub(super) struct ListedVersions {
    pub(super) versions: Vec<FolderVersion>,
    origin: VersionOrigin,
    /// True if the repository may have further tags of the folder.
    pub(super) truncated: bool,
    pub(super) age: Duration,
    pub(super) status: CacheStatus,
}

/// Where the versions of a folder come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VersionOrigin {
    /// Tags that name the folder.
    Tags,
    /// The repository's releases.
    Releases,
    /// The `publish.yaml` at the head of the default branch.
    Head,
}

/// Age and status of an answer that is made of several documents.
struct Provenance {
    age: Duration,
    status: CacheStatus,
}

impl Provenance {
    fn of<T>(value: &CachedValue<T>) -> Self {
        Self { age: value.age, status: value.status.clone() }
    }

    /// The greater age; the status of the document that was fetched, else of the one that becomes stale first.
    fn and<T>(self, other: &CachedValue<T>) -> Self {
        let is_telling = match (self.status.fwd, other.status.fwd) {
            (Some(_), _) => false,
            (None, Some(_)) => true,
            (None, None) => other.status.ttl.is_some_and(|ttl| self.status.ttl.is_none_or(|own| ttl < own)),
        };
        let status = if is_telling { other.status.clone() } else { self.status };
        Self { age: self.age.max(other.age), status }
    }
}

impl FolderPackages {
    /// The versions; with `max_age`, of documents that are revalidated when they are older than that.
    pub(super) async fn listed(
        &self,
        folder: &FolderPackage,
        max_age: Option<Duration>,
    ) -> Result<ListedVersions, RegistryError> {
        let repository = &folder.repository;
        let (tags, releases) =
            tokio::join!(self.documents.tags(repository, max_age), self.documents.releases(repository, max_age));
        let tags = tags?;
        let mut provenance = Provenance::of(&tags);
        let releases = match releases {
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Release), .. })) => {
                Arc::default()
            }
            releases => {
                let releases = releases?;
                provenance = provenance.and(&releases);
                releases.value
            }
        };
        let truncated = tags.value.truncated || releases.truncated;
        let versions = tagged_versions(folder, &tags.value, &releases);
        let (origin, versions) = match versions {
            versions if !versions.is_empty() => (VersionOrigin::Tags, versions),
            _ if !releases.releases.is_empty() => (VersionOrigin::Releases, released_versions(&releases)),
            _ => return self.head_versions(folder, provenance, truncated).await,
        };
        let Provenance { age, status } = provenance;
        let versions = self.only_served(folder, versions).await?;
        Ok(ListedVersions { versions, origin, truncated, age, status })
    }

    /// The version that the folder's `publish.yaml` has at the head of the default branch, and those that it had when they
    /// were first seen. While the upstream fails, the latter alone.
    async fn head_versions(
        &self,
        folder: &FolderPackage,
        provenance: Provenance,
        truncated: bool,
    ) -> Result<ListedVersions, RegistryError> {
        let head = self.pin_head(folder, provenance).await;
        let pins = self.pins.list(folder).await?;
        let Provenance { age, status } = match head {
            Ok(provenance) => provenance,
            // Tags that are not listed may name the folder.
            Err(RegistryError::NoFolder { status }) if truncated => Provenance { age: Duration::ZERO, status },
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() && !pins.is_empty() => {
                let status = failure.status.used_stale().detail("stale-if-error");
                Provenance { age: Duration::ZERO, status }
            }
            Err(error) => return Err(error),
        };
        if pins.is_empty() && !truncated {
            return Err(not_found(Missing::Release, status));
        }
        let mut versions: Vec<_> = pins.iter().map(FolderVersion::of_pin).collect();
        versions.sort_by_cached_key(|version| semantic(&version.release.tag_name));
        versions.reverse();
        let versions = self.only_served(folder, versions).await?;
        Ok(ListedVersions { versions, origin: VersionOrigin::Head, truncated, age, status })
    }

    /// Pins the version at the head of the default branch to its commit, unless it is pinned.
    async fn pin_head(&self, folder: &FolderPackage, provenance: Provenance) -> Result<Provenance, RegistryError> {
        let repository = self.documents.repository(&folder.repository).await?;
        let branch = &repository.value.default_branch;
        let head = self.documents.branch_head(&folder.repository, branch).await?;
        let provenance = provenance.and(&repository).and(&head);
        let reference = GitRef::Commit(head.value.commit.clone());
        let pins = self.pins.list(folder).await?;
        if pins.iter().any(|pin| pin.reference == reference) {
            return Ok(provenance);
        }
        let object = self.archives.object(&folder.repository, reference.clone()).await?;
        let facts = match self.facts.read(&object, &folder.path).await? {
            FolderRead::Facts(facts) => facts,
            FolderRead::NoFolder => return Err(RegistryError::NoFolder { status: provenance.status }),
            FolderRead::Damaged => {
                self.resolver.quarantine(&object).await;
                return Err(RegistryError::DamagedZip { status: provenance.status });
            }
        };
        if let Some(version) = published_version(&facts) {
            self.pins.record(folder, &version, reference, &facts, &object.meta).await?;
        }
        Ok(provenance)
    }
}

/// The semantic version in the folder's `publish.yaml`, without `v`.
fn published_version(facts: &FolderFacts) -> Option<String> {
    semantic(facts.publish.version.as_deref()?).map(|version| version.to_string())
}

/// The versions of the tags that name the folder, the highest first. A release that is listed proves its tag.
pub(super) fn tagged_versions(
    folder: &FolderPackage,
    tags: &RepositoryTags,
    releases: &Releases,
) -> Vec<FolderVersion> {
    let released: BTreeMap<&str, &Release> =
        releases.releases.iter().map(|release| (release.tag_name.as_str(), release)).collect();
    let first_seen: BTreeMap<&str, Timestamp> =
        tags.tags.iter().map(|tag| (tag.name.as_str(), tag.first_seen)).collect();
    let names: BTreeSet<&str> = released.keys().chain(first_seen.keys()).copied().collect();
    let version = |FolderTag { version, tag }: FolderTag<'_>| {
        let prerelease = !version.pre.is_empty();
        let tag_name = version.to_string();
        let release = match (released.get(tag), first_seen.get(tag)) {
            (Some(&release), _) => Release {
                tag_name,
                prerelease: release.prerelease || prerelease,
                rest: serde_json::Map::new(),
                ..release.clone()
            },
            (None, created_at) => Release {
                name: Some(tag.to_owned()),
                created_at: created_at.copied().unwrap_or_default(),
                ..bare_release(tag_name)
            },
        };
        FolderVersion { release, reference: GitRef::Tag(tag.to_owned()) }
    };
    folder_tags(folder, &names).into_iter().map(version).collect()
}

/// The repository's releases as versions, in the upstream's order.
pub(super) fn released_versions(releases: &Releases) -> Vec<FolderVersion> {
    let version = |release: &Release| FolderVersion {
        release: release.clone(),
        reference: GitRef::Tag(release.tag_name.clone()),
    };
    releases.releases.iter().map(version).collect()
}

/// A release of which only the version is known.
fn bare_release(version: String) -> Release {
    Release {
        name: None,
        created_at: Timestamp::UNIX_EPOCH,
        published_at: None,
        prerelease: is_prerelease(&version),
        body: String::new(),
        assets: Vec::new(),
        rest: serde_json::Map::new(),
        tag_name: version,
    }
}

fn is_prerelease(version: &str) -> bool {
    semantic(version).is_some_and(|version| !version.pre.is_empty())
}

impl FolderVersion {
    /// A version of which only the pin is known.
    pub(super) fn of_pin(pin: &FolderPin) -> Self {
        let release = bare_release(pin.version.clone());
        let release = Release { name: Some(pin.version.clone()), created_at: pin.first_seen, ..release };
        Self { release, reference: pin.reference.clone() }
    }
}

impl ListedVersions {
    /// True if the versions are the repository's releases.
    pub(super) fn are_releases(&self) -> bool {
        self.origin == VersionOrigin::Releases
    }

    /// The version: exactly as asked, else with `v` added or removed.
    pub(super) fn find(&self, version: &str) -> Option<&FolderVersion> {
        let find = |tag: &str| self.versions.iter().find(|version| version.release.tag_name == tag);
        find(version).or_else(|| find(&with_v_toggled(version)?))
    }

    /// The highest semantic version that is no prerelease, and not above `ceiling` if there is one.
    pub(super) fn highest_stable(&self, ceiling: Option<SemanticVersion>) -> Option<&FolderVersion> {
        let stable = self.versions.iter().filter(|version| !version.release.prerelease);
        let version = |version: &&FolderVersion| semantic(&version.release.tag_name);
        let is_below = |found: &&FolderVersion| {
            ceiling.as_ref().is_none_or(|ceiling| version(found).is_some_and(|version| version <= *ceiling))
        };
        stable.filter(is_below).max_by_key(version)
    }

    /// A value that was read from this list.
    pub(super) fn value<T: serde::Serialize>(&self, value: T) -> CachedValue<T> {
        let digest = digest_of(&value);
        CachedValue { value: Arc::new(value), digest, age: self.age, status: self.status.clone() }
    }

    /// The versions as releases.
    pub(super) fn into_releases(mut self) -> CachedValue<Releases> {
        let releases = std::mem::take(&mut self.versions).into_iter().map(|version| version.release).collect();
        self.value(Releases { releases, truncated: self.truncated, ..Releases::default() })
    }
}
