//! `srm-mirror config`: checks or shows the configuration and changes nothing.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use anyhow::Context as _;
use serde_json::json;

use super::{ServeArgs, USAGE, escape_terminal, escape_terminal_lines, print};
use crate::{
    app::{self, UpstreamReport},
    config::{self, ConfigError, Environment, Loaded, Mistakes},
    upstream,
};

/// Check the configuration, or show its values and where each was set
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check whether serve would accept the configuration: the file, with the variables that are set; prints every mistake
    #[command(after_help = "Examples:\n  srm-mirror config check mirror.toml\n  srm-mirror config check --online")]
    Check {
        /// Configuration file [default: the file that SRM_MIRROR_CONFIG names, or none]
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same, as a flag like that of serve
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Ask each upstream what each credential may do; a refused one is an error
        #[arg(long)]
        online: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the effective values as TOML, each with where it was set; secrets are masked
    #[command(
        after_help = "Examples:\n  SRM_MIRROR__DISK__LIMIT=10GiB srm-mirror config show\n  srm-mirror config show --json"
    )]
    Show {
        #[command(flatten)]
        args: Box<ServeArgs>,
        /// Print JSON: an array of {key, value, source}
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            ConfigAction::Check { file, config, online, json } => return check(file.or(config), online, json),
            ConfigAction::Show { args, json: true } => print(&format!("{}\n", args.load()?.show_json())),
            ConfigAction::Show { args, json: false } => print(&args.load()?.show()),
        }
        Ok(0)
    }
}

/// Checks the configuration, and prints what is wrong and what is probably wrong with it.
fn check(file: Option<PathBuf>, online: bool, json: bool) -> anyhow::Result<u8> {
    let loaded = match config::load_or_all_mistakes(file.as_deref(), &Environment::of_process()) {
        Ok(loaded) => loaded,
        Err(Mistakes(mistakes)) => return Ok(report_mistakes(&mistakes, json)),
    };
    let mut warnings = loaded.warnings();
    warnings.extend(upstream::trust_warning(&loaded.config.upstreams));
    if !json {
        let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n"));
        print(&format!("{}the configuration is valid\n", warnings.collect::<String>()));
    }
    let reports = if online { Some(ask_upstreams(loaded)?) } else { None };
    let is_refused = reports.iter().flatten().any(UpstreamReport::has_refusal);
    if json {
        let lines = |reports: Vec<UpstreamReport>| reports.iter().map(ToString::to_string).collect::<String>();
        let credentials = reports.map(|reports| lines(reports).lines().map(str::to_owned).collect::<Vec<_>>());
        let value = json!({"valid": true, "mistakes": [], "warnings": warnings, "credentials": credentials});
        print(&format!("{value}\n"));
    } else if let Some(reports) = reports {
        if reports.is_empty() {
            print("no upstream has a credential\n");
        }
        for report in &reports {
            print(&escape_terminal_lines(&report.to_string()));
        }
    }
    // A refused credential is a mistake in the configuration.
    Ok(if is_refused { USAGE } else { 0 })
}

/// Prints one line for each mistake, and returns the exit code of an invalid configuration.
fn report_mistakes(mistakes: &[ConfigError], json: bool) -> u8 {
    let texts = mistakes.iter().map(ToString::to_string);
    if json {
        let mistakes: Vec<String> = texts.collect();
        print(&format!("{}\n", json!({"valid": false, "mistakes": mistakes, "warnings": []})));
    } else {
        let lines = texts.map(|text| format!("srm-mirror: {}\n", escape_terminal(&text)));
        // A write error cannot be reported.
        let _ = io::stderr().write_all(lines.collect::<String>().as_bytes());
    }
    USAGE
}

/// Asks each upstream what its credentials may do.
fn ask_upstreams(loaded: Loaded) -> anyhow::Result<Vec<UpstreamReport>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    Ok(runtime.block_on(app::check_credentials(&loaded.config, loaded.credentials))?)
}
