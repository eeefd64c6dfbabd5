//! The tags and branches of a repository.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One tag of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepositoryTag {
    /// Its name, without `refs/tags/`.
    pub name: String,
    /// The full SHA of its commit, in lower case; `None` if the upstream does not say it.
    pub commit: Option<String>,
    /// When this mirror first found it in the list.
    pub first_seen: Timestamp,
}

/// The tags of a repository, in the upstream's order, which need not be that of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepositoryTags {
    /// The tags.
    pub tags: Vec<RepositoryTag>,
    /// True if the repository has more tags than the mirror lists.
    pub truncated: bool,
}

/// One branch of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepositoryBranch {
    /// Its name, without `refs/heads/`.
    pub name: String,
    /// The full SHA of its head, in lower case; `None` if the upstream does not say it.
    pub commit: Option<String>,
}

/// The branches of a repository, in the upstream's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepositoryBranches {
    /// The branches.
    pub branches: Vec<RepositoryBranch>,
    /// True if the repository has more branches than the mirror lists.
    pub truncated: bool,
}
