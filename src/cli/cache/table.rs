//! What is stored, as a table for a person.

use std::{borrow::Cow, fmt::Write as _};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{escape_terminal, escape_terminal_lines};

/// A size in the largest unit that leaves a digit before the point.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The time since `then` in its largest unit.
fn since(then: &str, now: Timestamp) -> String {
    let Ok(then) = then.parse::<Timestamp>() else { return "-".into() };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What is shown of a zip.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Item<'a> {
    #[serde(borrow)]
    upstream: Cow<'a, str>,
    #[serde(borrow)]
    package: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    #[serde(borrow)]
    stored_at: Cow<'a, str>,
    #[serde(borrow)]
    used_at: Cow<'a, str>,
    size: u64,
    hits: u64,
    pinned: bool,
    kept: bool,
}

/// The columns of a zip.
const COLUMNS: [&str; 9] = ["PACKAGE", "VERSION", "SIZE", "SHA256", "AGE", "USED", "HITS", "PINNED", "KEPT"];
/// Columns of numbers are aligned to the right.
const RIGHT: [usize; 2] = [2, 6];

/// One line per zip under a header; nothing for none. Only what the cells show is held until the widths are known.
pub(super) struct Table {
    /// Tabs between cells, an end of line behind each row.
    text: String,
    widths: [usize; COLUMNS.len()],
    now: Timestamp,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { text: String::new(), widths: [0; COLUMNS.len()], now: Timestamp::now() }
    }

    /// Adds a zip.
    pub(super) fn add(&mut self, item: &Item<'_>) {
        if self.text.is_empty() {
            self.row(COLUMNS);
        }
        let package = match &*item.upstream {
            "github" | "" => item.package.to_string(),
            upstream => format!("{upstream}:{}", item.package),
        };
        let short = |text| str::get(text, ..12).unwrap_or(text).to_owned();
        let version = if item.kind == "commit" { short(&item.version) } else { item.version.to_string() };
        let mark = |marked, name| if marked { name } else { "" };
        let age = since(&item.stored_at, self.now);
        let used = since(&item.used_at, self.now);
        let digest = short(&item.sha256);
        let size = size(item.size);
        let hits = item.hits.to_string();
        let pinned = mark(item.pinned, "pinned");
        let kept = mark(item.kept, "kept");
        self.row([&package, &version, &size, &digest, &age, &used, &hits, pinned, kept]);
    }

    fn row(&mut self, cells: [&str; COLUMNS.len()]) {
        // A tab or an end of line in a cell would be another cell or row.
        let cells = cells.map(escape_terminal);
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.text += &cells.join("\t");
        self.text.push('\n');
    }

    /// Hands the lines over, one after the other.
    pub(super) fn write(&self, mut line: impl FnMut(&str)) {
        for row in self.text.lines() {
            let mut out = String::new();
            for (at, (cell, width)) in row.split('\t').zip(self.widths).enumerate() {
                let right = RIGHT.contains(&at);
                let _ = if right { write!(out, "{cell:>width$}  ") } else { write!(out, "{cell:width$}  ") };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
            line(&out);
        }
    }
}

/// All of a table at once.
pub(super) fn items(items: &[Value]) -> String {
    let mut table = Table::new();
    let mut out = String::new();
    items.iter().for_each(|item| table.add(&Item::deserialize(item).unwrap_or_default()));
    table.write(|line| out += line);
    out
}

/// What takes the space, and what it has answered.
pub(super) fn stats(stats: &Value) -> String {
    let mut out = String::new();
    let bytes = |value: &Value| size(value.as_u64().unwrap_or(0));
    let answered = |part: &Value| format!("{} hits, {} served", part["hits"], bytes(&part["served"]));
    for tier in ["disk", "memory"] {
        let at = &stats[tier];
        let used = bytes(&at["bytes"]);
        let limit = bytes(&at["limit"]);
        let _ = writeln!(out, "{tier:8}{used} of {limit}, {} objects; {}", at["objects"], answered(at));
    }
    let disk = &stats["disk"];
    let parts = ["zips", "documents", "quarantine"].map(|part| format!("{part} {}", bytes(&disk[part])));
    let _ = writeln!(out, "        {}", parts.join(", "));
    for (name, sum) in stats["upstreams"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "{name:8}{} in {} zips; {}", bytes(&sum["bytes"]), sum["zips"], answered(sum));
    }
    for (list, what) in [("top", "largest"), ("busiest", "most used")] {
        let list = stats[list].as_array().map(Vec::as_slice).unwrap_or_default();
        if !list.is_empty() {
            let _ = writeln!(out, "the {what} of {} packages:", stats["packages"]);
        }
        for top in list {
            let name = format!("{}:{}", text(&top["upstream"]), text(&top["package"]));
            let zips = format!("{} zips; {}", top["zips"], answered(top));
            let _ = writeln!(out, "  {:>10}  {name} ({zips})", bytes(&top["bytes"]));
        }
    }
    escape_terminal_lines(&out)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_lines_up_and_names_an_upstream_that_is_not_github() {
        let item = |upstream: &str, size: u64| {
            json!({"upstream": upstream, "package": "a/b", "kind": "tag", "version": "v1", "size": size, "hits": size * 7,
                "sha256": "00112233445566", "stored_at": "nonsense", "kept": size > 9, "pinned": true})
        };
        assert_eq!(
            items(&[item("github", 3), item("gitee", 1 << 20)]),
            "PACKAGE    VERSION     SIZE  SHA256        AGE  USED     HITS  PINNED  KEPT\n\
             a/b        v1           3 B  001122334455  -    -          21  pinned\n\
             gitee:a/b  v1       1.0 MiB  001122334455  -    -     7340032  pinned  kept\n"
        );
        assert_eq!(items(&[]), "");
    }

    #[test]
    fn a_cell_neither_steers_the_terminal_nor_makes_another_cell_or_row() {
        let hostile = json!({"package": "a/b\tc", "version": "\u{1b}[2J\nv1"});
        let shown = items(&[hostile]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("a/b\\tc") && shown.contains("\\u{1b}[2J\\nv1"), "{shown}");
    }
}
