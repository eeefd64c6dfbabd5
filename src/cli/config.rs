//! `srm-mirror config`: checks or shows the configuration and changes nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use anyhow::Context as _;

use super::{CacheArgs, ServeArgs, USAGE, escape_terminal_lines, print};
use crate::{
    app::{self, UpstreamReport},
    config::Loaded,
};

/// Check the configuration, or show its values and where each was set
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check whether serve would accept the configuration: the file, with the variables that are set
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
    },
    /// Print the effective values as TOML, each with where it was set; secrets are masked
    #[command(after_help = "Example: SRM_MIRROR__DISK__LIMIT=10GiB srm-mirror config show")]
    Show(Box<ServeArgs>),
}

impl ConfigCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            ConfigAction::Check { file, config, online } => {
                let loaded = CacheArgs { config: file.or(config), ..CacheArgs::default() }.load()?;
                let warnings = loaded.warnings().into_iter().map(|warning| format!("warning: {warning}\n"));
                print(&format!("{}the configuration is valid\n", warnings.collect::<String>()));
                if online {
                    return check_credentials(loaded);
                }
            }
            ConfigAction::Show(args) => print(&args.load()?.show()),
        }
        Ok(0)
    }
}

/// Prints one line for each credential. The exit code is that of an invalid configuration when one is refused.
fn check_credentials(loaded: Loaded) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let reports = runtime.block_on(app::check_credentials(&loaded.config, loaded.credentials))?;
    if reports.is_empty() {
        print("no upstream has a credential\n");
    }
    for report in &reports {
        print(&escape_terminal_lines(&report.to_string()));
    }
    Ok(if reports.iter().any(UpstreamReport::has_refusal) { USAGE } else { 0 })
}
