//! Lists of wishes in files: one a line, `#` begins a comment at the start of a line or behind white space.

use std::{
    io::{self, Read as _},
    path::Path,
};

use super::package_spec::PackageSpec;
use crate::value::ByteSize;

/// Largest list read.
const LIMIT: u64 = 16 << 20;

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
    /// A line of it is no wish.
    #[error("--file {name}, line {line}: {reason}")]
    Line {
        /// The file.
        name: String,
        /// Counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// The file, the line and the reason.
pub(super) fn read(file: &Path) -> Result<Vec<PackageSpec>, PackageListError> {
    let name = file.display().to_string();
    let read = if name == "-" {
        whole(io::stdin().lock(), LIMIT)
    } else {
        std::fs::File::open(file).and_then(|file| whole(file, LIMIT))
    };
    match read {
        Ok(text) => parse(&name, &text),
        Err(source) => Err(PackageListError::Unreadable { name, source }),
    }
}

/// Reads a text to its end; one that is longer than `limit` bytes is an error and not cut.
pub(super) fn whole(from: impl io::Read, limit: u64) -> io::Result<String> {
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
    lines
        .map(|(at, line)| {
            let wrong = |why: super::package_spec::PackageSpecError| why.to_string();
            line.parse().map_err(wrong).map_err(|reason| PackageListError::Line {
                name: name.to_owned(),
                line: at + 1,
                reason,
            })
        })
        .collect()
}

fn uncommented(line: &str) -> &str {
    let comment = line.char_indices().find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
    line[..comment.map_or(line.len(), |(at, _)| at)].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_no_wishes() {
        let text = "\u{feff}# the Monday list\n\ndevsapp/fc3   # newest\r\n  fc@^0.1 \n#x\na/b@v1#2\n";
        let wishes = parse("list", text).expect("good");
        let said: Vec<_> = wishes
            .iter()
            .map(|wish| (wish.package.as_str(), wish.versions.as_ref().map(|versions| versions.text.as_str())))
            .collect();
        assert_eq!(said, [("devsapp/fc3", None), ("fc", Some("^0.1")), ("a/b", Some("v1#2"))]);
    }

    #[test]
    fn what_is_too_long_is_refused_and_not_cut() {
        assert_eq!(whole(&b"a/b\n"[..], 4).expect("fits"), "a/b\n");
        let why = whole(&b"a/b\nc"[..], 4).expect_err("one byte more").to_string();
        assert_eq!(why, "it is larger than 4B");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let why = parse("list", "devsapp/fc3\n\na b\n").expect_err("wrong").to_string();
        assert!(why.contains("list, line 3") && why.contains("a b"), "{why}");
    }
}
