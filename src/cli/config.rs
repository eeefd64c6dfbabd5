//! `srm-mirror config`: looks at the configuration and changes nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CacheArgs, ServeArgs, print};

/// Check the configuration, or show what holds and where it was set
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether serve would accept the configuration: the file with the present variables
    #[command(after_help = "Example: srm-mirror config check mirror.toml")]
    Check {
        /// The file [else the one that SRM_MIRROR_CONFIG names, else none]
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same, as serve takes it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the effective values as TOML, each with where it was set; secrets are masked
    #[command(after_help = "Example: SRM_MIRROR__DISK__LIMIT=10GiB srm-mirror config show")]
    Show(Box<ServeArgs>),
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            Action::Check { file, config } => {
                let loaded = CacheArgs { config: file.or(config), ..CacheArgs::default() }.load()?;
                let doubts = loaded.doubts().into_iter().map(|doubt| format!("warning: {doubt}\n"));
                print(&format!("{}the configuration is good\n", doubts.collect::<String>()));
            }
            Action::Show(settings) => print(&settings.load()?.show()),
        }
        Ok(0)
    }
}
