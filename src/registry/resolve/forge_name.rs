//! A name on a forge that says nothing of its kind: `1.2.3`, `nightly`, `main`.
//!
//! The first of these steps that finds it wins; steps 1 to 3 send as few requests as possible:
//! 1. a stored, arriving or pinned tag of exactly this name;
//! 2. the release list, the stored one first, of exactly this name;
//! 3. the git tag of exactly this name. A list that cannot be had hides no tag that exists;
//! 4. once a list of tags or the upstream has said that there is no such tag: 1 to 3 for its other spelling, with `v` added
//!    or removed. While the upstream cannot be asked, only what [`Spellings`] allows;
//! 5. the branch of this name.
//!
//! [`Spellings`]: crate::registry::spelling::Spellings

use std::time::Duration;

use super::{ResolvedArchive, TagLookup, VersionResolver, no_version};
use crate::{
    cache::CacheFailure,
    origin::{FetchError, Missing},
    package::{PackageId, with_v_toggled},
    registry::{RegistryError, ref_lists::RefAnswer},
    upstream::{DocumentAsk, GitRef},
};

/// How long the absence of a tag is remembered where its other spelling exists: clients ask for such a name again and
/// again, and each lookup costs requests.
const OTHER_SPELLING_NEGATIVE_AGE: Duration = Duration::from_secs(3600);

impl VersionResolver {
    /// Resolves a name; see the order above.
    pub(super) async fn resolve_name(&self, package: &PackageId, name: &str) -> Result<ResolvedArchive, RegistryError> {
        match self.find_exact_tag(package, name, name).await? {
            TagLookup::Found(archive) => return Ok(archive),
            TagLookup::Absent(_) => {}
            TagLookup::Trouble(failure) => return self.resolve_in_trouble(package, name, failure).await,
        }
        if let Some(other) = with_v_toggled(name) {
            match self.find_exact_tag(package, &other, name).await? {
                TagLookup::Found(archive) => return Ok(archive),
                TagLookup::Absent(_) => {}
                TagLookup::Trouble(failure) => return self.resolve_stored_branch(package, name, failure).await,
            }
        }
        self.resolve_branch(package, name).await
    }

    /// Steps 1 to 3 for one spelling of `asked`.
    async fn find_exact_tag(&self, package: &PackageId, tag: &str, asked: &str) -> Result<TagLookup, RegistryError> {
        if let Some(archive) = self.find_known_tag(package, tag).await? {
            return Ok(TagLookup::Found(archive));
        }
        if self.spellings.is_listed(package, tag).await {
            return Ok(TagLookup::Found(self.get_listed_tag(package, tag).await?));
        }
        // A polled branch costs one request, not three: while both answers are remembered, no list is asked for.
        if self.archives.is_absent(package, &GitRef::Tag(tag.to_owned()))
            && self.documents.stored().has_fresh_branch(package, asked).await
        {
            return self.find_git_tag(package, tag, None).await;
        }
        let policies = self.documents.policies();
        match self.documents.releases(package, Some(policies.miss_age(package)?)).await {
            Ok(list) if list.value.has(tag) => {
                return Ok(TagLookup::Found(self.get_listed_tag(package, tag).await?));
            }
            // A repository without releases may still have tags and branches.
            Ok(_) | Err(RegistryError::Fetch(CacheFailure { error: FetchError::NotFound(Missing::Release), .. })) => {}
            // The list cannot be had; the tag may be.
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {}
            Err(error) => return Err(error),
        }
        if let Some(other) = with_v_toggled(tag)
            && self.spellings.is_seen(package, &other).await?
        {
            return self.find_git_tag(package, tag, Some(OTHER_SPELLING_NEGATIVE_AGE)).await;
        }
        let found = self.find_git_tag(package, tag, Some(policies.tag_negative(package)?)).await?;
        if let TagLookup::Absent(_) = found {
            self.ref_lists.note_unknown(package, tag)?;
        }
        Ok(found)
    }

    /// The archive of a tag that the release list has.
    async fn get_listed_tag(&self, package: &PackageId, tag: &str) -> Result<ResolvedArchive, RegistryError> {
        // The release may be newer than the remembered answer that there is no such tag.
        if let Some(changed_at) = self.documents.stored().changed_at(package, &DocumentAsk::Releases).await {
            self.archives.forget_absence(package, &GitRef::Tag(tag.to_owned()), changed_at);
        }
        self.get_tag(package, tag).await
    }

    /// Step 3: the list of tags where it answers, else the upstream. `negative` is how long an absence is remembered;
    /// `None`: as long as any other of the package.
    pub(super) async fn find_git_tag(
        &self,
        package: &PackageId,
        tag: &str,
        negative: Option<Duration>,
    ) -> Result<TagLookup, RegistryError> {
        let reference = GitRef::Tag(tag.to_owned());
        match self.ref_lists.find_tag(package, tag).await? {
            RefAnswer::Absent(status) => return Ok(TagLookup::Absent(no_version(status))),
            RefAnswer::Present { changed_at } => self.archives.forget_absence(package, &reference, changed_at),
            RefAnswer::Unknown => {}
        }
        match self.archives.get_with_negative_age(package, reference, negative).await {
            Ok(answer) => {
                self.list_renewal.renew_without_tag(package, tag, &answer.status).await;
                Ok(TagLookup::Found(ResolvedArchive::of_tag(answer, tag)))
            }
            Err(RegistryError::Fetch(failure)) if matches!(failure.error, FetchError::NotFound(_)) => {
                Ok(TagLookup::Absent(failure))
            }
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => Ok(TagLookup::Trouble(failure)),
            Err(error) => Err(error),
        }
    }

    /// Resolves a name while the upstream cannot be asked for exactly this tag: to its other spelling where that is allowed,
    /// else to a stored branch.
    async fn resolve_in_trouble(
        &self,
        package: &PackageId,
        name: &str,
        failure: CacheFailure,
    ) -> Result<ResolvedArchive, RegistryError> {
        match self.spellings.fallback(package, name).await? {
            Some(other) => self.get_other_spelling(package, &other).await,
            None => self.resolve_stored_branch(package, name, failure).await,
        }
    }

    /// Resolves a name to a stored branch: while the upstream fails, a tag of that name may exist and cannot be asked for.
    async fn resolve_stored_branch(
        &self,
        package: &PackageId,
        name: &str,
        failure: CacheFailure,
    ) -> Result<ResolvedArchive, RegistryError> {
        let stored = self.documents.stored().document(package, &DocumentAsk::Branch(name.to_owned())).await;
        match stored {
            Some(_) => self.resolve_branch(package, name).await,
            None => Err(self.trouble_error(package, name, failure).await),
        }
    }
}
