//! `srm-mirror warm`: fills the mirror before anybody asks.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use jiff::Timestamp;

use super::{
    CacheArgs, FAILED, SIGNAL, UNAVAILABLE,
    admin_client::{self, AdminClient},
    serve::Signals,
};
use crate::value::{BaseUrl, Period};

mod client;
mod list;
mod locked;
mod package_spec;
mod project;
mod quota_gate;
mod reporter;
mod select;
mod warmer;

use client::MirrorClient;
use package_spec::PackageSpec;
use project::Found;
use reporter::Reporter;
use select::{Exclude, Limits};
use warmer::{Options, Outcome, Warmer};

const HELP: &str = "\
Packages are written PACKAGE[@VERSIONS]. PACKAGE is owner/repo, upstream:owner/repo, or a name that the mirror knows.
VERSIONS is, in this order: an exact tag (v1.2.3 and 1.2.3 are the same), \"all\" or \"latest\", a range with an operator
(^1.2  ~1.2.3  \">=1, <2\"  1.*), or else a tag without a release, a branch or a commit. Without VERSIONS it is the
newest, or the --latest N newest.

Examples:
  srm-mirror warm devsapp/fc3 devsapp/fc@0.1.35 'devsapp/s3@^1.2'
  srm-mirror warm --latest 3 --min-age 3d --file packages.txt
  srm-mirror warm --project . --server http://mirror.example.com:8080
  srm-mirror warm devsapp/fc3@all --exclude '@*-beta*' --dry-run

Exit codes: 0 everything is there, 1 something is not (each is named with its reason), 64 bad input, 69 an upstream or
the mirror cannot be reached, 130 interrupted (run the same again to continue).";

/// Fetch packages into the mirror before anybody asks for them
#[derive(Debug, Args)]
#[command(after_help = HELP, group = ArgGroup::new("source").args(["wishes", "file", "project", "locked"]).multiple(true).required(true))]
pub(super) struct Warm {
    /// Packages, such as devsapp/fc3, fc3@1.2.3, "devsapp/fc3@^1.2", devsapp/fc3@all, gitee:owner/repo
    #[arg(value_name = "PACKAGE[@VERSIONS]")]
    wishes: Vec<String>,
    /// Lists of packages, one a line, # begins a comment; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Projects: a s.yaml, or a folder with some; every component and plugin in them is fetched
    #[arg(long, value_name = "DIR|FILE")]
    project: Vec<PathBuf>,
    /// Exactly the packages of a lock file that "cache lock" wrote; any difference is a failure
    #[arg(long, value_name = "FILE", conflicts_with_all = ["wishes", "file", "project", "latest", "exclude", "min_age"])]
    locked: Option<PathBuf>,
    /// How many of the newest versions where none is named, and at most where a range or "all" is
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    latest: Option<u32>,
    /// Leave out PACKAGE, PACKAGE@VERSION or @VERSION, with * and ?
    #[arg(long, value_name = "PATTERN", value_parser = Exclude::parse)]
    exclude: Vec<Exclude>,
    /// Leave out what was published later than this ago, such as 3d
    #[arg(long, value_name = "PERIOD")]
    min_age: Option<Period>,
    /// How many at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Longest single wait for an upstream that limits requests
    #[arg(long, value_name = "PERIOD", default_value = "61m")]
    max_wait: Period,
    /// Only say what would be fetched, and how large it is where that is known
    #[arg(long)]
    dry_run: bool,
    /// Fill a running mirror by its address instead of the cache directory
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "cache_dir"])]
    server: Option<BaseUrl>,
    /// Print one JSON value a line for each thing that happens, and a summary
    #[arg(long)]
    json: bool,
    /// Print nothing but what failed
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Configuration file [else the one that SRM_MIRROR_CONFIG names, else none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the cache is [default: srm-mirror in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<String>,
}

impl Warm {
    pub(super) fn run(mut self) -> anyhow::Result<u8> {
        let show = Reporter::new(self.json, self.quiet);
        let wishes = self.wishes(&show)?;
        let options = Options {
            limits: Limits {
                latest: self.latest.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
                exclude: std::mem::take(&mut self.exclude),
                not_after: self.min_age.map(|age| Timestamp::now().checked_sub(age.0).unwrap_or(Timestamp::MIN)),
            },
            jobs: self.jobs.into(),
            longest_wait: self.max_wait.0,
            dry: self.dry_run,
        };
        if let Some(server) = &self.server {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
            let session = AdminClient::server(server.as_str())?;
            return runtime.block_on(fill(&session, false, wishes, &show, &options));
        }
        let place = CacheArgs { config: self.config, cache_dir: self.cache_dir, ..CacheArgs::default() };
        admin_client::run(place.load()?, async |session| fill(session, true, wishes, &show, &options).await)
    }

    /// Everything that is wished for.
    fn wishes(&self, show: &Reporter) -> anyhow::Result<PackageSpecs> {
        let mut wishes = self.wishes.iter().map(|text| text.parse()).collect::<Result<Vec<PackageSpec>, _>>()?;
        for file in &self.file {
            wishes.extend(list::read(file)?);
        }
        if let Some(file) = &self.locked {
            wishes.extend(locked::read(file)?);
        }
        let mut found = Found::default();
        for project in &self.project {
            project::read(project, &mut found)?;
        }
        for (file, text, why) in &found.skipped {
            show.skip(&format!("\"{text}\" in {}", file.display()), why);
        }
        let unread = found.failed.iter().map(|(file, why)| (file.display().to_string(), why.clone())).collect();
        wishes.extend(found.wishes.into_iter().map(|(wish, _)| wish));
        Ok(PackageSpecs { wishes, unread })
    }
}

/// What is wished for, and the project files that may wish for more but cannot be read.
struct PackageSpecs {
    wishes: Vec<PackageSpec>,
    unread: Vec<(String, String)>,
}

async fn fill(
    session: &AdminClient,
    control: bool,
    wishes: PackageSpecs,
    show: &Reporter,
    options: &Options,
) -> anyhow::Result<u8> {
    let mut signals = Signals::new().context("listen for signals")?;
    for (file, why) in &wishes.unread {
        show.fail(file, why);
    }
    let work = Warmer::new(MirrorClient::by(session, control), show, options);
    let outcome = tokio::select! {
        outcome = work.run(wishes.wishes) => outcome,
        number = signals.next() => {
            show.summary(true, options.dry);
            return Ok(SIGNAL + number);
        }
    };
    show.summary(false, options.dry);
    Ok(match outcome {
        Outcome::Complete if wishes.unread.is_empty() => 0,
        Outcome::Unreachable if wishes.unread.is_empty() => UNAVAILABLE,
        _ => FAILED,
    })
}

/// The error that the command line, or a file that it names, is wrong.
pub(super) fn is_usage(why: &(dyn std::error::Error + 'static)) -> bool {
    why.is::<package_spec::PackageSpecError>()
        || why.is::<list::PackageListError>()
        || why.is::<locked::LockFileError>()
        || why.is::<project::ProjectFileError>()
}
