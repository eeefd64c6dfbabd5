//! The rules about versions by stored documents and pins alone: for pages, which send no upstream request and record nothing.

use jiff::Timestamp;

use super::{FolderRules, VersionRefusal, VersionRules};
use crate::{
    package::{FolderPackage, NameForm, PackageId},
    registry::{RegistryError, policy::Gone},
    upstream::GitRef,
};

/// The rules about versions, by stored documents and pins alone.
#[derive(Clone, Copy)]
pub(in crate::registry) struct KnownRules<'r>(pub(in crate::registry) &'r VersionRules);

impl KnownRules<'_> {
    /// Why a known version is refused. `published_at` is when its release was published, by its upstream's clock; the age of a
    /// version without that date that was never seen counts from now.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(in crate::registry) async fn refusal(
        self,
        package: &PackageId,
        reference: &GitRef,
        published_at: Option<Timestamp>,
    ) -> Result<Option<VersionRefusal>, RegistryError> {
        refusal(self.check(package, reference, published_at).await)
    }

    /// True for a tag of a forge that neither of the stored lists has any more, where `packages.gone` says that what an upstream
    /// withdraws is not served.
    pub(in crate::registry) async fn is_withdrawn(self, package: &PackageId, reference: &GitRef) -> bool {
        let GitRef::Tag(tag) = reference else { return false };
        if self.0.gone != Gone::Follow || package.name.form() != NameForm::Repository {
            return false;
        }
        let stored = self.0.documents.stored();
        let releases = stored.releases(package).await;
        if releases.is_none_or(|list| list.truncated || list.has(tag)) {
            return false;
        }
        let tags = stored.tags(package).await;
        tags.is_some_and(|list| !list.truncated && list.tags.iter().all(|listed| listed.name != *tag))
    }

    /// True when `packages.allow`, `packages.deny` or a block refuses the name of a version.
    pub(in crate::registry) fn refuses_name(self, package: &PackageId, version: &str) -> bool {
        self.0.check_name(package, version).is_err()
    }

    async fn check(
        self,
        package: &PackageId,
        reference: &GitRef,
        published_at: Option<Timestamp>,
    ) -> Result<(), RegistryError> {
        let names = self.0.concerned(package).await;
        match reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => self.0.check_names(&names, tag)?,
            GitRef::Commit(commit) if names.iter().any(|name| self.0.name_versions_of(name)) => {
                let tags = self.tags_at(package, commit).await?;
                tags.iter().try_for_each(|tag| self.0.check_names(&names, tag))?;
            }
            GitRef::Commit(_) => {}
        }
        let Some(min_age) = self.0.min_age_of(&names) else { return Ok(()) };
        let seen = self.0.first_seen.known(package, reference).await?;
        if seen.is_some_and(|seen| self.0.check_age(seen, min_age).is_ok()) {
            return Ok(());
        }
        self.0.check_age(published_at.or(seen).unwrap_or_else(|| self.0.clock.now()), min_age)
    }

    /// The tags that point at a commit, by the pins and the stored list of tags.
    async fn tags_at(self, package: &PackageId, commit: &str) -> Result<Vec<String>, RegistryError> {
        let mut found = self.0.first_seen.pinned_tags_at(package, commit).await?;
        if package.name.form() == NameForm::Repository
            && let Some(tags) = self.0.documents.stored().tags(package).await
        {
            let at_commit = tags.tags.iter().filter(|tag| tag.commit.as_deref() == Some(commit));
            found.extend(at_commit.map(|tag| tag.name.clone()));
        }
        Ok(found)
    }

    /// As [`KnownRules::refusal`], for a version of a folder.
    ///
    /// # Errors
    /// As [`KnownRules::refusal`].
    pub(in crate::registry) async fn folder_refusal(
        self,
        folder: &FolderPackage,
        version: &str,
        reference: &GitRef,
        published_at: Option<Timestamp>,
    ) -> Result<Option<VersionRefusal>, RegistryError> {
        match refusal(FolderRules(self.0).check_name(folder, version))? {
            Some(refusal) => Ok(Some(refusal)),
            None => self.refusal(&folder.repository, reference, published_at).await,
        }
    }
}

fn refusal(checked: Result<(), RegistryError>) -> Result<Option<VersionRefusal>, RegistryError> {
    match checked {
        Ok(()) => Ok(None),
        Err(RegistryError::VersionRefused(refusal)) => Ok(Some(refusal)),
        Err(error) => Err(error),
    }
}
