//! Lists of package specs in files: one per line; `#` at the start of a line or after white space begins a comment.

use std::{
    io::{self, Read as _},
    path::Path,
};

use super::package_spec::{PackageSpec, PackageSpecError};
use crate::value::ByteSize;

/// Largest list, bytes.
const MAX_LIST_FILE_BYTES: u64 = 16 << 20;

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackageListError {
    /// It cannot be read.
    #[error("--file {name}: {source}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A line of it is no package spec.
    #[error("--file {name}, line {line}: {reason}")]
    Line {
        /// The file.
        name: String,
        /// Counted from 1.
        line: usize,
        /// Why.
        reason: PackageSpecError,
    },
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// The file, the line and the reason.
pub(super) fn read(file: &Path) -> Result<Vec<PackageSpec>, PackageListError> {
    let name = file.display().to_string();
    let read = if name == "-" {
        read_to_limit(io::stdin().lock(), MAX_LIST_FILE_BYTES)
    } else {
        std::fs::File::open(file).and_then(|file| read_to_limit(file, MAX_LIST_FILE_BYTES))
    };
    match read {
        Ok(text) => parse(&name, &text),
        Err(source) => Err(PackageListError::Unreadable { name, source }),
    }
}

/// Reads a text to its end.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is longer than `limit` bytes.
pub(super) fn read_to_limit(from: impl io::Read, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    from.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {}", ByteSize(limit))));
    }
    Ok(text)
}

fn parse(name: &str, text: &str) -> Result<Vec<PackageSpec>, PackageListError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(uncommented).enumerate().filter(|(_, line)| !line.is_empty());
    let spec = |(at, line): (usize, &str)| {
        let spec = line.parse::<PackageSpec>();
        spec.map_err(|reason| PackageListError::Line { name: name.to_owned(), line: at + 1, reason })
    };
    lines.map(spec).collect()
}

/// A line without its comment.
fn uncommented(line: &str) -> &str {
    let comment = line.char_indices().find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
    line[..comment.map_or(line.len(), |(at, _)| at)].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_no_package_specs() {
        let text = "\u{feff}# the Monday list\n\ndevsapp/fc3   # newest\r\n  fc@^0.1 \n#x\na/b@v1#2\n";
        let specs = parse("list", text).expect("good");
        let read: Vec<_> = specs
            .iter()
            .map(|spec| (spec.package.as_str(), spec.versions.as_ref().map(|versions| versions.text.as_str())))
            .collect();
        assert_eq!(read, [("devsapp/fc3", None), ("fc", Some("^0.1")), ("a/b", Some("v1#2"))]);
    }

    #[test]
    fn a_list_above_the_limit_is_refused() {
        assert_eq!(read_to_limit(&b"a/b\n"[..], 4).expect("fits"), "a/b\n");
        let why = read_to_limit(&b"a/b\nc"[..], 4).expect_err("one byte more").to_string();
        assert_eq!(why, "it is larger than 4B");
    }

    #[test]
    fn an_error_names_the_line() {
        let why = parse("list", "devsapp/fc3\n\na b\n").expect_err("wrong").to_string();
        assert!(why.contains("list, line 3") && why.contains("a b"), "{why}");
    }
}
