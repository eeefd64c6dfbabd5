//! `srm-mirror publish`: packs a package, checks it against the package model, and sends it to a mirror that hosts
//! packages.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{
    client::{HostedAnswer, HostedClient, report_refusal},
    package_zip::PackageZip,
};
use crate::{
    admin_api::{FailureCode, PublishError, PublishedVersion},
    archive::package_model,
    cli::{FAILED, UsageError, byte_bar::ByteBar, escape_terminal, mirror_token::MirrorToken, mirror_url, print},
    config::Environment,
    entry::Digest,
    package::{ModelFinding, ModelRule, NameForm, PackageName},
    value::{BaseUrl, ByteSize},
};

const PUBLISH_HELP: &str = "\
Name and version are those of publish.yaml. A folder is packed without .git and without what its .signore and .gitignore
files leave out; a .signore precedes the .gitignore beside it, so that `!dist/` in it publishes a build that git ignores.
The same files make the same zip.

Examples:
  srm-mirror publish --server https://mirror.example.com --token-file ./token
  srm-mirror publish ./fc3 --server https://mirror.example.com --dry-run
  srm-mirror publish fc3-1.0.0.zip --server https://mirror.example.com --json

Exit codes: 0 it is published, or was published with the same bytes before; 1 it does not conform to the package model,
or the mirror refuses it; 64 bad input; 69 the mirror cannot be reached or is not ready; 74 a file cannot be read.";

/// Publish a package to a mirror that hosts packages
#[derive(Debug, Args)]
#[command(after_help = PUBLISH_HELP)]
pub(in crate::cli) struct PublishCommand {
    /// The package: a folder, or a zip
    #[arg(value_name = "DIR|ZIP", default_value = ".")]
    source: PathBuf,
    /// Address of the mirror
    #[arg(long, value_name = "URL", value_parser = mirror_url::parse)]
    server: BaseUrl,
    /// The name that publish.yaml must have
    #[arg(long, value_name = "NAME")]
    package: Option<String>,
    /// The version that publish.yaml must have
    #[arg(long = "version", value_name = "VERSION")]
    package_version: Option<String>,
    /// Pack and check the package, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// File with the token that the mirror wants [else the variable SRM_MIRROR_TOKEN, else none]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// What is printed with `--json`, besides a refusal.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum PublishEvent<'a> {
    /// It conforms to the package model; nothing was sent.
    Checked { package: &'a str, version: &'a str, digest: Digest, size: u64, entries: usize },
    /// It is stored now.
    Published(&'a PublishedVersion),
    /// It was stored before.
    Present(&'a PublishedVersion),
}

impl PublishCommand {
    pub(in crate::cli) fn run(self) -> anyhow::Result<u8> {
        let token = MirrorToken::load(self.token_file.as_deref(), &Environment::of_process())?;
        let zip = PackageZip::open(&self.source)?;
        let publish = &zip.facts.publish;
        let package = self.package.as_deref().or(publish.name.as_deref()).unwrap_or_default();
        let version = self.package_version.as_deref().or(publish.version.as_deref()).unwrap_or_default();
        let mut findings = package_model::check_upload(&zip.facts, package, version);
        if !findings.is_empty() {
            add_hints(&mut findings, &self.source);
            report_refusal(&not_conforming(findings), self.json);
            return Ok(FAILED);
        }
        let name = PackageName::parse_as(NameForm::Plain, package).map_err(|error| {
            UsageError(format!("{} is not a name that can be published: {error}", escape_terminal(package)))
        })?;
        if self.dry_run {
            print_checked(package, version, &zip, self.json);
            return Ok(0);
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        let client = HostedClient::new(&self.server, token)?;
        let bar = (!self.json).then(|| Arc::new(ByteBar::new("publish")));
        bar.iter().for_each(|bar| bar.set_length(zip.len));
        let answer = runtime.block_on(client.publish(&name, version, &zip, bar));
        // A read of the zip may still run on a blocking thread.
        runtime.shutdown_background();
        match answer? {
            HostedAnswer::Done(published) => Ok(report_published(&published, &zip.digest, self.json)),
            HostedAnswer::Refused(refusal) => Ok(refusal.report(self.json)),
        }
    }
}

/// Prints what would be published.
fn print_checked(package: &str, version: &str, zip: &PackageZip, json: bool) {
    let PackageZip { len, digest, facts, .. } = zip;
    let entries = facts.entries;
    if json {
        return print_json(&PublishEvent::Checked { package, version, digest: *digest, size: *len, entries });
    }
    print(&format!("would publish: {package} {version}, {entries} files, {}, sha256:{digest}\n", ByteSize(*len)));
}

/// Prints what is stored, and returns the exit code.
fn report_published(published: &PublishedVersion, digest: &Digest, json: bool) -> u8 {
    if published.digest != *digest {
        let message = "the mirror has stored other bytes than it was sent".to_owned();
        report_refusal(&PublishError { message, status: String::new(), code: None, findings: Vec::new() }, json);
        return FAILED;
    }
    if json {
        print_json(&match published.created {
            true => PublishEvent::Published(published),
            false => PublishEvent::Present(published),
        });
        return 0;
    }
    let PublishedVersion { package, version, digest, size, created } = published;
    let verb = if *created { "published" } else { "was published before" };
    let line = format!("{verb}: {package} {version}, {}, sha256:{digest}", ByteSize(*size));
    print(&format!("{}\n", escape_terminal(&line)));
    0
}

fn not_conforming(findings: Vec<ModelFinding>) -> PublishError {
    PublishError {
        message: "the package does not conform to the package model".into(),
        status: String::new(),
        code: Some(FailureCode::NotConforming),
        findings,
    }
}

/// Says where a missing file is in the folder that was packed: `.gitignore` often has what a build makes.
fn add_hints(findings: &mut [ModelFinding], source: &Path) {
    for finding in findings {
        let is_file = matches!(finding.rule, ModelRule::Entry | ModelRule::PackageJson | ModelRule::PublishYaml);
        if is_file && source.join(&finding.subject).is_file() {
            finding.message += ": .signore or .gitignore leaves it out; write !";
            finding.message += finding.subject.split_inclusive('/').next().unwrap_or_default();
            finding.message += " into .signore";
        }
    }
}

fn print_json(value: &impl Serialize) {
    // Strings and numbers only: writing them cannot fail.
    print(&format!("{}\n", serde_json::to_string(value).unwrap_or_default()));
}
