//! From a version of a folder to a version of its repository.

use std::time::Duration;

use super::{FolderPackages, FolderVersion, facts::FolderRead, pins::FolderPin, tag_names::candidates};
use crate::{
    cache::{CacheFailure, Object},
    http::cache_status::CacheStatus,
    origin::{FetchError, Missing},
    package::{FolderPackage, Version, semantic},
    registry::{RegistryError, not_found, resolved::ResolvedVersion, version_rules::FolderRules},
    upstream::GitRef,
};

/// A version of a folder, as a version of its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedVersion {
    /// The version of the repository.
    pub version: Version,
    /// The version as the folder's releases write it; `None` where a tag, branch or commit of the repository was asked for.
    pub(super) name: Option<String>,
}

/// A version that a list or a pin has.
pub(super) struct FoundVersion {
    pub(super) version: FolderVersion,
    pub(super) age: Duration,
    pub(super) status: CacheStatus,
}

impl LocatedVersion {
    fn of(name: String, reference: &GitRef) -> Self {
        let version = match reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => Version::Tag(tag.clone()),
            GitRef::Commit(commit) => Version::Commit(commit.clone()),
        };
        Self { version, name: Some(name) }
    }

    fn of_pin(pin: FolderPin) -> Self {
        Self::of(pin.version, &pin.reference)
    }
}

impl FolderPackages {
    /// Finds what a version of the folder is in the repository. A pinned version needs no upstream request.
    ///
    /// `refs/…` and a full commit are those of the repository, and so is a name that is no semantic version.
    ///
    /// # Errors
    /// See [`RegistryError`]; a version that does not exist is `NotFound(Missing::Version)`.
    pub async fn locate(&self, folder: &FolderPackage, version: &Version) -> Result<LocatedVersion, RegistryError> {
        self.authorizer.authorize(&folder.repository).await?;
        let Version::Name(name) = version else {
            return Ok(LocatedVersion { version: version.clone(), name: None });
        };
        FolderRules(&self.rules).check_name(folder, name)?;
        if let Some(pin) = self.pins.find(folder, name).await? {
            return Ok(LocatedVersion::of_pin(pin));
        }
        if semantic(name).is_none() {
            return Ok(LocatedVersion { version: version.clone(), name: None });
        }
        match self.find(folder, name).await {
            Ok(found) => Ok(LocatedVersion::of(found.version.release.tag_name, &found.version.reference)),
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Release), status })) => {
                Err(not_found(Missing::Version, status))
            }
            // A list that cannot be had does not hide a tag that is stored.
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {
                self.stored_version(folder, name).await?.ok_or(RegistryError::Fetch(failure))
            }
            Err(error) => Err(error),
        }
    }

    /// The version in the list, revalidated where it lacks the version; else its pin; else, where the list is not complete
    /// or could not be revalidated, the repository's tag.
    ///
    /// # Errors
    /// As [`FolderPackages::releases`]; an unknown version is `NotFound(Missing::Release)`.
    pub(super) async fn find(&self, folder: &FolderPackage, name: &str) -> Result<FoundVersion, RegistryError> {
        // The list lacks what is refused; a pin has it.
        FolderRules(&self.rules).check_name(folder, name)?;
        let mut listed = self.listed(folder, None).await?;
        if listed.find(name).is_none() {
            listed = self.listed(folder, Some(self.documents.policies().miss_age(&folder.repository)?)).await?;
        }
        let mut found = listed.find(name).cloned();
        if found.is_none() {
            found = self.pins.find(folder, name).await?.as_ref().map(FolderVersion::of_pin);
        }
        // The list may lack the version although it exists.
        if found.is_none() && !self.documents.is_offline() && (listed.truncated || !listed.status.is_current()) {
            found = self.pin_unlisted(folder, name).await?.as_ref().map(FolderVersion::of_pin);
        }
        match found {
            Some(version) => Ok(FoundVersion { version, age: listed.age, status: listed.status }),
            None if self.documents.is_offline() => {
                let error = FetchError::Offline { absent: true };
                Err(RegistryError::Fetch(CacheFailure { error, status: listed.status }))
            }
            None => Err(not_found(Missing::Release, listed.status)),
        }
    }

    /// The version whose tag is stored, arriving or pinned.
    async fn stored_version(
        &self,
        folder: &FolderPackage,
        name: &str,
    ) -> Result<Option<LocatedVersion>, RegistryError> {
        for tag in candidates(folder, name) {
            let reference = GitRef::Tag(tag);
            if self.archives.is_known(&folder.repository, &reference).await? {
                return Ok(Some(LocatedVersion::of(bare(name), &reference)));
            }
        }
        Ok(None)
    }

    /// Pins a version that the list of tags lacks: its tags are asked for one by one, and the archive of the first
    /// that exists is fetched.
    async fn pin_unlisted(&self, folder: &FolderPackage, name: &str) -> Result<Option<FolderPin>, RegistryError> {
        for tag in candidates(folder, name) {
            let reference = GitRef::Tag(tag);
            let object = match self.archives.object(&folder.repository, reference.clone()).await {
                Ok(object) => object,
                Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Version), .. })) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            return match self.facts.read(&object, &folder.path).await? {
                FolderRead::Facts(facts) => {
                    let name = bare(name);
                    self.model.log_folder(folder, &name, facts.model.as_deref()).await;
                    Ok(Some(self.pins.record(folder, &name, reference, &facts, &object.meta).await?))
                }
                FolderRead::NoFolder => Err(RegistryError::NoFolder { status: CacheStatus::hit(None) }),
                FolderRead::Damaged => Err(RegistryError::DamagedZip { status: CacheStatus::hit(None) }),
            };
        }
        Ok(None)
    }

    /// What is in the folder: from the version's pin, else read from the archive and then pinned.
    pub(super) async fn facts_of(
        &self,
        folder: &FolderPackage,
        located: &LocatedVersion,
        resolved: &ResolvedVersion,
        object: &Object,
    ) -> Result<FolderRead, RegistryError> {
        let reference = resolved.reference();
        let version = located.name.as_ref().filter(|_| resolved.is_immutable());
        if let Some(version) = version
            && let Some(pin) = self.pins.get(folder, version).await?
            && pin.reference == reference
        {
            return Ok(FolderRead::Facts(pin.facts));
        }
        let read = self.facts.read(object, &folder.path).await?;
        if let Some(version) = version
            && let FolderRead::Facts(facts) = &read
        {
            self.model.log_folder(folder, version, facts.model.as_deref()).await;
            let pin = self.pins.record(folder, version, reference.clone(), facts, &object.meta).await?;
            // Another request has pinned the version to another tag; the next request is served from that one.
            if pin.reference != reference {
                let status = CacheStatus::hit(None);
                return Err(RegistryError::Fetch(CacheFailure { error: FetchError::PinMismatch, status }));
            }
        }
        Ok(read)
    }
}

/// The text of a semantic version without `v`; any other name as it is.
fn bare(name: &str) -> String {
    semantic(name).map_or_else(|| name.to_owned(), |version| version.to_string())
}
