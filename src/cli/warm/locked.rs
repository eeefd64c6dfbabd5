//! `srm-mirror.lock`: exactly these zips, as `cache lock` wrote them.

use std::{collections::HashSet, fs, path::Path};

use serde::Deserialize;

use super::package_spec::{PackageSpec, PackageSpecError, VersionSelector, Versions};
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
pub(super) struct LockFileError {
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
pub(super) fn read(file: &Path) -> Result<Vec<PackageSpec>, LockFileError> {
    let wrong = |reason: String| LockFileError { file: file.display().to_string(), reason };
    let text = fs::read_to_string(file).map_err(|why| wrong(why.to_string()))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<PackageSpec>, String> {
    /// What another version wrote is called so before a word of it that is new is complained about.
    #[derive(Deserialize)]
    struct Form {
        version: u32,
    }
    let malformed = |why: toml::de::Error| why.message().to_owned();
    let Form { version } = toml::from_str(text).map_err(malformed)?;
    if version != 1 {
        return Err(format!("version = {version}: another srm-mirror wrote it, this one knows version 1"));
    }
    let file: File = toml::from_str(text).map_err(malformed)?;
    let mut seen = HashSet::new();
    let wish = |row: Row| {
        let wish = row.wish()?;
        let name = format!("{}:{}@{}", row.upstream, row.package, row.version);
        let (package, _) = name.split_at(name.len() - row.version.len());
        if seen.insert((package.to_ascii_lowercase(), row.version)) {
            Ok(wish)
        } else {
            Err(format!("{name} is locked twice"))
        }
    };
    file.package.into_iter().map(wish).collect()
}

impl Row {
    /// Exactly this tag or commit: no word and no range is looked for in its name.
    fn wish(&self) -> Result<PackageSpec, String> {
        let Self { upstream, package, kind, version, sha256, commit } = self;
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("{package}@{version}: \"{sha256}\" is no SHA-256"));
        }
        match kind {
            Kind::Commit if !matches!(version.parse(), Ok(Version::Commit(_))) => {
                return Err(format!("{package}: \"{version}\" is no full commit"));
            }
            Kind::Commit => {}
            Kind::Tag => {
                let parsed = format!("refs/tags/{version}").parse::<Version>();
                parsed.map_err(|why| format!("{package}: \"{version}\" is no tag: {}", why.0))?;
            }
        }
        let wish: PackageSpec =
            format!("{upstream}:{package}").parse().map_err(|why: PackageSpecError| why.to_string())?;
        if wish.versions.is_some() {
            return Err(format!("\"{package}\" is no package"));
        }
        let versions = Versions { text: version.clone(), meaning: VersionSelector::Ref };
        let locked = Locked { sha256: sha256.clone(), commit: commit.clone(), tag: *kind == Kind::Tag };
        Ok(PackageSpec { versions: Some(versions), locked: Some(locked), ..wish })
    }
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
        let later = parse("version = 2\npackage = \"something else\"").expect_err("another version");
        assert!(later.contains("this one knows version 1"), "{later}");
        for text in ["version = 2", "x", &row("a b", &sum), &row("v1", "ab"), ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
