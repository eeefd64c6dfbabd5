//! `srm-mirror cache`: shows and changes what is stored, through the running mirror or without one.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use super::{UsageError, admin_args::AdminArgs, fleet::FleetArgs, print};
use crate::{
    admin_api::{ExportArchives, InventoryOrder},
    value::Period,
};

mod block;
mod bundle;
mod export;
mod import;
mod keep;
mod lock;
mod ls;
mod removal;
mod stats;
mod table;

mod verify;
mod zip_array;

use keep::KeepMark;
pub(super) use stats::credential_line;

#[cfg(feature = "fuzzing")]
pub use bundle::fuzzing::bundle as fuzz_bundle;

const PATTERN_HELP: &str = "\
A PATTERN is owner/repo or a plain name, with `*` and `?` as wildcards. It may begin with an upstream's name and `:`, and
end with `@` and a version:
  devsapp/fc3    devsapp/*    gitee:*/*    fc3    fc*    official:*    official:fc3@0.1.22    devsapp/fc3@0.*
`*` is everything.

All of these commands work while the mirror runs, through control.sock in its cache directory, and without it. With
--server URL they work from elsewhere, where access.remote_admin is on.";

const LS_HELP: &str = "\
Examples:
  srm-mirror cache ls 'devsapp/*' --sort size
  srm-mirror cache ls --sort hits --limit 20

HITS is the number of answers from memory or disk since the zip was stored. USED is the time since its last use, by a
client or by warm. A zip is PINNED when its digest is recorded: the mirror refuses other content under that version. A
moving version, such as dev of the official registry, has no pin: its content changes. A KEPT zip is never evicted.
Below the zips stand the publications that failed, the newest first, each with its reason, where the mirror hosts packages.";

const BLOCK_HELP: &str = "\
Examples:
  srm-mirror cache block devsapp/fc3@1.2.0 --reason 'steals credentials, see SEC-17'
  srm-mirror cache block 'acme/*@*-beta*' --reason 'use a stable version'

A blocked version is 403 with the reason, in every dialect and under every name; lists leave it out, and latest is the
highest stable version below it. A commit is blocked where a blocked tag points at it. Nothing is removed.";

const BUNDLE_EXPORT_HELP: &str = "\
Without --shared, the bundle has what this mirror has stored. With it, and with [shared], it also has every version that
the bucket has and this mirror does not, the later of both lists, and the sources of the bucket. That costs a request for
each 1,000 versions, lists and sources of the bucket, one for each selected version that is not stored here, one for each
list, and the download of each zip, which passes through this mirror and is not stored. A zip that is damaged or missing in
the bucket is named and left out.

Examples:
  srm-mirror cache export monday.tar 'devsapp/*'
  srm-mirror cache export monday.tar --shared

Exit codes: 0 all of it; 1 nothing matches, or something is left out; 64 bad input; 69 the bucket or the mirror cannot be
used, and there is no bundle.";

const BUNDLE_IMPORT_HELP: &str = "\
With [shared], the bucket decides on each zip, and what is imported is uploaded. A zip of which the bucket has other content
is named and not imported, with --force too, and the rest is imported. It costs a request for each zip before the import,
and one for each zip and two for each list in it.

Example: srm-mirror cache import monday.tar --dry-run

Exit codes: 0 done; 1 something is not imported; 64 the bundle is invalid; 69 the bucket or the mirror cannot be used.";

/// Show what is stored, and change it
#[derive(Debug, Args)]
#[command(after_help = PATTERN_HELP)]
pub(super) struct CacheCommand {
    #[command(subcommand)]
    action: CacheAction,
}

#[derive(Debug, Subcommand)]
enum CacheAction {
    /// List the stored zips
    #[command(after_help = LS_HELP)]
    Ls {
        /// The zips to list [default: all]
        #[arg(value_parser = parse_pattern)]
        pattern: Option<String>,
        /// The order of the list
        #[arg(long, value_enum, default_value = "name")]
        sort: InventoryOrder,
        /// The most zips of the list, and the most failed publications
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print one JSON value per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        fleet: FleetArgs,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Show what uses the space and what is requested: tiers, upstreams, the largest and the most used packages
    #[command(after_help = "Example: srm-mirror cache stats --json")]
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        fleet: FleetArgs,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Hash everything that is stored; quarantine what is damaged and fetch it again
    #[command(after_help = "Example: srm-mirror cache verify 'devsapp/*'")]
    Verify {
        /// The zips to verify [default: all]
        #[arg(value_parser = parse_pattern)]
        pattern: Option<String>,
        /// Do not fetch anything again
        #[arg(long)]
        no_fetch: bool,
        /// Print one JSON value per line, progress included
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        fleet: FleetArgs,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Remove zips and, with a whole package, its release list; pins stay
    #[command(after_help = "Example: srm-mirror cache rm 'devsapp/fc3@0.*' --dry-run")]
    Rm {
        /// The zips to remove
        #[arg(value_parser = parse_pattern)]
        pattern: String,
        /// Remove the pins too: the next fetch may have other content
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        confirm: ConfirmArgs,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Remove quarantined files and, on demand, unused zips
    #[command(after_help = "Example: srm-mirror cache gc --unused 90d --yes")]
    Gc {
        /// Remove zips that were not used for this long and are not kept
        #[arg(long, value_name = "PERIOD")]
        unused: Option<Period>,
        #[command(flatten)]
        confirm: ConfirmArgs,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Mark zips as never to be evicted
    #[command(after_help = "Example: srm-mirror cache keep 'devsapp/fc3@1.*'")]
    Keep {
        /// The zips to mark
        #[arg(value_parser = parse_pattern)]
        pattern: String,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Take the mark of keep away
    #[command(after_help = "Example: srm-mirror cache unkeep 'devsapp/*'")]
    Unkeep {
        /// The zips to take the mark from
        #[arg(value_parser = parse_pattern)]
        pattern: String,
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// No longer serve versions, stored or not; in force at once
    #[command(after_help = BLOCK_HELP)]
    Block {
        /// The versions to block, such as devsapp/fc3@1.2.0 or 'fc3@>=1.2, <1.4'; without @: every version
        #[arg(value_parser = parse_pattern)]
        pattern: String,
        /// Why; clients are shown it
        #[arg(long)]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Take a block away
    #[command(after_help = "Example: srm-mirror cache unblock devsapp/fc3@1.2.0")]
    Unblock {
        /// The pattern, exactly as `cache blocks` shows it
        #[arg(value_parser = parse_pattern)]
        pattern: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// List what is blocked, and why
    #[command(after_help = "Example: srm-mirror cache blocks --json")]
    Blocks {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Write zips, release lists, digests and sources of names into one file, for a mirror without internet
    #[command(after_help = BUNDLE_EXPORT_HELP)]
    Export {
        /// The file to write
        file: PathBuf,
        /// The zips to export [default: all]
        #[arg(value_parser = parse_pattern)]
        pattern: Option<String>,
        /// Also export what only the shared bucket has; see below for what it costs
        #[arg(long)]
        shared: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Import what another mirror has exported; every byte is checked before anything changes
    #[command(after_help = BUNDLE_IMPORT_HELP)]
    Import {
        /// The file to read
        file: PathBuf,
        /// Replace pins where the bundle has other content; asks before it does
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        confirm: ConfirmArgs,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Write the stored zips to a lock file: package, version, SHA-256, commit, first seen; not those of moving versions
    #[command(after_help = "Example: srm-mirror cache lock 'devsapp/*' && srm-mirror warm --locked srm-mirror.lock")]
    Lock {
        /// The zips to lock [default: all]
        #[arg(value_parser = parse_pattern)]
        pattern: Option<String>,
        /// The file to write
        #[arg(long, value_name = "FILE", default_value = "srm-mirror.lock")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
}

/// Flags of commands that cannot be undone.
#[derive(Debug, Args)]
struct ConfirmArgs {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CacheAction {
    /// The flags of a command that needs an existing cache directory; `import` creates one.
    fn existing_cache(&self) -> Option<&AdminArgs> {
        match self {
            // Other nodes have their own.
            Self::Ls { fleet: FleetArgs { fleet: true }, .. }
            | Self::Stats { fleet: FleetArgs { fleet: true }, .. }
            | Self::Verify { fleet: FleetArgs { fleet: true }, .. } => None,
            Self::Ls { cache, .. }
            | Self::Stats { cache, .. }
            | Self::Verify { cache, .. }
            | Self::Rm { cache, .. }
            | Self::Gc { cache, .. }
            | Self::Keep { cache, .. }
            | Self::Unkeep { cache, .. }
            | Self::Block { cache, .. }
            | Self::Unblock { cache, .. }
            | Self::Blocks { cache, .. }
            | Self::Export { cache, .. }
            | Self::Lock { cache, .. } => Some(cache),
            Self::Import { .. } => None,
        }
    }
}

/// Refuses an empty argument: it may be an unset variable.
fn parse_pattern(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("it is empty, perhaps an unset variable; write '*' for everything");
    }
    Ok(text.to_owned())
}

/// Refuses a directory that does not exist: a typing error in its name must not create an empty cache.
pub(super) fn ensure_cache_dir_exists(cache: &AdminArgs) -> anyhow::Result<()> {
    if cache.server.is_some() {
        return Ok(());
    }
    let dir = cache.load()?.config.disk.dir;
    match dir.filter(|dir| !dir.exists()) {
        Some(dir) => {
            let why = format!(
                "there is no cache directory at {}; --cache-dir or disk.dir names it, serve and warm create one",
                dir.display()
            );
            Err(io::Error::new(io::ErrorKind::NotFound, why).into())
        }
        None => Ok(()),
    }
}

impl CacheCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        self.action.existing_cache().map_or(Ok(()), ensure_cache_dir_exists)?;
        match self.action {
            CacheAction::Ls { pattern, sort, limit, json, fleet, cache } => {
                fleet.run(&cache, json, |mirror| ls::run(mirror, pattern.clone(), sort, limit, json))
            }
            CacheAction::Stats { json, fleet, cache } => fleet.run(&cache, json, |mirror| stats::run(mirror, json)),
            CacheAction::Verify { pattern, no_fetch, json, fleet, cache } => {
                fleet.run(&cache, json, |mirror| verify::run(mirror, pattern.clone(), no_fetch, json))
            }
            CacheAction::Rm { pattern, forget, confirm, cache } => removal::rm(&cache, pattern, forget, &confirm),
            CacheAction::Gc { unused, confirm, cache } => removal::gc(&cache, unused, &confirm),
            CacheAction::Keep { pattern, dry_run, json, cache } => {
                keep::run(&cache, pattern, KeepMark::Set, dry_run, json)
            }
            CacheAction::Unkeep { pattern, dry_run, json, cache } => {
                keep::run(&cache, pattern, KeepMark::Removed, dry_run, json)
            }
            CacheAction::Block { pattern, reason, json, cache } => block::set(&cache, pattern, reason, json),
            CacheAction::Unblock { pattern, json, cache } => block::remove(&cache, pattern, json),
            CacheAction::Blocks { json, cache } => block::list(&cache, json),
            CacheAction::Export { file, pattern, shared, json, cache } => {
                export::run(&cache, &file, ExportArchives { pattern, shared }, json)
            }
            CacheAction::Import { file, force, confirm, cache } => import::run(&cache, &file, force, &confirm),
            CacheAction::Lock { pattern, file, json, cache } => lock::run(&cache, pattern, &file, json),
        }
    }
}

/// Asks for confirmation at the terminal; true for yes.
///
/// # Errors
/// [`UsageError`] where standard input is no terminal.
fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let why = "standard input is no terminal to confirm at; --yes does it without, --dry-run only shows what would \
                   be done";
        return Err(UsageError(why.into()).into());
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
