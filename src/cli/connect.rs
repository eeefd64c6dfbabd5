//! `srm-mirror connect`: prints how to set up each client for a mirror, and checks a running mirror's routes.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{FAILED, UNAVAILABLE, escape_terminal_lines, mirror_token::MirrorToken, mirror_url, print};
use crate::{
    config::Environment,
    dialect::{ClientSetup, client_setups},
    value::BaseUrl,
};

mod check;
mod example_target;

use check::{CaFileError, CheckAccess, CheckReport, MirrorUnreachable, RouteCheck, RouteState};
use example_target::PackageArgError;

const CONNECT_HELP: &str = "\
Examples:
  srm-mirror connect http://mirror.example.com:8080
  srm-mirror connect http://mirror.example.com:8080 --package fc3@0.1.22
  srm-mirror connect http://mirror.example.com:8080 --package devsapp/start-fc3 --check
  srm-mirror connect https://mirror.example.com --check --ca-file ca.pem --token-file ./token

Exit codes with --check: 0 when every route works, 1 when one does not, 69 when the mirror cannot be reached. A route
marked \"off\" is not offered by this mirror's configuration and does not count as a failure.";

/// Print how to set up s, octokit, PyGithub and curl for a mirror, or check its routes
#[derive(Debug, Args)]
#[command(after_help = CONNECT_HELP)]
pub(super) struct ConnectCommand {
    /// URL of the mirror as its clients reach it
    #[arg(value_name = "URL", value_parser = mirror_url::parse)]
    url: BaseUrl,
    /// Package of the examples: a plain name, or owner/repo, with or without its upstream in front
    #[arg(long, value_name = "NAME[@VERSION]", default_value = "fc3")]
    package: String,
    /// Try each route of the running mirror instead
    #[arg(long)]
    check: bool,
    /// With --check: certificate authority to trust besides the system's (PEM), as NODE_EXTRA_CA_CERTS
    #[arg(long, value_name = "FILE", requires = "check")]
    ca_file: Option<PathBuf>,
    /// With --check: file with the token that the mirror wants [else the variable SRM_MIRROR_TOKEN, else none]
    #[arg(long, value_name = "FILE", requires = "check")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ConnectCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let mut target = example_target::parse(&self.url, &self.package)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        let address = runtime.block_on(example_target::resolve(&self.url));
        let ip = address.map(|address| address.ip());
        if !self.check {
            let setups = client_setups(&target, ip);
            print(&if self.json {
                format!("{:#}\n", json!({"mirror": target.base, "ways": setups}))
            } else {
                escape_terminal_lines(&setup_text(&setups))
            });
            return Ok(0);
        }
        let token = MirrorToken::load(self.token_file.as_deref(), &Environment::of_process())?;
        let access = CheckAccess { address, ca_file: self.ca_file.as_deref(), token };
        let checks = match runtime.block_on(check::check_routes(&mut target, access))? {
            CheckReport::Routes(checks) => checks,
            CheckReport::Unreachable(MirrorUnreachable(reason)) if self.json => {
                print(&format!("{:#}\n", json!({"mirror": target.base, "unreachable": reason})));
                return Ok(UNAVAILABLE);
            }
            CheckReport::Unreachable(unreachable) => return Err(unreachable.into()),
        };
        let setups = client_setups(&target, ip);
        print(&if self.json {
            format!("{:#}\n", json!({"mirror": target.base, "ways": setups, "checks": checks}))
        } else {
            escape_terminal_lines(&check_table(&checks))
        });
        let failed = checks.iter().any(|check| matches!(check.state, RouteState::Fails(_)));
        Ok(if failed { FAILED } else { 0 })
    }
}

/// True for the error that nothing answers at the mirror's address.
pub(super) fn is_unreachable(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<MirrorUnreachable>()
}

/// True for an invalid argument.
pub(super) fn is_usage(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<PackageArgError>() || error.is::<CaFileError>()
}

fn setup_text(setups: &[ClientSetup]) -> String {
    let mut text = String::new();
    for setup in setups {
        let _ = writeln!(text, "# {}: {}", setup.client, setup.purpose);
        for line in &setup.lines {
            let _ = writeln!(text, "{line}");
        }
        for note in &setup.notes {
            let _ = writeln!(text, "#   {note}");
        }
        text.push('\n');
    }
    text.pop();
    text
}

fn check_table(checks: &[RouteCheck]) -> String {
    let width = checks.iter().map(|check| check.client.len()).max().unwrap_or_default();
    let mut text = String::new();
    for RouteCheck { client, route, state } in checks {
        let _ = writeln!(text, "{:5}  {client:width$}  {route}: {}", state.word(), state.detail());
    }
    text
}
