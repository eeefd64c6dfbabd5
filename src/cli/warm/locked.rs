//! `srm-mirror.lock`: exactly these zips, as `cache lock` wrote them.

use std::{fs, path::Path};

use serde::Deserialize;

use super::wish::Wish;
use crate::package::Version;

/// What a zip must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Locked {
    /// SHA-256 of its bytes, hexadecimal.
    pub(super) sha256: String,
    /// The full commit it was made of, where it says so.
    pub(super) commit: Option<String>,
    /// True for a tag: a branch of that name is something else.
    pub(super) tag: bool,
}

#[derive(Deserialize)]
struct File {
    version: u32,
    #[serde(default)]
    package: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    upstream: String,
    package: String,
    /// How it was fetched; `tag` where nothing is said.
    #[serde(default)]
    kind: Kind,
    version: String,
    sha256: String,
    commit: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Tag,
    Commit,
}

/// A lock file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--locked {file}: {reason}")]
pub(super) struct WrongLock {
    file: String,
    reason: String,
}

impl Locked {
    /// What differs, if anything does.
    pub(super) fn differs(&self, sha256: &str, commit: Option<&str>) -> Option<String> {
        if !self.sha256.eq_ignore_ascii_case(sha256) {
            return Some(format!("its SHA-256 is {sha256} and {} is locked", self.sha256));
        }
        match (self.commit.as_deref(), commit) {
            (Some(locked), Some(is)) if !locked.eq_ignore_ascii_case(is) => {
                Some(format!("its commit is {is} and {locked} is locked"))
            }
            _ => None,
        }
    }
}

/// Reads a lock file.
///
/// # Errors
/// When it cannot be read, is of a later form, or a row is no package.
pub(super) fn read(file: &Path) -> Result<Vec<Wish>, WrongLock> {
    let wrong = |reason: String| WrongLock { file: file.display().to_string(), reason };
    let text = fs::read_to_string(file).map_err(|why| wrong(why.to_string()))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<Wish>, String> {
    let file: File = toml::from_str(text).map_err(|why| why.message().to_owned())?;
    if file.version != 1 {
        return Err(format!("version = {}: a newer srm-mirror wrote it", file.version));
    }
    let wish = |row: Row| {
        if row.sha256.len() != 64 || !row.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("{}@{}: \"{}\" is no SHA-256", row.package, row.version, row.sha256));
        }
        if row.kind == Kind::Commit && !matches!(row.version.parse(), Ok(Version::Commit(_))) {
            return Err(format!("{}: \"{}\" is no full commit", row.package, row.version));
        }
        let wish: Wish = format!("{}:{}@{}", row.upstream, row.package, row.version)
            .parse()
            .map_err(|why: super::wish::WrongWish| why.to_string())?;
        Ok(Wish { locked: Some(Locked { sha256: row.sha256, commit: row.commit, tag: row.kind == Kind::Tag }), ..wish })
    };
    file.package.into_iter().map(wish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_exact_wishes_and_wrong_ones_are_refused() {
        let sum = "ab".repeat(32);
        let row = |version: &str, sum: &str| {
            format!(
                "version = 1\n[[package]]\nupstream = \"github\"\npackage = \"devsapp/fc3\"\nkind = \"tag\"\n\
                 version = \"{version}\"\nsha256 = \"{sum}\"\nfirst_seen = \"2024-05-01T00:00:00Z\"\n"
            )
        };
        let wishes = parse(&row("v1.0.0", &sum)).expect("good");
        assert_eq!(wishes[0].package.path(), "/github/devsapp/fc3");
        let locked = wishes[0].locked.as_ref().expect("locked");
        assert_eq!((locked.differs(&sum, None), locked.differs("cd", None).is_some()), (None, true));
        for text in ["version = 2", "x", &row("a b", &sum), &row("v1", "ab"), ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
