//! The rules about versions, for folders of repositories.

use super::VersionRules;
use crate::registry::repository_names::names_of;
use crate::{
    package::{FolderPackage, PackageId, Release},
    registry::RegistryError,
    upstream::GitRef,
};

/// The rules as they hold for folders. `packages.allow` is about the repository; `packages.deny` and the blocks are about the
/// alias, too.
#[derive(Clone, Copy)]
pub(in crate::registry) struct FolderRules<'r>(pub(in crate::registry) &'r VersionRules);

impl FolderRules<'_> {
    /// Checks a version of a folder by its name.
    ///
    /// # Errors
    /// `VersionRefused`.
    pub(in crate::registry) fn check_name(self, folder: &FolderPackage, version: &str) -> Result<(), RegistryError> {
        self.0.check_not_refused(&alias_of(folder), version)
    }

    /// True when `packages.deny` or a block names versions of the folder.
    pub(in crate::registry) fn may_refuse(self, folder: &FolderPackage) -> bool {
        let alias = alias_of(folder);
        self.0.deny.iter().any(|pattern| pattern.matches_package(&alias)) || self.0.blocks.concern(&alias)
    }

    /// True when the folder is one of the repository, under its asked name or under the one that it has now.
    pub(in crate::registry) async fn is_of_repository(self, folder: &FolderPackage, repository: &PackageId) -> bool {
        let is_same = |one: &PackageId, other: &PackageId| {
            one.upstream == other.upstream && one.name.folded() == other.name.folded()
        };
        if is_same(&folder.repository, repository) {
            return true;
        }
        let of_folder = names_of(&self.0.documents, &folder.repository).await;
        let asked = names_of(&self.0.documents, repository).await;
        asked.iter().any(|name| of_folder.iter().any(|other| is_same(name, other)))
    }

    /// Checks a version of a folder: by the folder's name and version, and as the tag or commit of its repository.
    ///
    /// # Errors
    /// As [`VersionRules::check_release`].
    pub(in crate::registry) async fn check_version(
        self,
        folder: &FolderPackage,
        release: &Release,
        reference: &GitRef,
    ) -> Result<(), RegistryError> {
        if self.0.are_empty() {
            return Ok(());
        }
        self.check_name(folder, &release.tag_name)?;
        match reference {
            GitRef::Tag(tag) => {
                self.0.check_release(&folder.repository, &Release { tag_name: tag.clone(), ..release.clone() }).await
            }
            GitRef::Commit(_) | GitRef::Moving { .. } => self.0.check_reference(&folder.repository, reference).await,
        }
    }
}

/// A folder as a package of its repository's upstream, which patterns match.
pub(in crate::registry) fn alias_of(folder: &FolderPackage) -> PackageId {
    PackageId { upstream: folder.repository.upstream.clone(), name: folder.alias.clone() }
}
