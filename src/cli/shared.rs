//! `srm-mirror shared`: work on the bucket that several mirrors share.

use std::error::Error;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{CacheArgs, UsageError, admin_args::AdminArgs, cache::ensure_cache_dir_exists};
use crate::{
    app::{BucketBuildError, BucketError},
    config::Loaded,
    observe,
    value::Period,
};

mod gc;
mod push;

const GC_HELP: &str = "\
A zip that no claim names, or for a published one no record of a version, is marked first. A later run deletes it, once it
has been marked for the grace and is still not named; so run this once a day. Deleted versions name no zip. Also deleted
are probes, used nonces and reservations that are older than a day.
Without --delete, nothing is written, but a probe where shared.arbiter is owner: a service that creates an object twice
takes no --delete. A run that was interrupted can be repeated, and several may run at once. All nodes of the bucket must
be of this version or a later one: earlier ones do not know all marks.

Examples:
  srm-mirror shared gc
  srm-mirror shared gc --delete
  srm-mirror shared gc --delete --documents-older-than 90d

Exit codes: 0 done, also where there is no garbage; 1 a claim or a record cannot be read, so no zip of its kind was marked or
deleted, or a mark cannot be read, so its zip was left alone; 64 bad input; 69 the bucket cannot be used.";

const PUSH_HELP: &str = "\
For a cache directory that was filled before it had a bucket, or whose bucket was lost. Every recorded source and every
pin go to the bucket, then every zip that it does not have. Where the bucket has other content for a version, the bucket
counts: the version is named, the zip is quarantined here, and the exit code is 1. A run that was interrupted can be
repeated; a version that the bucket has costs four requests then. It works while the mirror runs, through control.sock in
its cache directory, and without it. With --server URL it works from elsewhere, where access.remote_admin is on, and is in
the audit log.

Examples:
  srm-mirror cache verify && srm-mirror shared push
  srm-mirror shared push --json

Exit codes: 0 the bucket has everything; 1 it has other content for a version, or does not take a recorded source, or
something cannot be read; 64 bad input; 69 the bucket or the mirror cannot be used; 74 the cache directory cannot be used.";

/// Work on the bucket that several mirrors share
#[derive(Debug, Args)]
#[command(after_help = "The bucket is that of the section [shared]; see docs/fleet.md.")]
pub(super) struct SharedCommand {
    #[command(subcommand)]
    action: SharedAction,
}

#[derive(Debug, Subcommand)]
enum SharedAction {
    /// Collect the garbage of the bucket: zips that no version has, and small objects that are no longer needed
    #[command(after_help = GC_HELP)]
    Gc {
        /// Mark and delete; without it, only show what would be done
        #[arg(long)]
        delete: bool,
        /// How long a zip is marked before it is deleted; at least 1h
        #[arg(long, value_name = "PERIOD", default_value = "24h")]
        grace: Period,
        /// Also delete lists, releases and branches that no upstream has confirmed for this long
        #[arg(long, value_name = "PERIOD")]
        documents_older_than: Option<Period>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: CacheArgs,
    },
    /// Upload what a cache directory has: every pin, and every zip that the bucket does not have
    #[command(after_help = PUSH_HELP)]
    Push {
        /// Print one JSON value per line, progress included
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        mirror: AdminArgs,
    },
}

impl SharedCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            SharedAction::Gc { delete, grace, documents_older_than, json, config } => {
                gc::run(&config, &gc::GcFlags { delete, grace, documents_older_than, json })
            }
            SharedAction::Push { json, mirror } => {
                ensure_cache_dir_exists(&mirror)?;
                push::run(&mirror, json)
            }
        }
    }
}

/// True for a mistake in the section `[shared]`.
pub(super) fn is_usage(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<BucketBuildError>()
}

/// True where the bucket cannot be used.
pub(super) fn is_unavailable(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<BucketError>()
}

/// The configuration, which must have a bucket.
fn load(arguments: &CacheArgs) -> anyhow::Result<Loaded> {
    let loaded = arguments.load()?;
    if loaded.config.shared.is_none() {
        return Err(UsageError("the configuration has no section [shared], so there is no bucket".into()).into());
    }
    Ok(loaded)
}

/// Runs `work` with the log of a command (warnings, unless a level is configured).
fn block_on<T>(mut loaded: Loaded, work: impl AsyncFnOnce(Loaded) -> anyhow::Result<T>) -> anyhow::Result<T> {
    if !loaded.source(&["log", "level"]).is_set() {
        loaded.config.log.level = "warn".into();
    }
    let _log = observe::init(&loaded.config.log).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(work(loaded))
}
