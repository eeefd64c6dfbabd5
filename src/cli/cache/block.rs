//! `srm-mirror cache block`, `unblock` and `blocks`.

use super::print;
use crate::{
    admin_api::{BlockRow, BlockVersions, ListBlocks, UnblockVersions},
    cli::{CacheArgs, admin_client, escape_terminal_lines},
};

/// Blocks the versions that a pattern means.
pub(super) fn set(cache: &CacheArgs, pattern: String, reason: String) -> anyhow::Result<u8> {
    let request = BlockVersions { pattern, reason };
    admin_client::run(cache.load()?, async |client| client.call(&request).await)?;
    print(&escape_terminal_lines(&format!("{} is blocked\n", request.pattern)));
    Ok(0)
}

/// Takes a block away.
pub(super) fn remove(cache: &CacheArgs, pattern: String) -> anyhow::Result<u8> {
    let request = UnblockVersions { pattern };
    admin_client::run(cache.load()?, async |client| client.call(&request).await)?;
    print(&escape_terminal_lines(&format!("{} is no longer blocked\n", request.pattern)));
    Ok(0)
}

/// Prints every block.
pub(super) fn list(cache: &CacheArgs, json: bool) -> anyhow::Result<u8> {
    let list = admin_client::run(cache.load()?, async |client| client.call(&ListBlocks {}).await)?;
    if json {
        print(&format!("{}\n", serde_json::to_string(&list)?));
        return Ok(0);
    }
    if list.blocks.is_empty() {
        print("nothing is blocked\n");
    }
    let width = list.blocks.iter().map(|block| block.pattern.chars().count()).max().unwrap_or_default();
    for BlockRow { pattern, reason, at } in &list.blocks {
        print(&escape_terminal_lines(&format!("{pattern:width$}  {at:.0}  {reason}\n")));
    }
    Ok(0)
}
