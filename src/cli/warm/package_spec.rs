//! What is wished for: a package and its versions, as an operator writes them.
//!
//! `PACKAGE[@VERSIONS]`, where `PACKAGE` is `owner/repo`, `upstream:owner/repo`, or a name that the mirror knows (an
//! alias, or a plain name under `names.default_owner`), and `VERSIONS` is read in this order:
//!
//! 1. an exact tag of the release list, else the same with `v` added or removed;
//! 2. `all`: every release; `latest`: what the upstream calls latest;
//! 3. a range, which has an operator (`^1.2`, `~1.2.3`, `>=1, <2`, `=1.2`, `1.*`) and never stands without one;
//! 4. anything else: a tag without a release, a branch or a commit, which the mirror itself looks for.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use semver::VersionReq;

use super::locked::Locked;
use crate::package::{PackageName, Version};

/// What stands unescaped in a path: RFC 3986 §2.3, and the slash.
const LITERAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A package as the operator spells it; which one it is, the mirror knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RawName(String);

/// One package and which of its versions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackageSpec {
    /// The package.
    pub(super) package: RawName,
    /// Its versions; the newest where it is `None`.
    pub(super) versions: Option<Versions>,
    /// What the zip must be, where a lock file says so.
    pub(super) locked: Option<Locked>,
}

/// What stands behind the `@`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Versions {
    /// As it was written: an exact tag comes first, whatever else the text could mean.
    pub(super) text: String,
    /// What it means where no release has such a tag.
    pub(super) meaning: VersionSelector,
}

/// What a text means that is no tag of a release.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VersionSelector {
    /// Every release.
    All,
    /// What the upstream calls latest.
    Latest,
    /// Every release whose semantic version fits.
    Range(VersionReq),
    /// A tag, branch or commit.
    Ref,
}

/// A wish that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\": {reason}; write for example devsapp/fc3, devsapp/fc3@1.2.3 or \"devsapp/fc3@^1.2\"")]
pub(super) struct PackageSpecError {
    pub(super) text: String,
    pub(super) reason: String,
}

impl RawName {
    /// The path of the package on a mirror, without a slash at its end.
    pub(super) fn path(&self) -> String {
        match self.0.split_once(':') {
            Some((upstream, name)) => format!("/{upstream}/{name}"),
            None => format!("/{}", self.0),
        }
    }

    /// The text, as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RawName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version as a segment of a path.
pub(super) fn segment(version: &str) -> String {
    utf8_percent_encode(version, LITERAL).to_string()
}

impl FromStr for PackageSpec {
    type Err = PackageSpecError;

    fn from_str(text: &str) -> Result<Self, PackageSpecError> {
        let wrong = |reason: String| PackageSpecError { text: text.to_owned(), reason };
        let text = text.trim();
        let (package, versions) = match text.split_once('@') {
            Some((package, versions)) => (package, Some(versions.trim())),
            None => (text, None),
        };
        let package = package.trim_end();
        let (upstream, name) = package.split_once(':').map_or((None, package), |(first, rest)| (Some(first), rest));
        // A plain name stands alone, one with an upstream never does.
        let checked = match (upstream, name.split_once('/')) {
            (None, None) => PackageName::new("x", name),
            (None, Some(_)) => name.parse(),
            (Some(upstream), _) => PackageName::new(upstream, "x").and_then(|_| name.parse()),
        };
        checked.map_err(|why| wrong(why.0))?;
        let versions = versions.map(|versions| versions_of(versions).map_err(wrong)).transpose()?;
        Ok(Self { package: RawName(package.to_owned()), versions, locked: None })
    }
}

fn versions_of(text: &str) -> Result<Versions, String> {
    let meaning = match text {
        "" => return Err("nothing stands behind the @".into()),
        "all" => VersionSelector::All,
        "latest" => VersionSelector::Latest,
        _ if has_operator(text) => match range(text) {
            Ok(range) => VersionSelector::Range(range),
            // `a=b` can be a tag; `^x` cannot.
            Err(_) if text.parse::<Version>().is_ok() => VersionSelector::Ref,
            Err(why) => return Err(why),
        },
        _ => {
            text.parse::<Version>().map_err(|why| why.0)?;
            VersionSelector::Ref
        }
    };
    Ok(Versions { text: text.to_owned(), meaning })
}

fn has_operator(text: &str) -> bool {
    text.contains(['^', '~', '>', '<', '=', '*']) || text.contains(',')
}

/// A range of the crate `semver`, whose comparators may be parted by white space too.
fn range(text: &str) -> Result<VersionReq, String> {
    if text.contains("||") {
        return Err("a range with || is not possible, write one wish for each part".into());
    }
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        match parts.last_mut() {
            // `>= 1.2`: the operator stands alone.
            Some(last) if last.ends_with(['^', '~', '>', '<', '=']) => last.push_str(bare(word)),
            _ => {
                let at = word.find(|c: char| !matches!(c, '^' | '~' | '>' | '<' | '=')).unwrap_or(word.len());
                parts.push(format!("{}{}", &word[..at], bare(&word[at..])));
            }
        }
    }
    VersionReq::parse(&parts.join(", ")).map_err(|why| format!("not a range ({why})"))
}

/// Versions are compared without their `v`.
fn bare(version: &str) -> &str {
    version.strip_prefix(['v', 'V']).unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(text: &str) -> PackageSpec {
        text.parse().unwrap_or_else(|why| panic!("{why}"))
    }

    fn meaning(text: &str) -> VersionSelector {
        wish(&format!("a/b@{text}")).versions.expect("versions").meaning
    }

    #[test]
    fn a_package_is_a_name_a_pair_or_a_pair_on_an_upstream() {
        for (text, path) in [
            ("fc3", "/fc3"),
            ("devsapp/fc3", "/devsapp/fc3"),
            ("gitee:devsapp/fc3@1.0.0", "/gitee/devsapp/fc3"),
            ("fc3@1.2.3", "/fc3"),
        ] {
            assert_eq!(wish(text).package.path(), path, "{text}");
        }
        for text in ["", "@1", "a/b/c", "a b", "gitee:fc3", "../x", ":a/b", "a/b@", "https://x/y", "ä"] {
            assert!(text.parse::<PackageSpec>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_an_operator_makes_a_range() {
        for text in ["^1.2", "~1.2.3", ">=1, <2", ">= 1.2 < 2", "=1.2", "1.*", "*", ">v1.2.0"] {
            assert!(matches!(meaning(text), VersionSelector::Range(_)), "{text}");
        }
        for text in ["1.2", "1", "1.2.3", "v1", "main", "refs/heads/main", "codeql-cli/v2.12.0", "a=b"] {
            assert_eq!(meaning(text), VersionSelector::Ref, "{text}");
        }
        assert_eq!((meaning("all"), meaning("latest")), (VersionSelector::All, VersionSelector::Latest));
        for text in ["a/b@^x", "a/b@^1 || ^2", "a/b@a b", "a/b@a..b"] {
            assert!(text.parse::<PackageSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_compare_as_semver_says() {
        let VersionSelector::Range(range) = meaning(">= v1.2 < 2") else { panic!("a range") };
        let fits = |text: &str| range.matches(&text.parse().expect("a version"));
        assert!(fits("1.2.0") && fits("1.99.0") && !fits("2.0.0") && !fits("1.1.9") && !fits("1.5.0-rc.1"));
    }
}
