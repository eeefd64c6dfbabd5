//! From a version in a path to a zip, by the fewest upstream requests.
//!
//! The order: what is pinned, what the release list says, a tag without a release, a branch. `refs/tags/…`,
//! `refs/heads/…` and a full commit say themselves what they are.

use std::time::Duration;

use super::{Mirror, MirrorError, Target, origins::archive_key};
use crate::{
    cache::{ArchiveAnswer, Failure},
    origin::{FetchError, Missing},
    package::{Releases, Version, with_v_toggled},
    upstream::{DocumentAsk, GitRef},
};

/// A list younger than this is believed when it lacks a version; an older one is revalidated first, so that a fresh
/// release is found at once.
pub(super) const BELIEVED: Duration = Duration::from_secs(5);

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

impl Mirror {
    /// Finds the zip of a version.
    ///
    /// # Errors
    /// [`MirrorError`]; a version that is nowhere is `NotFound(Missing::Version)`.
    pub async fn archive(&self, target: &Target, version: &Version) -> Result<Archive, MirrorError> {
        self.admit(target).await?;
        self.check_standing(target).await?;
        match version {
            Version::Tag(tag) => self.tagged(target, tag).await,
            Version::Branch(branch) => self.branch(target, branch).await,
            Version::Commit(sha) => {
                let answer = self.fetch(target, GitRef::Commit(sha.clone())).await?;
                Ok(Archive { answer, resolved: Resolved::Commit(sha.clone()) })
            }
            Version::Name(name) => self.named(target, name).await,
        }
    }

    async fn named(&self, target: &Target, name: &str) -> Result<Archive, MirrorError> {
        for tag in [Some(name.to_owned()), with_v_toggled(name)].into_iter().flatten() {
            if let Some(archive) = self.pinned(target, tag).await? {
                return Ok(archive);
            }
        }
        if let Some(tag) = self.listed_tag(target, name).await? {
            return self.tagged(target, &tag).await;
        }
        match self.tagged(target, name).await {
            Err(MirrorError::Fetch(Failure { error: FetchError::NotFound(Missing::Version), .. })) => {
                self.branch(target, name).await
            }
            // With the upstream in trouble nobody knows whether there is such a tag; a branch that was served before
            // is better than nothing.
            Err(MirrorError::Fetch(failure)) if failure.error.is_trouble() => {
                let stored = self.document_is_stored(target, &DocumentAsk::Branch(name.to_owned())).await;
                if stored { self.branch(target, name).await } else { Err(MirrorError::Fetch(failure)) }
            }
            answer => answer,
        }
    }

    /// The zip of a tag that is stored or pinned: needs no list, and where it is stored no upstream.
    async fn pinned(&self, target: &Target, tag: String) -> Result<Option<Archive>, MirrorError> {
        let reference = GitRef::Tag(tag.clone());
        let key = archive_key(&target.upstream, &target.package, &reference);
        if !self.cache.knows(&key).await.map_err(MirrorError::Fetch)? {
            return Ok(None);
        }
        let answer = self.fetch(target, reference).await?;
        Ok(Some(Archive { answer, resolved: Resolved::Tag(tag) }))
    }

    async fn tagged(&self, target: &Target, tag: &str) -> Result<Archive, MirrorError> {
        let answer = self.fetch(target, GitRef::Tag(tag.to_owned())).await?;
        Ok(Archive { answer, resolved: Resolved::Tag(tag.to_owned()) })
    }

    /// A branch is a document (its commit, mutable) and a zip (that commit's, immutable).
    async fn branch(&self, target: &Target, name: &str) -> Result<Archive, MirrorError> {
        let (head, head_status) = self.branch_head(target, name).await?;
        let mut answer = self.fetch(target, GitRef::Commit(head.commit.clone())).await?;
        // A zip that was stored under a commit that had to be asked for is no plain hit: the asking is what is told.
        if answer.status.fwd.is_none() {
            answer.status = head_status;
        }
        Ok(Archive { answer, resolved: Resolved::Branch { name: name.to_owned(), commit: head.commit } })
    }

    /// The tag that the release list knows a version by. A stored list is enough, however old, when it has the version.
    async fn listed_tag(&self, target: &Target, name: &str) -> Result<Option<String>, MirrorError> {
        if let Some(stored) = self.stored_releases(target).await
            && let Some(tag) = find_tag(&stored, name)
        {
            return Ok(Some(tag));
        }
        let listed = self.releases_within(target, Some(BELIEVED)).await;
        match listed {
            Ok(answer) => Ok(find_tag(&answer.value, name)),
            // A repository without any release may still have tags and branches.
            Err(MirrorError::Fetch(Failure { error: FetchError::NotFound(Missing::Release), .. })) => Ok(None),
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
