//! Patterns of packages that may name versions: `devsapp/fc3`, `devsapp/fc3@1.2.0`, `devsapp/fc3@>=1.2, <1.4`,
//! `acme/*@*-beta*`.

use std::{fmt, str::FromStr};

use semver::{Version, VersionReq};
use wildmatch::WildMatch;

use super::{PackageId, PackagePattern, PatternError, semantic, with_v_toggled};

/// A pattern of packages, and optionally of their versions.
#[derive(Clone, Debug)]
pub struct VersionedPattern {
    text: String,
    package: PackagePattern,
    version: Option<VersionPattern>,
}

/// The versions that a pattern matches.
#[derive(Clone, Debug)]
enum VersionPattern {
    /// Names with `*` and `?`.
    Name(WildMatch),
    /// A range of semantic versions.
    Range(VersionReq),
}

/// A text that is no [`VersionedPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionedPatternError {
    /// Its package is no pattern.
    #[error(transparent)]
    Package(#[from] PatternError),
    /// What follows the `@` is neither a version nor a range.
    #[error(
        "not a pattern of versions; write for example \"devsapp/fc3@1.2.0\", \"fc3@>=1.2, <1.4\" or \"acme/*@*-beta*\""
    )]
    Version,
}

impl VersionedPattern {
    /// True when the pattern matches the package, in any version.
    pub fn matches_package(&self, package: &PackageId) -> bool {
        self.package.matches(package)
    }

    /// True when the pattern matches this version of the package, in either spelling: with or without `v`.
    pub fn matches(&self, package: &PackageId, version: &str) -> bool {
        self.package.matches(package)
            && match &self.version {
                None => true,
                Some(VersionPattern::Name(name)) => {
                    name.matches(version) || with_v_toggled(version).is_some_and(|other| name.matches(&other))
                }
                Some(VersionPattern::Range(range)) => {
                    semantic(version).is_some_and(|version| in_range(range, &version))
                }
            }
    }

    /// The packages, if the pattern names no versions.
    pub fn whole_packages(&self) -> Option<&PackagePattern> {
        self.version.is_none().then_some(&self.package)
    }

    /// The text before the version.
    pub fn packages_text(&self) -> &str {
        self.text.split('@').next().unwrap_or_default().trim()
    }

    /// The packages, whatever the versions.
    pub fn packages(&self) -> &PackagePattern {
        &self.package
    }
}

/// True for a version in the range. A prerelease counts as the version that it precedes, too: by the rules of semver,
/// `>=1.2, <1.4` has no `1.3.0-beta`.
fn in_range(range: &VersionReq, version: &Version) -> bool {
    range.matches(version) || range.matches(&Version::new(version.major, version.minor, version.patch))
}

impl FromStr for VersionedPattern {
    type Err = VersionedPatternError;

    fn from_str(text: &str) -> Result<Self, VersionedPatternError> {
        let (package, version) = match text.split_once('@') {
            Some((package, version)) => (package, Some(version.trim())),
            None => (text, None),
        };
        let is_range = |text: &str| text.contains(['<', '>', '=', '^', '~', ',']);
        let version = match version {
            None => None,
            Some("") => return Err(VersionedPatternError::Version),
            Some(range) if is_range(range) => {
                Some(VersionPattern::Range(range.parse().map_err(|_| VersionedPatternError::Version)?))
            }
            Some(name) if name.contains(char::is_whitespace) => return Err(VersionedPatternError::Version),
            Some(name) => Some(VersionPattern::Name(WildMatch::new(name))),
        };
        Ok(Self { text: text.to_owned(), package: package.trim().parse()?, version })
    }
}

impl fmt::Display for VersionedPattern {
    /// The text that it was parsed from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_versions_by_name_or_by_range() {
        let fc3 = PackageId { upstream: "github".into(), name: "devsapp/fc3".parse().expect("a name") };
        for (pattern, version, meant) in [
            ("devsapp/fc3", "anything", true),
            ("devsapp/fc3@1.2.0", "v1.2.0", true),
            ("devsapp/fc3@v1.2.0", "1.2.0", true),
            ("DevsApp/FC3@1.2.0", "1.2.1", false),
            ("devsapp/fc3@>=1.2, <1.4", "v1.3.9", true),
            ("devsapp/fc3@>=1.2, <1.4", "1.3.0-beta.1", true),
            ("devsapp/fc3@>=1.2, <1.4", "1.4.0", false),
            ("devsapp/fc3@>=1.2, <1.4", "nightly", false),
            ("devsapp/*@*-beta*", "2.0.0-beta.1", true),
            ("devsapp/*@*-beta*", "2.0.0", false),
            ("official:*@1.*", "1.2.0", false),
        ] {
            let pattern: VersionedPattern = pattern.parse().expect(pattern);
            assert_eq!(pattern.matches(&fc3, version), meant, "{pattern} {version}");
        }
        for text in ["", "a/b@", "a/b/c@1", "a/b@>=x", "a/b@1 2", "@1"] {
            assert!(text.parse::<VersionedPattern>().is_err(), "{text}");
        }
    }
}
