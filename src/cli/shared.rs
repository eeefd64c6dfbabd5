//! `srm-mirror shared`: works on the bucket that several mirrors share, without a mirror.

use std::error::Error;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{CacheArgs, UsageError};
use crate::{
    app::{BucketBuildError, BucketError},
    config::Loaded,
    observe,
    value::Period,
};

mod gc;

const GC_HELP: &str = "\
A zip that no claim names is marked first. A later run deletes it, once it has been marked for the grace and still no
claim names it; so run this once a day. Also deleted are probes, used nonces and reservations that are older than a day.
Without --delete, nothing is written. A run that was interrupted can be repeated, and several may run at once. All nodes
of the bucket must be of this version: earlier ones know no marks.

Examples:
  srm-mirror shared gc
  srm-mirror shared gc --delete
  srm-mirror shared gc --delete --documents-older-than 90d

Exit codes: 0 done, also where there is no garbage; 1 a claim cannot be read, so no zip was marked or deleted; 64 bad
input; 69 the bucket cannot be used.";

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
}

impl SharedCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            SharedAction::Gc { delete, grace, documents_older_than, json, config } => {
                gc::run(&config, &gc::GcFlags { delete, grace, documents_older_than, json })
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
