//! Patterns of packages: `devsapp/*`, `fc*`, `gitee:*/start-?`, `official:*`.

use std::str::FromStr;

use wildmatch::WildMatch;

use super::{PackageId, PackageName};

/// A pattern of packages, optionally on the upstreams that a pattern before a colon matches.
///
/// A part has `*` and `?` as wildcards, which match no slash. A pattern without a slash matches plain names, one with a
/// slash repositories, and a lone `*` both. Case does not count.
#[derive(Clone, Debug)]
pub struct PackagePattern {
    upstream: Option<WildMatch>,
    /// `None` in a pattern of plain names.
    owner: Option<WildMatch>,
    name: WildMatch,
    matches_all: bool,
}

impl PackagePattern {
    /// True when the pattern matches the package.
    pub fn matches(&self, package: &PackageId) -> bool {
        self.matches_upstream(&package.upstream) && self.matches_name(&package.name)
    }

    /// True when the pattern is for packages on this upstream.
    pub fn matches_upstream(&self, upstream: &str) -> bool {
        self.upstream.as_ref().is_none_or(|pattern| pattern.matches(&upstream.to_ascii_lowercase()))
    }

    /// True when the pattern matches every plain name on this upstream.
    pub fn matches_every_plain_name_on(&self, upstream: &str) -> bool {
        self.matches_all && self.matches_upstream(upstream)
    }

    /// True when the pattern, whatever its upstream, matches the name.
    pub fn matches_name(&self, name: &PackageName) -> bool {
        let matches = |pattern: &WildMatch, part: &str| pattern.matches(&part.to_ascii_lowercase());
        self.matches_all
            || match (&self.owner, name.owner()) {
                (Some(pattern), Some(owner)) => matches(pattern, owner) && matches(&self.name, name.base_name()),
                (None, None) => matches(&self.name, name.base_name()),
                _ => false,
            }
    }

    /// True when the pattern names upstreams.
    pub fn has_upstream(&self) -> bool {
        self.upstream.is_some()
    }

    /// True when the pattern can match plain names.
    pub fn matches_plain_names(&self) -> bool {
        self.owner.is_none()
    }
}

/// A text that is no [`PackagePattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pattern of packages; write for example \"devsapp/*\", \"fc*\", \"gitee:devsapp/fc3\" or \"official:*\"")]
pub struct PatternError;

impl FromStr for PackagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let folded = text.to_ascii_lowercase();
        let (upstream, package) = match folded.split_once(':') {
            Some((upstream, package)) => (Some(upstream), package),
            None => (None, folded.as_str()),
        };
        let (owner, name) = match package.split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, package),
        };
        let is_valid = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?'))
        };
        if !is_valid(name) || !owner.is_none_or(is_valid) || !upstream.is_none_or(is_valid) {
            return Err(PatternError);
        }
        Ok(Self {
            upstream: upstream.map(WildMatch::new),
            owner: owner.map(WildMatch::new),
            name: WildMatch::new(name),
            matches_all: package == "*",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(upstream: &str, name: &str) -> PackageId {
        PackageId { upstream: upstream.into(), name: name.parse().expect("valid") }
    }

    #[test]
    fn a_pattern_matches_names_of_its_form_without_case() {
        for (pattern, package, matches) in [
            ("devsapp/*", id("github", "DevsApp/FC3"), true),
            ("dev*/fc", id("github", "devsapp/x-fc"), false),
            ("fc*", id("official", "FC3"), true),
            ("fc*", id("github", "fc3/fc3"), false),
            ("*/*", id("official", "fc3"), false),
            ("*", id("official", "fc3"), true),
            ("*", id("github", "devsapp/fc3"), true),
            ("official:*", id("official", "fc3"), true),
            ("official:*", id("official-2x", "fc3"), false),
            ("official*:*", id("official-2x", "fc3"), true),
            ("official:*", id("github", "devsapp/fc3"), false),
        ] {
            let pattern: PackagePattern = pattern.parse().expect(pattern);
            assert_eq!(pattern.matches(&package), matches, "{pattern:?} {package}");
        }
    }

    #[test]
    fn a_text_with_other_parts_is_no_pattern() {
        for text in ["", "a/b/c", "/b", "a/", ":a/b", "a b/c", "official:", "a:b:c"] {
            assert!(text.parse::<PackagePattern>().is_err(), "{text}");
        }
    }
}
