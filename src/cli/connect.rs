//! `srm-mirror connect`: what clients of a mirror must type, and whether it would work.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{FAILED, UNAVAILABLE, print, visible_lines};
use crate::value::BaseUrl;

mod check;
mod client_setup;
mod example_target;

use check::{Check, Outcome, Unreachable};
use client_setup::ClientSetup;
use example_target::ExampleTarget;

const EXAMPLES: &str = "\
Examples:
  srm-mirror connect http://mirror.example.com:8080
  srm-mirror connect http://mirror.example.com:8080 --package devsapp/fc3@1.0.0
  srm-mirror connect https://mirror.example.com --check --ca-file ca.pem

With --check: exit code 0 when every route works, 1 when one does not, 69 when the mirror cannot be reached. A line
that begins with \"off\" is something this mirror does not offer, and no fault.";

/// Print what to type so that s, octokit, PyGithub and curl use a mirror
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Connect {
    /// The mirror's address as its clients reach it
    #[arg(value_name = "URL")]
    url: BaseUrl,
    /// The package of the examples
    #[arg(long, value_name = "OWNER/REPO[@VERSION]", default_value = "devsapp/fc3")]
    package: String,
    /// Try each route against the running mirror instead
    #[arg(long)]
    check: bool,
    /// With --check: an authority to trust besides the system's (PEM), as NODE_EXTRA_CA_CERTS
    #[arg(long, value_name = "FILE", requires = "check")]
    ca_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Connect {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let mut subject = ExampleTarget::read(&self.url, &self.package)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        let address = runtime.block_on(example_target::address(&self.url));
        if !self.check {
            let ways = client_setup::all(&subject, address);
            print(&if self.json {
                format!("{:#}\n", json!({"mirror": subject.base, "ways": ways}))
            } else {
                visible_lines(&text(&ways))
            });
            return Ok(0);
        }
        let checks = match runtime.block_on(check::all(&mut subject, address, self.ca_file.as_deref()))? {
            Ok(checks) => checks,
            Err(Unreachable(why)) if self.json => {
                print(&format!("{:#}\n", json!({"mirror": subject.base, "unreachable": why})));
                return Ok(UNAVAILABLE);
            }
            Err(why) => return Err(why.into()),
        };
        let ways = client_setup::all(&subject, address);
        print(&if self.json {
            format!("{:#}\n", json!({"mirror": subject.base, "ways": ways, "checks": checks}))
        } else {
            visible_lines(&table(&checks))
        });
        let failed = checks.iter().any(|check| matches!(check.outcome, Outcome::Fails(_)));
        Ok(if failed { FAILED } else { 0 })
    }
}

/// The error that nothing answers at the address.
pub(super) fn is_unreachable(why: &(dyn std::error::Error + 'static)) -> bool {
    why.is::<Unreachable>()
}

/// The error that the command line is wrong.
pub(super) fn is_usage(why: &(dyn std::error::Error + 'static)) -> bool {
    why.is::<example_target::PackageArgError>() || why.is::<check::AuthorityError>()
}

fn text(ways: &[ClientSetup]) -> String {
    let mut text = String::new();
    for way in ways {
        let _ = writeln!(text, "# {}: {}", way.client, way.purpose);
        for line in &way.lines {
            let _ = writeln!(text, "{line}");
        }
        for note in &way.notes {
            let _ = writeln!(text, "#   {note}");
        }
        text.push('\n');
    }
    text.pop();
    text
}

fn table(checks: &[Check]) -> String {
    let client = checks.iter().map(|check| check.client.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { client: who, route, outcome } in checks {
        let (word, said) = match outcome {
            Outcome::Ok(said) => ("ok", said),
            Outcome::Off(said) => ("off", said),
            Outcome::Fails(said) => ("fails", said),
        };
        let _ = writeln!(text, "{word:5}  {who:client$}  {route}: {said}");
    }
    text
}
