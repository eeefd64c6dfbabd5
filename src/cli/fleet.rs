//! `--fleet`: asks every node of the fleet, each through its listener for nodes, with this node's certificate.

use clap::Args;
use serde_json::json;

use super::{UsageError, admin_args::AdminArgs, error_line, exit_code, print};
use crate::app;

/// The flag of commands that ask one mirror, or all of them.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct FleetArgs {
    /// Ask every node of [fleet], with this node's certificate; the answers are shown by node
    #[arg(long, conflicts_with = "server")]
    pub(super) fleet: bool,
}

impl FleetArgs {
    /// Runs a command on the mirror of `arguments` or, with the flag, on every node in turn. A node that fails is named, and
    /// the others are asked all the same. Returns the highest exit code: 69 when a node cannot be reached.
    pub(super) fn run(
        self,
        arguments: &AdminArgs,
        json: bool,
        mut command: impl FnMut(&AdminArgs) -> anyhow::Result<u8>,
    ) -> anyhow::Result<u8> {
        if !self.fleet {
            return command(arguments);
        }
        let loaded = arguments.load()?;
        if loaded.config.fleet.is_none() {
            let why = "the configuration has no section [fleet] with nodes, so there is no fleet to ask";
            return Err(UsageError(why.into()).into());
        }
        let mut worst = 0;
        for node in app::fleet_nodes(&loaded.config)? {
            let of_node = arguments.of_node(&node);
            if !json {
                print(&format!("node {}, {}\n", node.name, node.url));
            }
            let code = command(&of_node).unwrap_or_else(|error| {
                let why = error_line(&error);
                print(&if json {
                    format!("{}\n", json!({"node": node.name, "error": why}))
                } else {
                    format!("no answer: {why}\n")
                });
                exit_code(&error)
            });
            worst = worst.max(code);
        }
        Ok(worst)
    }
}
