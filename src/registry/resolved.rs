//! What a version was resolved to.

use crate::{
    cache::{ArchiveAnswer, Object, ServedArchive},
    upstream::GitRef,
};

/// What a version was resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedVersion {
    /// A tag, in the upstream's spelling. Immutable.
    Tag(String),
    /// A commit. Immutable.
    Commit(String),
    /// A branch and the commit that it points at. Mutable.
    Branch {
        /// Its name.
        name: String,
        /// Full SHA.
        commit: String,
    },
    /// A moving version of a registry and its present revision. Mutable.
    Moving {
        /// Its name.
        version: String,
        /// What identifies its content.
        revision: String,
    },
}

impl ResolvedVersion {
    /// The unambiguous reference.
    pub(in crate::registry) fn reference(&self) -> GitRef {
        match self {
            Self::Tag(tag) => GitRef::Tag(tag.clone()),
            Self::Commit(commit) | Self::Branch { commit, .. } => GitRef::Commit(commit.clone()),
            Self::Moving { version, revision } => {
                GitRef::Moving { version: version.clone(), revision: revision.clone() }
            }
        }
    }

    /// The name for people: the tag, the commit, the branch or the moving version.
    pub fn name(&self) -> &str {
        match self {
            Self::Tag(name) | Self::Commit(name) | Self::Branch { name, .. } | Self::Moving { version: name, .. } => {
                name
            }
        }
    }

    /// True when its content never changes.
    pub fn is_immutable(&self) -> bool {
        matches!(self, Self::Tag(_) | Self::Commit(_))
    }
}

/// An archive, and what its version was resolved to.
pub struct ResolvedArchive {
    /// The archive.
    pub answer: ArchiveAnswer,
    /// What the version is.
    pub resolved: ResolvedVersion,
}

impl ResolvedArchive {
    /// The archive of a tag.
    pub(super) fn of_tag(answer: ArchiveAnswer, tag: &str) -> Self {
        Self { answer, resolved: ResolvedVersion::Tag(tag.to_owned()) }
    }

    /// The stored archive of an immutable version that was found without an upstream request: the response may be cached.
    pub fn cacheable_object(&self) -> Option<&Object> {
        match (&self.answer.served, &self.resolved) {
            (ServedArchive::Stored(object), ResolvedVersion::Tag(_) | ResolvedVersion::Commit(_))
                if self.answer.status.fwd.is_none() =>
            {
                // An object still being admitted has no usage counters.
                object.usage.is_some().then_some(object)
            }
            _ => None,
        }
    }
}
