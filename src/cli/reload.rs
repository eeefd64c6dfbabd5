//! `srm-mirror reload`: makes the running mirror read its configuration again.

use std::fmt::Write as _;

use clap::Args;

use super::{admin_args::AdminArgs, admin_client, escape_terminal_lines, print};
use crate::admin_api::{ReloadConfig, ReloadReport, SettingChange};

const RELOAD_HELP: &str = "\
Examples:
  srm-mirror reload
  srm-mirror reload --json

The mirror reads the configuration file that it was started with, with the same variables and flags, and its
certificates, tokens and keys. It applies to new requests, all or nothing: public_url, known_hosts and client_header of
server; names, routes, clients, access, packages, required, upstreams and log.level. Other settings are named and take
effect at the next start. Connections stay open, and requests under way end as they began. SIGHUP does the same.

Exit code 64, and nothing is changed, when the configuration cannot be used; 69 when no mirror runs on the cache
directory.";

/// Make the running mirror read its configuration again
#[derive(Debug, Args)]
#[command(after_help = RELOAD_HELP)]
pub(super) struct ReloadCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    mirror: AdminArgs,
}

impl ReloadCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let report = admin_client::run_at_server(&self.mirror, async |client| client.call(&ReloadConfig {}).await)?;
        print(&if self.json {
            format!("{}\n", serde_json::to_string(&report)?)
        } else {
            escape_terminal_lines(&text(&report))
        });
        Ok(0)
    }
}

fn text(report: &ReloadReport) -> String {
    let mut text = String::new();
    let mut lines = |changes: &[SettingChange], note: &str| {
        for SettingChange { key, from, to } in changes {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
            let _ = writeln!(text, "{key}: {} -> {}{note}", value(from), value(to));
        }
    };
    lines(&report.changed, "");
    lines(&report.needs_restart, " (at the next start)");
    if text.is_empty() {
        text.push_str("no setting has changed; certificates, tokens and keys are read again\n");
    }
    text
}
