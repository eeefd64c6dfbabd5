//! `srm-mirror cache block`, `unblock` and `blocks`.

use serde_json::json;

use super::print;
use crate::{
    admin_api::{BlockRow, BlockVersions, ListBlocks, UnblockVersions},
    cli::{admin_args::AdminArgs, admin_client, escape_terminal_lines},
};

/// Blocks the versions that a pattern matches.
pub(super) fn set(cache: &AdminArgs, pattern: String, reason: String, json: bool) -> anyhow::Result<u8> {
    let request = BlockVersions { pattern, reason };
    admin_client::run_at(cache, async |client| client.call(&request).await)?;
    print_state(&request.pattern, BlockState::Blocked, json);
    Ok(0)
}

/// Takes a block away.
pub(super) fn remove(cache: &AdminArgs, pattern: String, json: bool) -> anyhow::Result<u8> {
    let request = UnblockVersions { pattern };
    admin_client::run_at(cache, async |client| client.call(&request).await)?;
    print_state(&request.pattern, BlockState::Unblocked, json);
    Ok(0)
}

/// What a command has made of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockState {
    Blocked,
    Unblocked,
}

/// Prints whether a pattern is blocked now.
fn print_state(pattern: &str, state: BlockState, json: bool) {
    let is_blocked = state == BlockState::Blocked;
    let verb = if is_blocked { "is blocked" } else { "is no longer blocked" };
    print(&if json {
        format!("{}\n", json!({"pattern": pattern, "blocked": is_blocked}))
    } else {
        escape_terminal_lines(&format!("{pattern} {verb}\n"))
    });
}

/// Prints every block.
pub(super) fn list(cache: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    let list = admin_client::run_at(cache, async |client| client.call(&ListBlocks {}).await)?;
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
