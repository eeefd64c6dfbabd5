//! `srm-mirror delete`, `yank` and `unyank`: what is done with a version after it was published.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::client::{HostedAnswer, HostedClient};
use crate::{
    admin_api::{UnyankVersion, YankVersion},
    cli::{UsageError, escape_terminal, mirror_token::MirrorToken, mirror_url, print},
    config::Environment,
    package::{NameForm, PackageName, Version},
    value::BaseUrl,
};

const DELETE_HELP: &str = "\
The version is gone for good: its name cannot be published again. `yank` only hides it.

Example: srm-mirror delete fc3@1.0.0 --server https://mirror.example.com --token-file ./token

Exit codes: 0 it is deleted; 1 the mirror refuses it; 64 bad input; 69 the mirror cannot be reached or is not ready.";

const YANK_HELP: &str = "\
Lists and `latest` leave the version out; who asks for exactly this version still gets it.

Examples:
  srm-mirror yank fc3@1.0.0 --server https://mirror.example.com
  srm-mirror unyank fc3@1.0.0 --server https://mirror.example.com

Exit codes: 0 it is done; 1 the mirror refuses it; 64 bad input; 69 the mirror cannot be reached or is not ready.";

/// Delete a published version for good
#[derive(Debug, Args)]
#[command(after_help = DELETE_HELP)]
pub(in crate::cli) struct DeleteCommand {
    #[command(flatten)]
    version: HostedVersionArgs,
}

/// Hide a published version from lists
#[derive(Debug, Args)]
#[command(after_help = YANK_HELP)]
pub(in crate::cli) struct YankCommand {
    #[command(flatten)]
    version: HostedVersionArgs,
}

/// Show a hidden version in lists again
#[derive(Debug, Args)]
#[command(after_help = YANK_HELP)]
pub(in crate::cli) struct UnyankCommand {
    #[command(flatten)]
    version: HostedVersionArgs,
}

/// The version and its mirror.
#[derive(Debug, Args)]
struct HostedVersionArgs {
    /// The package and its version, such as fc3@1.0.0
    #[arg(value_name = "PACKAGE@VERSION")]
    spec: String,
    /// Address of the mirror
    #[arg(long, value_name = "URL", value_parser = mirror_url::parse)]
    server: BaseUrl,
    /// File with the token that the mirror wants [else the variable SRM_MIRROR_TOKEN, else none]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What was done, as JSON.
#[derive(Serialize)]
struct VersionEvent<'a> {
    event: &'static str,
    package: &'a str,
    version: &'a str,
}

impl DeleteCommand {
    pub(in crate::cli) fn run(self) -> anyhow::Result<u8> {
        self.version
            .run("deleted", async |client, package, version| Ok(client.delete(package, version).await?.map(drop)))
    }
}

impl YankCommand {
    pub(in crate::cli) fn run(self) -> anyhow::Result<u8> {
        self.version.run("yanked", async |client, package, version| {
            let request = YankVersion { package: package.to_string(), version: version.to_owned() };
            Ok(client.call(&request).await?.map(drop))
        })
    }
}

impl UnyankCommand {
    pub(in crate::cli) fn run(self) -> anyhow::Result<u8> {
        self.version.run("unyanked", async |client, package, version| {
            let request = UnyankVersion { package: package.to_string(), version: version.to_owned() };
            Ok(client.call(&request).await?.map(drop))
        })
    }
}

impl HostedVersionArgs {
    /// Sends the request that `work` makes, and prints what became of it.
    fn run(
        self,
        done: &'static str,
        work: impl AsyncFnOnce(&HostedClient, &PackageName, &str) -> anyhow::Result<HostedAnswer<()>>,
    ) -> anyhow::Result<u8> {
        let (package, version) = self.parse()?;
        let token = MirrorToken::load(self.token_file.as_deref(), &Environment::of_process())?;
        let client = HostedClient::new(&self.server, token)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        match runtime.block_on(work(&client, &package, &version))? {
            HostedAnswer::Refused(refusal) => Ok(refusal.report(self.json)),
            HostedAnswer::Done(()) if self.json => {
                let event = VersionEvent { event: done, package: package.base_name(), version: &version };
                // Strings only: writing them cannot fail.
                print(&format!("{}\n", serde_json::to_string(&event).unwrap_or_default()));
                Ok(0)
            }
            HostedAnswer::Done(()) => {
                print(&format!("{done}: {package} {version}\n"));
                Ok(0)
            }
        }
    }

    fn parse(&self) -> Result<(PackageName, String), UsageError> {
        let text = &self.spec;
        let invalid = |why: String| UsageError(format!("{}: {why}; for example fc3@1.0.0", escape_terminal(text)));
        let (name, version) = text.split_once('@').ok_or_else(|| invalid("it names no version".into()))?;
        let package = PackageName::parse_as(NameForm::Plain, name).map_err(|error| invalid(error.to_string()))?;
        version.parse::<Version>().map_err(|error| invalid(error.to_string()))?;
        Ok((package, version.to_owned()))
    }
}
