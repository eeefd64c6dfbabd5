//! From a version in a path to a zip, by the fewest upstream requests.
//!
//! The order: what is pinned, what the release list says, a tag without a release, a branch. `refs/tags/…` and
//! `refs/heads/…` say themselves what they are, and so does a full commit: forges refuse tags and branches whose name is
//! 40 hexadecimal digits, so nothing else can be meant and nobody needs to be asked.

use std::time::Duration;

use super::{PackageId, Registry, RegistryError, origins::archive_key};
use crate::{
    cache::{ArchiveAnswer, Failure, Object, Served},
    entry::UpstreamStatus,
    origin::{FetchError, Missing},
    package::{Releases, Version, with_v_toggled},
    upstream::{DocumentAsk, GitRef},
};

/// A list younger than this is believed when it lacks a version; an older one is revalidated first, so that a fresh
/// release is found at once.
pub(super) const MIN_REVALIDATE_AGE: Duration = Duration::from_secs(5);

/// What a version turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A tag, in the upstream's spelling. Immutable.
    Tag(String),
    /// A commit. Immutable.
    Commit(String),
    /// A branch, at the commit it pointed at. Mutable.
    Branch {
        /// Its name.
        name: String,
        /// Full SHA.
        commit: String,
    },
}

/// A zip, and what its version turned out to be.
pub struct Archive {
    /// The zip.
    pub answer: ArchiveAnswer,
    /// What the version is.
    pub resolved: Resolved,
}

impl Archive {
    /// The stored zip of a version that never means another one, where nobody was asked for it.
    pub fn cacheable_object(&self) -> Option<&Object> {
        match (&self.answer.served, &self.resolved) {
            (Served::Stored(object), Resolved::Tag(_) | Resolved::Commit(_)) if self.answer.status.fwd.is_none() => {
                // One that is still on its way into a tier is in nobody's books.
                object.uses.is_some().then_some(object)
            }
            _ => None,
        }
    }
}

impl Registry {
    /// Finds the zip of a version for a client: an answer from the store is counted.
    ///
    /// # Errors
    /// [`RegistryError`]; a version that is nowhere is `NotFound(Missing::Version)`.
    pub(super) async fn archive(&self, target: &PackageId, version: &Version) -> Result<Archive, RegistryError> {
        let archive = self.find(target, version).await?;
        if let Served::Stored(object) = &archive.answer.served
            && archive.answer.status.fwd.is_none()
        {
            object.hit();
        }
        Ok(archive)
    }

    /// As [`Registry::archive`], uncounted.
    ///
    /// # Errors
    /// As [`Registry::archive`].
    pub(super) async fn find(&self, target: &PackageId, version: &Version) -> Result<Archive, RegistryError> {
        let standing = self.authorize(target).await?;
        let mut archive = match version {
            Version::Tag(tag) => self.tagged(target, tag).await?,
            Version::Branch(branch) => self.branch(target, branch).await?,
            Version::Commit(sha) => {
                let answer = self.fetch(target, GitRef::Commit(sha.clone())).await?;
                Archive { answer, resolved: Resolved::Commit(sha.clone()) }
            }
            Version::Name(name) => self.named(target, name).await?,
        };
        if let Served::Stored(object) = &archive.answer.served
            && !object.meta.anonymous
        {
            self.recheck_public(target).await?;
        }
        if standing == UpstreamStatus::Gone {
            archive.answer.status = archive.answer.status.detail("upstream-gone");
        }
        Ok(archive)
    }

    async fn named(&self, target: &PackageId, name: &str) -> Result<Archive, RegistryError> {
        for tag in [Some(name.to_owned()), with_v_toggled(name)].into_iter().flatten() {
            if let Some(archive) = self.pinned(target, tag).await? {
                return Ok(archive);
            }
        }
        if let Some(tag) = self.stored_releases(target).await.and_then(|list| find_tag(&list, name)) {
            return self.tagged(target, &tag).await;
        }
        // What was a branch less than a minute ago still is one: a polled branch must not cost three requests each time.
        if self.is_fresh_branch(target, name).await {
            return self.branch(target, name).await;
        }
        if let Some(tag) = self.listed_tag(target, name).await? {
            return self.tagged(target, &tag).await;
        }
        match self.tagged(target, name).await {
            Err(RegistryError::Fetch(Failure { error: FetchError::NotFound(Missing::Version), .. })) => {
                self.branch(target, name).await
            }
            // With the upstream in trouble nobody knows whether there is such a tag; a branch that was served before
            // is better than nothing.
            Err(RegistryError::Fetch(failure)) if failure.error.is_trouble() => {
                let stored = self.stored(target, &DocumentAsk::Branch(name.to_owned())).await;
                match failure.error {
                    _ if stored.is_some() => self.branch(target, name).await,
                    FetchError::Offline { .. } => Err(self.told_absent(target, name, failure).await),
                    _ => Err(RegistryError::Fetch(failure)),
                }
            }
            answer => answer,
        }
    }

    /// Offline, a version that a stored whole list lacks is known not to be here.
    async fn told_absent(&self, target: &PackageId, name: &str, failure: Failure) -> RegistryError {
        let list = self.stored_releases(target).await.filter(|list| !list.truncated);
        let absent = list.is_some_and(|list| find_tag(&list, name).is_none());
        RegistryError::Fetch(Failure { error: FetchError::Offline { absent }, ..failure })
    }

    /// The zip of a tag that is stored or pinned: needs no list, and where it is stored no upstream.
    async fn pinned(&self, target: &PackageId, tag: String) -> Result<Option<Archive>, RegistryError> {
        let reference = GitRef::Tag(tag.clone());
        let key = archive_key(&target.upstream, &target.name, &reference);
        if !self.cache.is_known(&key).await.map_err(RegistryError::Fetch)? {
            return Ok(None);
        }
        let answer = self.fetch(target, reference).await?;
        Ok(Some(Archive { answer, resolved: Resolved::Tag(tag) }))
    }

    async fn tagged(&self, target: &PackageId, tag: &str) -> Result<Archive, RegistryError> {
        let answer = self.fetch(target, GitRef::Tag(tag.to_owned())).await?;
        Ok(Archive { answer, resolved: Resolved::Tag(tag.to_owned()) })
    }

    /// A branch is a document (its commit, mutable) and a zip (that commit's, immutable).
    async fn branch(&self, target: &PackageId, name: &str) -> Result<Archive, RegistryError> {
        let head = self.branch_head(target, name).await?;
        let commit = head.value.commit.clone();
        let mut answer = self.fetch(target, GitRef::Commit(commit.clone())).await?;
        // A zip that was stored under a commit that had to be asked for is no plain hit: the asking is what is told.
        if answer.status.fwd.is_none() {
            answer.status = head.status;
        }
        // What ages is not the zip but the word that the branch points at it.
        answer.age = head.age;
        Ok(Archive { answer, resolved: Resolved::Branch { name: name.to_owned(), commit } })
    }

    async fn is_fresh_branch(&self, target: &PackageId, name: &str) -> bool {
        let stored = self.stored(target, &DocumentAsk::Branch(name.to_owned())).await;
        stored.is_some_and(|head| {
            let age = self.cache.clock().since(head.meta.validated_at);
            head.meta.standing == UpstreamStatus::Present && self.cache.policies().branch().holds(age)
        })
    }

    /// The tag that the release list knows a version by; the list is asked for anew unless it is only seconds old.
    async fn listed_tag(&self, target: &PackageId, name: &str) -> Result<Option<String>, RegistryError> {
        let listed = self.releases_within(target, Some(MIN_REVALIDATE_AGE)).await;
        match listed {
            Ok(answer) => Ok(find_tag(&answer.value, name)),
            // A repository without any release may still have tags and branches.
            Err(RegistryError::Fetch(Failure { error: FetchError::NotFound(Missing::Release), .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The spelling a list has for a version: itself, else with `v` added or removed.
pub(super) fn find_tag(releases: &Releases, name: &str) -> Option<String> {
    let has = |tag: &str| releases.releases.iter().any(|release| release.tag_name == tag);
    if has(name) {
        return Some(name.to_owned());
    }
    with_v_toggled(name).filter(|toggled| has(toggled))
}
