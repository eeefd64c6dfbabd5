//! The memory that parsed documents take.

use super::{Asset, BranchHead, MovingHead, Release, Releases, Repository, RepositoryBranches, RepositoryTags};
use crate::value::memory_weight::{MemoryWeight, Weigh};

impl Weigh for Releases {
    fn weigh(&self, weight: &mut MemoryWeight) {
        weight.add_list(&self.releases);
        for release in &self.releases {
            if weight.is_over() {
                return;
            }
            release.weigh(weight);
        }
    }
}

impl Weigh for Release {
    fn weigh(&self, weight: &mut MemoryWeight) {
        let Self { tag_name, name, created_at: _, published_at: _, prerelease: _, body, assets, rest } = self;
        weight.add_text(tag_name);
        weight.add_optional_text(name);
        weight.add_text(body);
        weight.add_list(assets);
        for asset in assets {
            if weight.is_over() {
                return;
            }
            asset.weigh(weight);
        }
        weight.add_fields(rest);
    }
}

impl Asset {
    fn weigh(&self, weight: &mut MemoryWeight) {
        let Self { name, size: _, content_type, browser_download_url, digest, rest } = self;
        for text in [name, content_type, browser_download_url, digest] {
            weight.add_optional_text(text);
        }
        weight.add_fields(rest);
    }
}

impl Weigh for Repository {
    fn weigh(&self, weight: &mut MemoryWeight) {
        let Self { full_name, private: _, default_branch, rest } = self;
        weight.add_text(full_name);
        weight.add_text(default_branch);
        weight.add_fields(rest);
    }
}

impl Weigh for RepositoryTags {
    fn weigh(&self, weight: &mut MemoryWeight) {
        weight.add_list(&self.tags);
        for tag in &self.tags {
            weight.add_text(&tag.name);
            weight.add_optional_text(&tag.commit);
        }
    }
}

impl Weigh for RepositoryBranches {
    fn weigh(&self, weight: &mut MemoryWeight) {
        weight.add_list(&self.branches);
        for branch in &self.branches {
            weight.add_text(&branch.name);
            weight.add_optional_text(&branch.commit);
        }
    }
}

impl Weigh for BranchHead {
    fn weigh(&self, weight: &mut MemoryWeight) {
        weight.add_text(&self.commit);
    }
}

impl Weigh for MovingHead {
    fn weigh(&self, weight: &mut MemoryWeight) {
        weight.add_text(&self.revision);
    }
}
