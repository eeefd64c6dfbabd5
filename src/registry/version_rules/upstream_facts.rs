//! What upstreams say of versions, for the rules: whether a tag or commit exists, and when a release was published.

use jiff::Timestamp;

use super::VersionRules;
use crate::{
    cache::CacheFailure,
    origin::{FetchError, Missing},
    package::{NameForm, PackageId, Release},
    registry::{RegistryError, not_found},
    upstream::DocumentAsk,
};

impl VersionRules {
    /// Refuses a tag that its upstream has withdrawn, as far as present lists say: neither a release nor a tag has the name.
    /// While the upstream cannot say it, the version is served.
    pub(super) async fn check_not_withdrawn(&self, package: &PackageId, tag: &str) -> Result<(), RegistryError> {
        if package.name.form() == NameForm::Plain {
            let release = self.documents.release(package, DocumentAsk::Tag(tag.to_owned()), None).await;
            return match release {
                Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), status })) => {
                    Err(not_found(Missing::Version, status))
                }
                _ => Ok(()),
            };
        }
        let releases = self.documents.releases(package, None).await;
        if releases.is_ok_and(|list| list.value.has(tag) || list.value.truncated || !list.is_current()) {
            return Ok(());
        }
        match self.documents.tags(package, None).await {
            Ok(tags) if tags.is_current() && !tags.value.truncated => {
                let exists = tags.value.tags.iter().any(|listed| listed.name == tag);
                if exists { Ok(()) } else { Err(not_found(Missing::Version, tags.status)) }
            }
            _ => Ok(()),
        }
    }

    /// Refuses a commit that a refused tag points at.
    pub(super) async fn check_commit(
        &self,
        package: &PackageId,
        names: &[PackageId],
        commit: &str,
    ) -> Result<(), RegistryError> {
        let tags = self.tags_at(package, commit).await?;
        tags.iter().try_for_each(|tag| self.check_names(names, tag))
    }

    /// The tags that point at a commit: those that are pinned to it, then those that the upstream lists.
    ///
    /// # Errors
    /// When the pins cannot be read; the upstream's failure.
    pub(in crate::registry) async fn tags_at(
        &self,
        package: &PackageId,
        commit: &str,
    ) -> Result<Vec<String>, RegistryError> {
        let mut found = self.first_seen.pinned_tags_at(package, commit).await?;
        if package.name.form() == NameForm::Plain {
            return Ok(found);
        }
        let tags = self.documents.tags(package, None).await?;
        let at_commit = tags.value.tags.iter().filter(|tag| tag.commit.as_deref() == Some(commit));
        found.extend(at_commit.map(|tag| tag.name.clone()));
        Ok(found)
    }

    /// Checks that a tag or a branch points at the commit: clients may ask for any commit, and only commits that exist are
    /// recorded as seen.
    pub(super) async fn ensure_listed(&self, package: &PackageId, commit: &str) -> Result<(), RegistryError> {
        let is_commit = |listed: &Option<String>| listed.as_deref() == Some(commit);
        let tags = self.documents.tags(package, None).await?;
        if tags.value.tags.iter().any(|tag| is_commit(&tag.commit)) {
            return Ok(());
        }
        let branches = self.documents.branches(package, None).await?;
        if branches.value.branches.iter().any(|branch| is_commit(&branch.commit)) {
            return Ok(());
        }
        Err(not_found(Missing::Version, branches.status))
    }

    /// When the release of a tag was published; `None` for a tag without a release, and where the upstream does not say it.
    ///
    /// # Errors
    /// `NotFound(Version)` for a tag that does not exist: it is not recorded as seen.
    pub(super) async fn tag_published_at(
        &self,
        package: &PackageId,
        tag: &str,
    ) -> Result<Option<Timestamp>, RegistryError> {
        if package.name.form() == NameForm::Repository {
            match self.documents.releases(package, None).await {
                Ok(list) => {
                    if let Some(release) = list.value.releases.iter().find(|release| release.tag_name == tag) {
                        return Ok(published_at(package, release));
                    }
                }
                Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {}
                Err(error) => return Err(error),
            }
        }
        match self.documents.release(package, DocumentAsk::Tag(tag.to_owned()), None).await {
            Ok(release) => return Ok(published_at(package, &release.value)),
            Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(_), .. }))
                if package.name.form() == NameForm::Repository => {}
            Err(error) => return Err(error),
        }
        let tags = self.documents.tags(package, None).await?;
        if tags.value.tags.iter().any(|listed| listed.name == tag) {
            return Ok(None);
        }
        Err(not_found(Missing::Version, tags.status))
    }
}

/// When a release was published, by its upstream's own clock. The creation date of a forge is that of a commit, which its
/// author chooses; a registry's is set by its server.
pub(in crate::registry) fn published_at(package: &PackageId, release: &Release) -> Option<Timestamp> {
    match package.name.form() {
        NameForm::Repository => release.published_at,
        NameForm::Plain => Some(release.created_at),
    }
}
