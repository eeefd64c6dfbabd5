//! Versions that the operator has blocked.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Changed, request};

/// Blocks versions: they are no longer served, stored or not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BlockVersions {
    /// Such as `devsapp/fc3@1.2.0`, `fc3@>=1.2, <1.4`, or `acme/*` for every version.
    pub pattern: String,
    /// Why; clients are shown it.
    pub reason: String,
}

request!(BlockVersions, "block", answer Changed);

/// Takes a block away.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnblockVersions {
    /// The pattern, exactly as it was blocked.
    pub pattern: String,
}

request!(UnblockVersions, "unblock", answer Changed);

/// Lists the blocks.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListBlocks {}

request!(ListBlocks, "blocks", answer BlockList);

/// Every block, in the order in which they were set.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlockList {
    /// The blocks.
    pub blocks: Vec<BlockRow>,
}

/// One block.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlockRow {
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}
