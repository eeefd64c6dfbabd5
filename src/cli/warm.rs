//! `srm-mirror warm`: stores packages in a mirror before its clients ask for them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use jiff::Timestamp;

use super::{
    CacheArgs, FAILED, SIGNAL, UNAVAILABLE, admin_client, mirror_token::MirrorToken, mirror_url, serve::Signals,
};
use crate::{
    config::{Config, Environment},
    value::{BaseUrl, Period},
};

mod client;
mod locked_specs;
mod package_list;
mod package_spec;
mod project;
mod quota_gate;
mod reporter;
mod requirements;
mod select;
mod warmer;

use client::{ControlClient, MirrorClient, WarmTarget};
use package_spec::PackageSpec;
use project::ProjectPackages;
use reporter::{Reporter, WarmEnd};
use requirements::Requirements;
use select::{Exclude, VersionLimits};
use warmer::{WarmOptions, WarmOutcome, Warmer};

const WARM_HELP: &str = "\
A package spec is written PACKAGE[@VERSIONS]. PACKAGE is a plain name (fc3), owner/repo, either with its upstream in front
(official:fc3, gitee:owner/repo), or an alias; `srm-mirror route PACKAGE` says where it comes from. VERSIONS is, in this
order: an exact tag (v1.2.3 and 1.2.3 are the same), \"all\" or \"latest\", a range with an operator (^1.2  ~1.2.3
\">=1, <2\"  1.*), or else a tag without a release, a moving version (dev), a branch or a commit. Without VERSIONS it is the
newest, or the --latest N newest.

Examples:
  srm-mirror warm fc3 official:fc3@dev devsapp/fc@0.1.35 'devsapp/s3@^1.2'
  srm-mirror warm agentrun --with-required
  srm-mirror warm --latest 3 --min-age 3d --file packages.txt
  srm-mirror warm --project . --server http://mirror.example.com:8080
  srm-mirror warm fc3 --server https://mirror.example.com --token-file ./token
  srm-mirror warm devsapp/fc3@all --exclude '@*-beta*' --dry-run

Exit codes: 0 everything is stored, 1 something is not (each is named with its reason), 64 bad input, 69 an upstream or
the mirror cannot be reached, 130 interrupted (run the same again to continue).";

/// Store packages in the mirror before clients ask for them
#[derive(Debug, Args)]
#[command(after_help = WARM_HELP, group = ArgGroup::new("source").args(["specs", "file", "project", "locked"]).multiple(true).required(true))]
pub(super) struct WarmCommand {
    /// Package specs, such as fc3, fc3@1.2.3, official:fc3@dev, "devsapp/fc3@^1.2", devsapp/fc3@all, gitee:owner/repo
    #[arg(value_name = "PACKAGE[@VERSIONS]")]
    specs: Vec<String>,
    /// Lists of package specs, one per line, # begins a comment; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Projects: a s.yaml, or a folder with some; every component and plugin in them is fetched
    #[arg(long, value_name = "DIR|FILE")]
    project: Vec<PathBuf>,
    /// Exactly the packages of a lock file that "cache lock" wrote; any difference is a failure
    #[arg(long, value_name = "FILE", conflicts_with_all = ["specs", "file", "project", "latest", "exclude", "min_age"])]
    locked: Option<PathBuf>,
    /// The number of newest versions where none is named, and the most versions of a range or "all"
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    latest: Option<u32>,
    /// Leave out PACKAGE, PACKAGE@VERSION or @VERSION, with * and ? as wildcards
    #[arg(long, value_name = "PATTERN", value_parser = Exclude::parse)]
    exclude: Vec<Exclude>,
    /// Leave out versions that were published less than this ago, such as 3d
    #[arg(long, value_name = "PERIOD")]
    min_age: Option<Period>,
    /// Also the newest version of each package that these load by name at run time, by the table `required` of the
    /// configuration; with --server by the default table
    #[arg(long, conflicts_with = "locked")]
    with_required: bool,
    /// The most downloads at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Longest single wait for an upstream that limits requests
    #[arg(long, value_name = "PERIOD", default_value = "61m")]
    max_wait: Period,
    /// Only show what would be fetched, and its size where that is known
    #[arg(long)]
    dry_run: bool,
    /// Fill a running mirror by its address instead of the cache directory
    #[arg(long, value_name = "URL", value_parser = mirror_url::parse, conflicts_with_all = ["config", "cache_dir"])]
    server: Option<BaseUrl>,
    /// With --server: file with the token that the mirror wants [else the variable SRM_MIRROR_TOKEN, else none]
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// Print one JSON value per line for each event, and a summary
    #[arg(long)]
    json: bool,
    /// Print nothing but failures
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Configuration file [else the one that SRM_MIRROR_CONFIG names, else none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cache directory [default: srm-mirror in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<String>,
}

impl WarmCommand {
    pub(super) fn run(mut self) -> anyhow::Result<u8> {
        let reporter = Reporter::new(self.json, self.quiet);
        let specs = self.package_specs(&reporter)?;
        let options = WarmOptions {
            limits: VersionLimits {
                latest: self.latest.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
                exclude: std::mem::take(&mut self.exclude),
                not_after: self.min_age.map(|age| Timestamp::now().checked_sub(age.0).unwrap_or(Timestamp::MIN)),
            },
            jobs: self.jobs.into(),
            max_wait: self.max_wait.0,
            dry_run: self.dry_run,
            required: None,
        };
        if let Some(server) = &self.server {
            let options = WarmOptions { required: self.required(&Config::default()), ..options };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
            let token = MirrorToken::load(self.token_file.as_deref(), &Environment::of_process())?;
            let target = MirrorClient::new(server, token)?;
            return runtime.block_on(warm(target, specs, &reporter, &options));
        }
        let cache =
            CacheArgs { config: self.config.clone(), cache_dir: self.cache_dir.clone(), ..CacheArgs::default() };
        let loaded = cache.load()?;
        let options = WarmOptions { required: self.required(&loaded.config), ..options };
        admin_client::run(loaded, async |client| warm(ControlClient::new(client), specs, &reporter, &options).await)
    }

    /// The packages that others need; `None` without `--with-required`.
    fn required(&self, config: &Config) -> Option<Requirements> {
        self.with_required.then(|| Requirements::new(config))
    }

    /// Collects the specs of the command line and of all files.
    fn package_specs(&self, reporter: &Reporter) -> anyhow::Result<PackageSpecs> {
        let mut specs = self.specs.iter().map(|text| text.parse()).collect::<Result<Vec<PackageSpec>, _>>()?;
        for file in &self.file {
            specs.extend(package_list::read(file)?);
        }
        if let Some(file) = &self.locked {
            specs.extend(locked_specs::read(file)?);
        }
        let mut packages = ProjectPackages::default();
        for project in &self.project {
            project::read(project, &mut packages)?;
        }
        for skipped in &packages.skipped {
            let what = format!("\"{}\" in {}", skipped.text, skipped.file.display());
            reporter.skipped(&what, skipped.reason);
        }
        specs.extend(packages.specs);
        let unreadable = packages.unreadable.iter();
        let unreadable = unreadable.map(|file| (file.path.display().to_string(), file.error.to_string())).collect();
        Ok(PackageSpecs { specs, unreadable })
    }
}

/// The package specs, and the project files that may have more of them but cannot be read: name and reason.
struct PackageSpecs {
    specs: Vec<PackageSpec>,
    unreadable: Vec<(String, String)>,
}

async fn warm(
    target: impl WarmTarget,
    specs: PackageSpecs,
    reporter: &Reporter,
    options: &WarmOptions,
) -> anyhow::Result<u8> {
    let mut signals = Signals::new().context("listen for signals")?;
    for (file, why) in &specs.unreadable {
        reporter.failed(file, why);
    }
    let warmer = Warmer::new(target, reporter, options);
    let outcome = tokio::select! {
        outcome = warmer.run(specs.specs) => outcome,
        number = signals.next() => {
            reporter.summary(WarmEnd::Interrupted, options.dry_run);
            return Ok(SIGNAL + number);
        }
    };
    reporter.summary(WarmEnd::Whole, options.dry_run);
    Ok(match outcome {
        WarmOutcome::Complete if specs.unreadable.is_empty() => 0,
        WarmOutcome::Unreachable if specs.unreadable.is_empty() => UNAVAILABLE,
        _ => FAILED,
    })
}

/// True for an error of the command line, or of a file that it names.
pub(super) fn is_usage(why: &(dyn std::error::Error + 'static)) -> bool {
    why.is::<package_spec::PackageSpecError>()
        || why.is::<package_list::PackageListError>()
        || why.is::<locked_specs::LockFileError>()
        || why.is::<project::ProjectFileError>()
}
