//! What is stored, as a table for a person.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

/// A size in the largest unit that leaves a digit before the point.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The time since `then` in its largest unit.
fn since(then: &Value, now: Timestamp) -> String {
    let then = then.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(then) = then else { return "-".into() };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// One line per zip under a header; nothing for none.
pub(super) fn items(items: &[Value]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let now = Timestamp::now();
    let text = |item: &Value, name: &str| item[name].as_str().unwrap_or("-").to_owned();
    let head = ["PACKAGE", "VERSION", "SIZE", "SHA256", "AGE", "USED", "KEPT"].map(str::to_owned);
    let rows = items.iter().map(|item| {
        let package = match item["upstream"].as_str() {
            Some("github") | None => text(item, "package"),
            Some(upstream) => format!("{upstream}:{}", text(item, "package")),
        };
        let (digest, version) = (text(item, "sha256"), text(item, "version"));
        let version = if item["kind"] == "commit" { version.chars().take(12).collect() } else { version };
        let kept = if item["kept"] == true { "kept" } else { "" };
        let (age, used) = (since(&item["stored_at"], now), since(&item["used_at"], now));
        let digest = digest.chars().take(12).collect();
        [package, version, size(item["size"].as_u64().unwrap_or(0)), digest, age, used, kept.to_owned()]
    });
    columns(std::iter::once(head).chain(rows).collect())
}

/// Lines up columns; the third is aligned to the right.
fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = if at == 2 { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:width$}  ") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// What takes the space.
pub(super) fn stats(stats: &Value) -> String {
    let mut out = String::new();
    let bytes = |value: &Value| size(value.as_u64().unwrap_or(0));
    for tier in ["disk", "memory"] {
        let at = &stats[tier];
        let _ = writeln!(out, "{tier:8}{} of {}, {} objects", bytes(&at["bytes"]), bytes(&at["limit"]), at["objects"]);
    }
    let disk = &stats["disk"];
    let parts = ["zips", "documents", "quarantine"].map(|part| format!("{part} {}", bytes(&disk[part])));
    let _ = writeln!(out, "        {}", parts.join(", "));
    for (name, sum) in stats["upstreams"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "{name:8}{} in {} zips", bytes(&sum["bytes"]), sum["zips"]);
    }
    let _ = writeln!(out, "{} packages; the largest:", stats["packages"]);
    for top in stats["top"].as_array().into_iter().flatten() {
        let name = format!("{}:{}", text(&top["upstream"]), text(&top["package"]));
        let _ = writeln!(out, "  {:>10}  {name} ({} zips)", bytes(&top["bytes"]), top["zips"]);
    }
    out
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
            json!({"upstream": upstream, "package": "a/b", "kind": "tag", "version": "v1", "size": size,
                "sha256": "00112233445566", "stored_at": "nonsense", "used_at": null, "kept": size > 9})
        };
        assert_eq!(
            items(&[item("github", 3), item("gitee", 1 << 20)]),
            "PACKAGE    VERSION     SIZE  SHA256        AGE  USED  KEPT\n\
             a/b        v1           3 B  001122334455  -    -\n\
             gitee:a/b  v1       1.0 MiB  001122334455  -    -     kept\n"
        );
        assert_eq!(items(&[]), "");
    }
}
