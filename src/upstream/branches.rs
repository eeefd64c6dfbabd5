//! The branches of a repository, as forges list them.

use super::{
    pages::{ListItem, PagedList},
    tags::named_commit,
};
use crate::package::{RepositoryBranch, RepositoryBranches};

/// Most pages of branches, of 100 branches each.
const MAX_BRANCH_LIST_PAGES: usize = 10;

impl PagedList for RepositoryBranches {
    type Item = RepositoryBranch;

    const MAX_PAGES: usize = MAX_BRANCH_LIST_PAGES;

    /// Forges order branches by name.
    const NEWEST_FIRST: bool = false;

    fn read_item(json: &[u8]) -> ListItem<RepositoryBranch> {
        named_commit(json, |name, commit| RepositoryBranch { name, commit })
    }

    fn items(&mut self) -> &mut Vec<RepositoryBranch> {
        &mut self.branches
    }

    fn truncated(&mut self) -> &mut bool {
        &mut self.truncated
    }
}
