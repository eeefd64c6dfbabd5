//! Folders within the zip of their repository, or of a folder above them: a zip with a refused version of a folder in it is
//! not served.
//!
//! Which version of a folder a zip has is what the folder's `publish.yaml` says, what a pin of the folder says of the tag
//! or commit, and what the tag names. The rules are asked for each of them.

use std::collections::BTreeSet;

use super::{FolderPackages, facts::FolderRead, list::tagged_versions, tag_names::version_of};
use crate::{
    archive::FolderFacts,
    cache::{Object, ServedArchive},
    http::cache_status::CacheStatus,
    package::{FolderPackage, FolderPath, PackageId, Version},
    registry::{
        RegistryError, archive_source,
        package_documents::PackageDocuments,
        resolved::{ResolvedArchive, ResolvedVersion},
        version_rules::FolderRules,
    },
    upstream::GitRef,
};

impl FolderPackages {
    /// The archive of a version of a whole package, for a client: a hit is counted. Where the rules may refuse a version of
    /// a folder in it, it waits for the end of a download, to see what is in it.
    ///
    /// # Errors
    /// See [`RegistryError`]; `VersionRefused` also when a folder in it has a version that is refused.
    pub async fn whole_archive(
        &self,
        package: &PackageId,
        version: &Version,
    ) -> Result<ResolvedArchive, RegistryError> {
        let archive = self.resolver.archive(package, version).await?;
        let folders = self.refusable(package, None).await;
        if folders.is_empty() {
            return Ok(archive);
        }
        let ResolvedArchive { mut answer, resolved } = archive;
        let object = archive_source::complete(answer.served, &answer.status).await?;
        self.ensure_parts_served(&folders, package, &resolved, &object, &answer.status).await?;
        answer.served = ServedArchive::Stored(object);
        Ok(ResolvedArchive { answer, resolved })
    }

    /// The folders of a repository, or those in a folder of it and itself, of which the rules may refuse a version.
    pub(super) async fn refusable(&self, repository: &PackageId, within: Option<&FolderPath>) -> Vec<&FolderPackage> {
        let rules = FolderRules(&self.rules);
        let mut found = Vec::new();
        for folder in &self.configured {
            let is_within = within.is_none_or(|parent| is_within(&folder.path, parent));
            if is_within && rules.may_refuse(folder) && rules.is_of_repository(folder, repository).await {
                found.push(&**folder);
            }
        }
        found
    }

    /// Refuses an archive that has a refused version of one of the folders. `status` is that of the archive.
    pub(super) async fn ensure_parts_served(
        &self,
        folders: &[&FolderPackage],
        repository: &PackageId,
        resolved: &ResolvedVersion,
        object: &Object,
        status: &CacheStatus,
    ) -> Result<(), RegistryError> {
        let reference = resolved.reference();
        for folder in folders {
            match self.facts.read(object, &folder.path).await? {
                FolderRead::Facts(facts) => self.ensure_served(folder, repository, &reference, &facts).await?,
                FolderRead::NoFolder => {}
                FolderRead::Damaged => {
                    self.resolver.quarantine(object).await;
                    return Err(RegistryError::DamagedZip { status: status.clone() });
                }
            }
        }
        Ok(())
    }

    /// Refuses a tag or commit that has a refused version of the folder.
    async fn ensure_served(
        &self,
        folder: &FolderPackage,
        repository: &PackageId,
        reference: &GitRef,
        facts: &FolderFacts,
    ) -> Result<(), RegistryError> {
        // A pattern without a version matches any text.
        let mut versions = BTreeSet::from([facts.publish.version.clone().unwrap_or_default()]);
        let pins = self.pins.list(folder).await?;
        versions.extend(pins.into_iter().filter(|pin| pin.reference == *reference).map(|pin| pin.version));
        let tags = match reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => vec![tag.clone()],
            GitRef::Commit(commit) => self.rules.tags_at(repository, commit).await?,
        };
        versions.extend(tags.iter().filter_map(|tag| version_of(folder, tag)));
        let rules = FolderRules(&self.rules);
        versions.iter().try_for_each(|version| rules.check_name(folder, version))?;
        for tag in tags {
            if let refused @ Err(_) = rules.check_name(folder, &tag)
                && !has_own_tags(&self.documents, folder).await
            {
                return refused;
            }
        }
        Ok(())
    }
}

/// True when tags name the folder: then other tags are none of its versions. False where the lists cannot be had.
async fn has_own_tags(documents: &PackageDocuments, folder: &FolderPackage) -> bool {
    let Ok(tags) = documents.tags(&folder.repository, None).await else { return false };
    let releases = documents.releases(&folder.repository, None).await.map(|list| list.value);
    !tagged_versions(folder, &tags.value, &releases.unwrap_or_default()).is_empty()
}

/// True for the folder itself and for those below it.
fn is_within(path: &FolderPath, parent: &FolderPath) -> bool {
    let rest = path.as_str().strip_prefix(parent.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
