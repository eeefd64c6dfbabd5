//! Stored zips as a table for a person.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::{
    admin_api::{ArchiveRow, RefKind},
    cli::escape_terminal,
    value::text::size,
};

/// The time since `then` in its largest unit.
fn since(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The names of the columns.
const COLUMNS: [&str; 9] = ["PACKAGE", "VERSION", "SIZE", "SHA256", "AGE", "USED", "HITS", "PINNED", "KEPT"];
/// The columns of numbers.
const RIGHT_ALIGNED: [usize; 2] = [2, 6];

/// One line per zip under a header; no header without zips. Holds the text of the cells until the widths are known.
pub(super) struct Table {
    /// Cells are separated by tabs, rows end with an end of line.
    text: String,
    widths: [usize; COLUMNS.len()],
    now: Timestamp,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { text: String::new(), widths: [0; COLUMNS.len()], now: Timestamp::now() }
    }

    /// Adds a zip.
    pub(super) fn add(&mut self, archive: &ArchiveRow) {
        if self.text.is_empty() {
            self.row(COLUMNS);
        }
        let package = match &*archive.upstream {
            "github" => archive.package.clone(),
            upstream => format!("{upstream}:{}", archive.package),
        };
        let short = |text| str::get(text, ..12).unwrap_or(text).to_owned();
        let version = match archive.kind {
            RefKind::Tag => archive.version.clone(),
            RefKind::Commit => short(&archive.version),
            RefKind::Moving => format!("{} (moving)", archive.version),
        };
        let mark = |marked, name| if marked { name } else { "" };
        let age = since(archive.stored_at, self.now);
        let used = since(archive.used_at, self.now);
        let digest = short(&archive.sha256.to_string());
        let size = size(archive.size);
        let hits = archive.hits.to_string();
        let pinned = mark(archive.pinned, "pinned");
        let kept = mark(archive.kept, "kept");
        self.row([&package, &version, &size, &digest, &age, &used, &hits, pinned, kept]);
    }

    fn row(&mut self, cells: [&str; COLUMNS.len()]) {
        // Escapes tabs and ends of line too: they would begin another cell or row.
        let cells = cells.map(escape_terminal);
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.text += &cells.join("\t");
        self.text.push('\n');
    }

    /// Passes each line to `line`, padded, with its end of line.
    pub(super) fn write(&self, mut line: impl FnMut(&str)) {
        for row in self.text.lines() {
            let mut out = String::new();
            for (column, (cell, width)) in row.split('\t').zip(self.widths).enumerate() {
                let right = RIGHT_ALIGNED.contains(&column);
                let _ = if right { write!(out, "{cell:>width$}  ") } else { write!(out, "{cell:width$}  ") };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
            line(&out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Digest, Key};

    fn zips(archives: &[ArchiveRow]) -> String {
        let mut table = Table::new();
        let mut out = String::new();
        archives.iter().for_each(|archive| table.add(archive));
        table.write(|line| out += line);
        out
    }

    fn archive(upstream: &str, package: &str, version: &str, size: u64) -> ArchiveRow {
        let at = |text: &str| text.parse().expect("a time");
        ArchiveRow {
            key: Key::new("a key"),
            upstream: upstream.into(),
            package: package.into(),
            kind: RefKind::Tag,
            version: version.into(),
            size,
            sha256: Digest([0xab; 32]),
            stored_at: at("2024-05-01T00:00:00Z"),
            used_at: at("2024-05-03T11:00:00Z"),
            hits: size * 7,
            served: 0,
            kept: size > 9,
            pinned: true,
            commit: None,
            findings: None,
        }
    }

    fn shown(archives: &[ArchiveRow]) -> String {
        let mut table = Table { now: "2024-05-03T12:30:00Z".parse().expect("a time"), ..Table::new() };
        let mut out = String::new();
        archives.iter().for_each(|archive| table.add(archive));
        table.write(|line| out += line);
        out
    }

    #[test]
    fn a_table_lines_up_and_names_an_upstream_that_is_not_github() {
        let commit = ArchiveRow { kind: RefKind::Commit, ..archive("github", "a/b", &"c".repeat(40), 4) };
        assert_eq!(
            shown(&[archive("github", "a/b", "v1", 3), archive("gitee", "a/b", "v1", 1 << 20), commit]),
            "PACKAGE    VERSION          SIZE  SHA256        AGE  USED     HITS  PINNED  KEPT\n\
             a/b        v1                3 B  abababababab  2d   1h         21  pinned\n\
             gitee:a/b  v1            1.0 MiB  abababababab  2d   1h    7340032  pinned  kept\n\
             a/b        cccccccccccc      4 B  abababababab  2d   1h         28  pinned\n"
        );
        assert_eq!(zips(&[]), "");
    }

    #[test]
    fn a_cell_neither_steers_the_terminal_nor_makes_another_cell_or_row() {
        let text = shown(&[archive("github", "a/b\tc", "\u{1b}[2J\nv1", 1)]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("a/b\\tc") && text.contains("\\u{1b}[2J\\nv1"), "{text}");
    }
}
