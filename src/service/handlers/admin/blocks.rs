//! Versions that the operator blocks.

use std::sync::Arc;

use super::{AdminError, blocking};
use crate::{
    admin_api::{BlockList, BlockRow, BlockVersions, Changed, UnblockVersions},
    registry::{BlockError, BlockedPattern, Blocks, Registry},
};

impl From<BlockError> for AdminError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Io { .. } => Self::storage("the blocks are in force and cannot be written down", &error),
            error => Self::bad_request(error.to_string()),
        }
    }
}

pub(super) async fn set(registry: &Arc<Registry>, request: BlockVersions) -> Result<Changed, AdminError> {
    let BlockVersions { pattern, reason } = request;
    let now = registry.now();
    tracing::info!(pattern, reason, "blocking versions");
    write(registry, move |blocks| blocks.set(pattern, &reason, now)).await
}

pub(super) async fn remove(registry: &Arc<Registry>, request: UnblockVersions) -> Result<Changed, AdminError> {
    let UnblockVersions { pattern } = request;
    tracing::info!(pattern, "taking a block away");
    let now = registry.now();
    write(registry, move |blocks| blocks.remove(&pattern, now)).await
}

pub(super) async fn list(registry: &Arc<Registry>) -> Result<BlockList, AdminError> {
    let row = |BlockedPattern { pattern, reason, at }| BlockRow { pattern, reason: reason.to_string(), at };
    Ok(BlockList { blocks: registry.blocks().list().into_iter().map(row).collect() })
}

/// Changes the blocks on a blocking thread: a file is written.
async fn write(
    registry: &Arc<Registry>,
    change: impl FnOnce(&Blocks) -> Result<(), BlockError> + Send + 'static,
) -> Result<Changed, AdminError> {
    let blocks = registry.blocks().clone();
    blocking("the blocks cannot be changed", move || change(&blocks)).await??;
    Ok(Changed {})
}
