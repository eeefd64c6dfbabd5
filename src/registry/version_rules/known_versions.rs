//! The rules about versions, by what is stored: for pages, which ask no upstream and record nothing.

use jiff::Timestamp;

use super::{FolderRules, VersionRefusal, VersionRules};
use crate::{
    package::{FolderPackage, NameForm, PackageId},
    registry::RegistryError,
    upstream::GitRef,
};

impl VersionRules {
    /// Why a known version is refused; `published_at` is when its release was, by its upstream's clock. A version that was
    /// never seen and has no date becomes old enough from its first request on.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub(in crate::registry) async fn known_refusal(
        &self,
        package: &PackageId,
        reference: &GitRef,
        published_at: Option<Timestamp>,
    ) -> Result<Option<VersionRefusal>, RegistryError> {
        refusal(self.check_known(package, reference, published_at).await)
    }

    /// True when `packages.allow`, `packages.deny` or a block refuses the name of a version.
    pub(in crate::registry) fn refuse_name(&self, package: &PackageId, version: &str) -> bool {
        self.check_name(package, version).is_err()
    }

    async fn check_known(
        &self,
        package: &PackageId,
        reference: &GitRef,
        published_at: Option<Timestamp>,
    ) -> Result<(), RegistryError> {
        let names = self.concerned(package).await;
        match reference {
            GitRef::Tag(tag) | GitRef::Moving { version: tag, .. } => self.check_names(&names, tag)?,
            GitRef::Commit(commit) if names.iter().any(|name| self.name_versions_of(name)) => {
                let tags = self.known_tags_at(package, commit).await?;
                tags.iter().try_for_each(|tag| self.check_names(&names, tag))?;
            }
            GitRef::Commit(_) => {}
        }
        let Some(min_age) = self.min_age_of(&names) else { return Ok(()) };
        let seen = self.first_seen.known(package, reference).await?;
        if seen.is_some_and(|seen| self.check_age(seen, min_age).is_ok()) {
            return Ok(());
        }
        self.check_age(published_at.or(seen).unwrap_or_else(|| self.clock.now()), min_age)
    }

    /// The tags that point at a commit, as far as pins and the stored list say.
    async fn known_tags_at(&self, package: &PackageId, commit: &str) -> Result<Vec<String>, RegistryError> {
        let mut found = self.first_seen.pinned_tags_at(package, commit).await?;
        if package.name.form() == NameForm::Repository
            && let Some(tags) = self.documents.stored().tags(package).await
        {
            let at_commit = tags.tags.iter().filter(|tag| tag.commit.as_deref() == Some(commit));
            found.extend(at_commit.map(|tag| tag.name.clone()));
        }
        Ok(found)
    }
}

impl FolderRules<'_> {
    /// As [`VersionRules::known_refusal`], for a version of a folder.
    ///
    /// # Errors
    /// As [`VersionRules::known_refusal`].
    pub(in crate::registry) async fn known_refusal(
        self,
        folder: &FolderPackage,
        version: &str,
        reference: &GitRef,
        published_at: Option<Timestamp>,
    ) -> Result<Option<VersionRefusal>, RegistryError> {
        match refusal(self.check_name(folder, version))? {
            Some(refusal) => Ok(Some(refusal)),
            None => self.0.known_refusal(&folder.repository, reference, published_at).await,
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
