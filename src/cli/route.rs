//! `srm-mirror route`: says where a name comes from, and changes its recorded source.

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValue};

use super::{admin_args::AdminArgs, admin_client, cache::ensure_cache_dir_exists, escape_terminal_lines, print};
use crate::{
    admin_api::{DialectRoute, DialectSource, PackageStock, RouteReport, SetRoute, ShowRoute, SourceRule},
    package::DialectName,
};

const ROUTE_HELP: &str = "\
Examples:
  srm-mirror route fc3
  srm-mirror route devsapp/fc3 --json
  srm-mirror route set fc3 official --dialect v3

A name without an upstream comes from, in this order: an alias; this mirror, where it is published here or reserved by
[host]; its recorded source, which is the upstream that it was first served from in the dialect; the first table of
routes that matches; names.default_owner; the default routes to the official registry (names.official); for owner/repo,
names.default_upstream. `srm-mirror config show` prints the routes.

The command works while the mirror runs, through control.sock in its cache directory, and without it. No upstream is
asked.";

const SET_HELP: &str = "\
Example: srm-mirror route set fc3 official-2x --dialect simple

With [shared], the source is set on all mirrors of the bucket; exit code 1, and nothing is changed, while it cannot be used.

Exit code 64, and nothing is changed, when the upstream is unknown or cannot be the source of the name.";

/// Show where a name comes from, or set it
#[derive(Debug, Args)]
#[command(after_help = ROUTE_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct RouteCommand {
    #[command(subcommand)]
    action: Option<RouteAction>,
    /// A plain name, owner/repo, upstream:name or an alias
    #[arg(value_name = "NAME", required = true)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: AdminArgs,
}

#[derive(Debug, Subcommand)]
enum RouteAction {
    /// Set the upstream that a name comes from
    #[command(after_help = SET_HELP)]
    Set {
        /// A plain name or owner/repo
        name: String,
        /// The name of an upstream
        upstream: String,
        /// The dialect [default: every dialect]
        #[arg(long, value_enum)]
        dialect: Option<DialectName>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
}

impl ValueEnum for DialectName {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl RouteCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            Some(RouteAction::Set { name, upstream, dialect, json, cache }) => {
                set(&cache, SetRoute { name, upstream, dialect }, json)
            }
            None => show(&self.cache, ShowRoute { name: self.name.unwrap_or_default() }, self.json),
        }
    }
}

fn show(cache: &AdminArgs, request: ShowRoute, json: bool) -> anyhow::Result<u8> {
    ensure_cache_dir_exists(cache)?;
    let report = admin_client::run_at(cache, async |client| client.call(&request).await)?;
    print(&if json { format!("{}\n", serde_json::to_string(&report)?) } else { escape_terminal_lines(&text(&report)) });
    Ok(0)
}

fn set(cache: &AdminArgs, request: SetRoute, json: bool) -> anyhow::Result<u8> {
    ensure_cache_dir_exists(cache)?;
    let report = admin_client::run_at(cache, async |client| client.call(&request).await)?;
    if json {
        print(&format!("{}\n", serde_json::to_string(&report)?));
        return Ok(0);
    }
    for DialectSource { dialect, package, previous } in report.dialects {
        let was = match previous {
            Some(previous) if previous == request.upstream => ", as before".to_owned(),
            Some(previous) => format!(", was {previous}"),
            None => String::new(),
        };
        print(&escape_terminal_lines(&format!("{} in {}: {package}{was}\n", request.name, dialect.as_str())));
    }
    Ok(0)
}

fn text(report: &RouteReport) -> String {
    let mut text = format!("{}\n", report.name);
    let asked = |route: &DialectRoute| match &route.asked[..] {
        [] => "nothing".to_owned(),
        asked => asked.join(", then "),
    };
    let width = report.dialects.iter().map(|route| asked(route).chars().count()).max().unwrap_or_default();
    for route in &report.dialects {
        text += &format!("  {:6}  {:width$}  {}\n", route.dialect.as_str(), asked(route), reason(route));
    }
    text += "stored\n";
    let width = report.packages.iter().map(|stock| stock.package.chars().count()).max().unwrap_or_default();
    for PackageStock { package, allowed, versions, documents } in &report.packages {
        let refused = if *allowed { "" } else { "; packages.allow or packages.deny refuses it" };
        text += &format!("  {package:width$}  versions {versions}, documents {documents}{refused}\n");
    }
    if report.packages.is_empty() {
        text += "  nothing\n";
    }
    text
}

/// Why these packages are asked.
fn reason(route: &DialectRoute) -> String {
    let recorded = route.recorded.as_ref().map(|recorded| format!("{} since {}", recorded.upstream, recorded.at));
    let recorded = recorded.unwrap_or_default();
    let table = route.table.map(|number| format!("table {number} of routes")).unwrap_or_default();
    match route.rule {
        SourceRule::Named => "the name says so".to_owned(),
        SourceRule::Alias if recorded.is_empty() => "names.aliases".to_owned(),
        SourceRule::Alias => format!("names.aliases, before the recorded source {recorded}"),
        SourceRule::Published => "published on this mirror; no upstream is asked".to_owned(),
        SourceRule::Reserved => "reserved for this mirror by [host]; no upstream is asked".to_owned(),
        SourceRule::Recorded => format!("recorded: {recorded}"),
        SourceRule::SourceChanged => {
            let lost =
                if table.is_empty() { "has no such names now".to_owned() } else { format!("{table} leaves out") };
            format!("refused: the recorded source {recorded}, which {lost}; set it with srm-mirror route set")
        }
        SourceRule::Configured => table,
        SourceRule::DefaultOwner => "names.default_owner".to_owned(),
        SourceRule::Default => "names.official".to_owned(),
        SourceRule::DefaultUpstream => "names.default_upstream".to_owned(),
        SourceRule::NoRoute => "no route".to_owned(),
        SourceRule::Other => "a rule that this version does not know".to_owned(),
    }
}
