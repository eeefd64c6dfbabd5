//! `srm-mirror config`: checks or shows the configuration and changes nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CacheArgs, ServeArgs, print};

/// Check the configuration, or show its values and where each was set
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check whether serve would accept the configuration: the file, with the variables that are set
    #[command(after_help = "Example: srm-mirror config check mirror.toml")]
    Check {
        /// Configuration file [default: the file that SRM_MIRROR_CONFIG names, or none]
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same, as a flag like that of serve
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the effective values as TOML, each with where it was set; secrets are masked
    #[command(after_help = "Example: SRM_MIRROR__DISK__LIMIT=10GiB srm-mirror config show")]
    Show(Box<ServeArgs>),
}

impl ConfigCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            ConfigAction::Check { file, config } => {
                let loaded = CacheArgs { config: file.or(config), ..CacheArgs::default() }.load()?;
                let warnings = loaded.warnings().into_iter().map(|warning| format!("warning: {warning}\n"));
                print(&format!("{}the configuration is valid\n", warnings.collect::<String>()));
            }
            ConfigAction::Show(args) => print(&args.load()?.show()),
        }
        Ok(0)
    }
}
