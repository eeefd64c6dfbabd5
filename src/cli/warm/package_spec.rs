//! Package specs: a package and its versions, as an operator writes them.
//!
//! `PACKAGE[@VERSIONS]`, where `PACKAGE` is a plain name, `owner/repo`, `upstream:name`, or an alias, and `VERSIONS` is read
//! in this order:
//!
//! 1. an exact tag of the release list, else the same with `v` added or removed;
//! 2. `all`: every release; `latest`: the release that the upstream calls latest;
//! 3. a range, which has an operator (`^1.2`, `~1.2.3`, `>=1, <2`, `=1.2`, `1.*`) and never stands without one;
//! 4. anything else: a tag without a release, a moving version, a branch or a commit, which the mirror resolves.

use std::{fmt, str::FromStr};

use semver::VersionReq;

use crate::{
    entry::Digest,
    package::{DialectName, NameError, NameForm, PackageName, Version},
};

/// A package as the operator writes it; the mirror resolves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RawName(String);

/// One package and which of its versions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PackageSpec {
    /// The package.
    pub(super) package: RawName,
    /// Its versions; the newest where it is `None`.
    pub(super) versions: Option<VersionSpec>,
    /// What the zip must be, where a lock file says so.
    pub(super) locked: Option<LockedContent>,
    /// The dialect whose routes decide where the package comes from.
    pub(super) dialect: DialectName,
}

/// The part after the `@`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VersionSpec {
    /// As it was written: a release with exactly this tag is taken first.
    pub(super) text: String,
    /// What it selects where no release has such a tag.
    pub(super) selector: VersionSelector,
}

/// What a text selects that is no tag of a release.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VersionSelector {
    /// Every release.
    All,
    /// The release that the upstream calls latest.
    Latest,
    /// Every release whose semantic version fits.
    Range(VersionReq),
    /// A tag without a release, a moving version, a branch or a commit.
    Ref,
}

/// What a zip must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockedContent {
    /// SHA-256 of its bytes.
    pub(super) sha256: Digest,
    /// The full commit that it was made from, where that is locked.
    pub(super) commit: Option<String>,
    /// True for a tag: a branch of that name does not fit.
    pub(super) tag: bool,
}

/// A package spec that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\": {reason}; write for example fc3, devsapp/fc3@1.2.3 or \"official:fc3@^0.1\"")]
pub(super) struct PackageSpecError {
    text: String,
    reason: SpecErrorReason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum SpecErrorReason {
    #[error("nothing stands behind the @")]
    NoVersions,
    #[error("a range with || is not possible, write one package spec for each part")]
    Alternatives,
    #[error("not a range ({0})")]
    NoRange(String),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl RawName {
    /// The path of the package on a mirror, without a slash at its end.
    pub(super) fn path(&self) -> String {
        match self.0.split_once(':') {
            Some((upstream, name)) => format!("/{upstream}/{name}"),
            None => format!("/{}", self.0),
        }
    }

    /// The form of the name, whatever its upstream.
    pub(super) fn form(&self) -> NameForm {
        if self.0.contains('/') { NameForm::Repository } else { NameForm::Plain }
    }

    /// The text in lower case: equal for two spellings of one package.
    pub(super) fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// A name that was checked before: one of the table of required packages, or one that a mirror sent.
    pub(super) fn of_checked(text: impl Into<String>) -> Self {
        Self(text.into())
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

impl LockedContent {
    /// How a zip differs, if it does.
    pub(super) fn difference(&self, sha256: Digest, commit: Option<&str>) -> Option<String> {
        if self.sha256 != sha256 {
            return Some(format!("its SHA-256 is {sha256} and {} is locked", self.sha256));
        }
        match (self.commit.as_deref(), commit) {
            (Some(locked), Some(found)) if !locked.eq_ignore_ascii_case(found) => {
                Some(format!("its commit is {found} and {locked} is locked"))
            }
            _ => None,
        }
    }
}

impl PackageSpec {
    /// The newest version of a package.
    pub(super) fn newest(package: RawName) -> Self {
        Self { package, versions: None, locked: None, dialect: DialectName::Srm }
    }
}

impl FromStr for PackageSpec {
    type Err = PackageSpecError;

    fn from_str(text: &str) -> Result<Self, PackageSpecError> {
        parse(text.trim()).map_err(|reason| PackageSpecError { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<PackageSpec, SpecErrorReason> {
    let (package, versions) = match text.split_once('@') {
        Some((package, versions)) => (package, Some(versions.trim())),
        None => (text, None),
    };
    let package = package.trim_end();
    let name = match package.split_once(':') {
        Some((upstream, name)) => {
            PackageName::plain(upstream)?;
            name
        }
        None => package,
    };
    name.parse::<PackageName>()?;
    let versions = versions.map(parse_versions).transpose()?;
    Ok(PackageSpec { versions, ..PackageSpec::newest(RawName(package.to_owned())) })
}

fn parse_versions(text: &str) -> Result<VersionSpec, SpecErrorReason> {
    let selector = match text {
        "" => return Err(SpecErrorReason::NoVersions),
        "all" => VersionSelector::All,
        "latest" => VersionSelector::Latest,
        _ if has_operator(text) => match parse_range(text) {
            Ok(range) => VersionSelector::Range(range),
            // `a=b` can be a tag; `^x` cannot.
            Err(_) if text.parse::<Version>().is_ok() => VersionSelector::Ref,
            Err(reason) => return Err(reason),
        },
        _ => {
            text.parse::<Version>()?;
            VersionSelector::Ref
        }
    };
    Ok(VersionSpec { text: text.to_owned(), selector })
}

fn has_operator(text: &str) -> bool {
    text.contains(['^', '~', '>', '<', '=', '*']) || text.contains(',')
}

/// Reads a range of the crate `semver`; white space may separate its comparators too.
fn parse_range(text: &str) -> Result<VersionReq, SpecErrorReason> {
    if text.contains("||") {
        return Err(SpecErrorReason::Alternatives);
    }
    let mut parts: Vec<String> = Vec::new();
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        match parts.last_mut() {
            // `>= 1.2`: white space after the operator.
            Some(last) if last.ends_with(['^', '~', '>', '<', '=']) => last.push_str(without_v(word)),
            _ => {
                let at = word.find(|c: char| !matches!(c, '^' | '~' | '>' | '<' | '=')).unwrap_or(word.len());
                parts.push(format!("{}{}", &word[..at], without_v(&word[at..])));
            }
        }
    }
    VersionReq::parse(&parts.join(", ")).map_err(|error| SpecErrorReason::NoRange(error.to_string()))
}

/// Versions are compared without their `v`.
fn without_v(version: &str) -> &str {
    version.strip_prefix(['v', 'V']).unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PackageSpec {
        text.parse().unwrap_or_else(|why| panic!("{why}"))
    }

    fn selector(text: &str) -> VersionSelector {
        spec(&format!("a/b@{text}")).versions.expect("versions").selector
    }

    #[test]
    fn a_package_spec_begins_with_a_name_or_a_pair_with_or_without_an_upstream() {
        for (text, path) in [
            ("fc3", "/fc3"),
            ("devsapp/fc3", "/devsapp/fc3"),
            ("gitee:devsapp/fc3@1.0.0", "/gitee/devsapp/fc3"),
            ("fc3@1.2.3", "/fc3"),
            ("official:fc3@0.1.22", "/official/fc3"),
            ("official:fc3@dev", "/official/fc3"),
        ] {
            assert_eq!(spec(text).package.path(), path, "{text}");
        }
        for text in ["", "@1", "a/b/c", "a b", "gitee:", "a/b:c", "a:b:c", "../x", ":a/b", "a/b@", "https://x/y", "ä"]
        {
            assert!(text.parse::<PackageSpec>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_version_spec_is_a_range_only_with_an_operator() {
        for text in ["^1.2", "~1.2.3", ">=1, <2", ">= 1.2 < 2", "=1.2", "1.*", "*", ">v1.2.0"] {
            assert!(matches!(selector(text), VersionSelector::Range(_)), "{text}");
        }
        for text in ["1.2", "1", "1.2.3", "v1", "main", "refs/heads/main", "codeql-cli/v2.12.0", "a=b"] {
            assert_eq!(selector(text), VersionSelector::Ref, "{text}");
        }
        assert_eq!((selector("all"), selector("latest")), (VersionSelector::All, VersionSelector::Latest));
        for text in ["a/b@^x", "a/b@^1 || ^2", "a/b@a b", "a/b@a..b"] {
            assert!(text.parse::<PackageSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_compares_as_semver_defines() {
        let VersionSelector::Range(range) = selector(">= v1.2 < 2") else { panic!("a range") };
        let fits = |text: &str| range.matches(&text.parse().expect("a version"));
        assert!(fits("1.2.0") && fits("1.99.0") && !fits("2.0.0") && !fits("1.1.9") && !fits("1.5.0-rc.1"));
    }
}
