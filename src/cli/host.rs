//! `srm-mirror host`: backup, restore, verification and retention of the packages that are published on a mirror.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CacheArgs, admin_args::AdminArgs, cache::ensure_cache_dir_exists};
use crate::value::Period;

mod export;
mod import;
mod prune;
mod verify;

pub(super) use import::{is_io, is_unavailable, is_usage};

const HOST_HELP: &str = "\
These packages are data, not cache: see docs/hosting.md. All of these commands but import work while the mirror runs,
through control.sock in its cache directory, and without it. With --server URL they work from elsewhere, where
access.remote_admin is on.";

const EXPORT_HELP: &str = "\
Every record is in every export, and each zip once. With --since, the zips of earlier exports are left out: restore all
of them together.

Examples:
  srm-mirror host export sunday.tar
  srm-mirror host export monday.tar --since sunday.tar
  srm-mirror host export tuesday.tar --since sunday.tar --since monday.tar

Exit codes: 0 the file is complete; 1 something published is damaged; 64 bad input; 74 a file cannot be used.";

const IMPORT_HELP: &str = "\
The newest of the files says what is published; the others add the zips that it left out. Nothing is published before
every byte was compared; an import that was interrupted can be repeated. The mirror of the directory must be stopped.

Examples:
  srm-mirror host import sunday.tar monday.tar
  srm-mirror host import sunday.tar --dir /var/lib/srm-mirror-hosted

Exit codes: 0 everything is restored; 64 a file or the directory is unsuitable; 69 a mirror holds the directory; 74 a
file cannot be used.";

const VERIFY_HELP: &str = "\
Compares every record with what the mirror serves, and every byte of every zip with its digest. Changes nothing.

Example: srm-mirror host verify --json

Exit codes: 0 everything is good; 1 something is damaged, and named.";

const PRUNE_HELP: &str = "\
Deletes every version of a package but
  - the N highest stable ones, and the N highest pre-releases above them
  - what was published within the period
  - what is marked with `srm-mirror cache keep hosted:NAME@VERSION`
and, of moving versions such as dev, earlier zips that were published before the period. A yanked version is none of the
N. What is deleted leaves a tombstone, as with `srm-mirror delete`.

Examples:
  srm-mirror host prune --keep-last 20 --younger-than 90d --dry-run
  srm-mirror host prune 'acme-*' --keep-last 20 --younger-than 90d

Exit codes: 0 done, also where there is nothing to prune; 1 something cannot be pruned; 64 bad input.";

/// Back up, restore, verify and prune the packages that are published on this mirror
#[derive(Debug, Args)]
#[command(after_help = HOST_HELP)]
pub(super) struct HostCommand {
    #[command(subcommand)]
    action: HostAction,
}

#[derive(Debug, Subcommand)]
enum HostAction {
    /// Write everything that is published into one file
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// The file to write
        file: PathBuf,
        /// An earlier export, whose zips are left out; can be repeated
        #[arg(long, value_name = "FILE")]
        since: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        mirror: AdminArgs,
    },
    /// Restore exports into an empty directory
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The exports to restore, in any order
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The directory [default: upstreams.hosted.dir]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: CacheArgs,
    },
    /// Compare everything that is published with its records and digests
    #[command(after_help = VERIFY_HELP)]
    Verify {
        /// Print one JSON value per line, progress included
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        mirror: AdminArgs,
    },
    /// Delete old versions by rules
    #[command(after_help = PRUNE_HELP)]
    Prune {
        /// The packages, such as acme-x or 'acme-*' [default: all]
        pattern: Option<String>,
        /// How many of the highest stable versions stay
        #[arg(long, value_name = "N")]
        keep_last: std::num::NonZeroUsize,
        /// What was published within this period stays, such as 90d
        #[arg(long, value_name = "PERIOD")]
        younger_than: Period,
        /// Only show what would be deleted
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON value per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        mirror: AdminArgs,
    },
}

impl HostCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            HostAction::Export { file, since, json, mirror } => {
                ensure_cache_dir_exists(&mirror)?;
                export::run(&mirror, &file, &since, json)
            }
            HostAction::Import { files, dir, json, config } => import::run(&config, &files, dir, json),
            HostAction::Verify { json, mirror } => {
                ensure_cache_dir_exists(&mirror)?;
                verify::run(&mirror, json)
            }
            HostAction::Prune { pattern, keep_last, younger_than, dry_run, json, mirror } => {
                ensure_cache_dir_exists(&mirror)?;
                let rule = prune::PruneFlags { pattern, keep_last, younger_than, dry_run };
                prune::run(&mirror, rule, json)
            }
        }
    }
}
