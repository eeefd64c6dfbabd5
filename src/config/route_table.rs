//! Says where names without an upstream come from: the table of `config show`, and the line that `serve` prints.

use std::fmt::Write as _;

use super::Config;
use crate::{
    dialect::{EffectiveRoute, Names, RouteRule},
    package::DialectName,
};

/// The effective routes as comment lines.
pub(super) fn commented(config: &Config, names: &Names) -> String {
    let rows = names.effective_routes();
    let cells: Vec<[String; 4]> = rows.iter().map(|row| cells(config, row)).collect();
    let header = ["packages", "dialect", "upstreams", "set by"].map(str::to_owned);
    let mut text =
        "# Where names without an upstream come from, after aliases and recorded sources. The first row that \
                    matches decides.\n"
            .to_owned();
    let all = || std::iter::once(&header).chain(&cells);
    let width = |column: usize| all().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    for [packages, dialect, upstreams, rule] in all() {
        let [first, second, third] = widths;
        let _ = writeln!(text, "#   {packages:first$}  {dialect:second$}  {upstreams:third$}  {rule}");
    }
    text
}

fn cells(config: &Config, row: &EffectiveRoute) -> [String; 4] {
    let packages = match (row.rule, row.packages.as_str()) {
        (RouteRule::Configured, packages) => packages.to_owned(),
        (_, "*") => "plain names".to_owned(),
        (_, packages) => packages.to_owned(),
    };
    let rule = match row.rule {
        RouteRule::Configured => "routes".to_owned(),
        RouteRule::DefaultOwner => {
            format!("names.default_owner = \"{}\"", config.names.default_owner.as_deref().unwrap_or_default())
        }
        RouteRule::DefaultUpstream => "names.default_upstream".to_owned(),
        RouteRule::Default | RouteRule::NoRoute => "names.official".to_owned(),
    };
    let dialect = row.dialect.map_or("all", DialectName::as_str);
    [packages, dialect.to_owned(), in_order(&row.upstreams), rule]
}

/// One sentence: where plain names come from.
pub fn plain_names(config: &Config, names: &Names) -> String {
    let rows = names.effective_routes();
    let tables = rows.iter().filter(|row| row.rule == RouteRule::Configured && !row.packages.contains('/')).count();
    let tables = match tables {
        0 => String::new(),
        1 => "by one table of routes, else ".to_owned(),
        count => format!("by {count} tables of routes, else "),
    };
    format!("plain names: {tables}{}", otherwise(config, &rows))
}

/// Where plain names come from that no `[[routes]]` table matches.
fn otherwise(config: &Config, rows: &[EffectiveRoute]) -> String {
    if let Some(owner) = &config.names.default_owner {
        return format!("owner {owner} on {}", config.names.default_upstream);
    }
    let defaults = rows.iter().filter(|row| row.rule == RouteRule::Default && row.packages == "*");
    let of_dialect =
        |row: &EffectiveRoute| Some(format!("{} from {}", row.dialect?.as_str(), in_order(&row.upstreams)));
    let dialects: Vec<String> = defaults.filter_map(of_dialect).collect();
    if !dialects.is_empty() {
        return dialects.join("; ");
    }
    let reason = match config.names.official {
        Some(false) => "names.official is off",
        Some(true) => "no upstream is called official or official-2x",
        None => "packages.allow is set; names.official = true asks the official registry for them",
    };
    format!("none ({reason})")
}

fn in_order(upstreams: &[String]) -> String {
    if upstreams.is_empty() { "none".to_owned() } else { upstreams.join(", then ") }
}
