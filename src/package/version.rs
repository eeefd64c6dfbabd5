//! Versions in paths, and semantic versions.

use std::{fmt, str::FromStr};

use super::NameError;

/// Longest accepted version, in bytes (git's own limit is the file system's 255 bytes per segment of a ref name).
const MAX_VERSION_BYTES: usize = 512;

/// A version in a path: a tag, a branch, a commit, or a name that is still to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `refs/tags/X`: only a tag.
    Tag(String),
    /// `refs/heads/X`: only a branch.
    Branch(String),
    /// A commit: 40 hexadecimal digits in lower case. Forges reject tags and branches of that form.
    Commit(String),
    /// Any other name: resolved as pin, release, tag and branch, in this order.
    Name(String),
    /// The default branch: no version in the path.
    DefaultBranch,
}

impl Version {
    /// The text without its `refs/…/` prefix; `HEAD` for the default branch.
    pub fn name(&self) -> &str {
        match self {
            Self::Tag(name) | Self::Branch(name) | Self::Commit(name) | Self::Name(name) => name,
            Self::DefaultBranch => "HEAD",
        }
    }
}

impl FromStr for Version {
    type Err = NameError;

    /// Parses by the subset of `git check-ref-format` that makes a name safe in a path and in a header.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, make): (&str, fn(String) -> Self) = if let Some(tag) = text.strip_prefix("refs/tags/") {
            (tag, Self::Tag)
        } else if let Some(branch) = text.strip_prefix("refs/heads/") {
            (branch, Self::Branch)
        } else {
            (text, Self::Name)
        };
        let forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        let why = if name.is_empty() {
            "is empty"
        } else if name.len() > MAX_VERSION_BYTES {
            "is too long"
        } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock")) {
            "has an empty part, one that begins with a dot or one that ends with .lock"
        } else if name.contains("..") || name.contains("@{") || name.ends_with('.') || name == "@" {
            "must not have .. or @{ in it, end with a dot or be @"
        } else if name.contains(forbidden) {
            "has a character that no tag or branch can have"
        } else {
            let commit = name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit()) && name == text;
            return Ok(if commit { Self::Commit(name.to_ascii_lowercase()) } else { make(name.to_owned()) });
        };
        Err(NameError(format!("version {why}")))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(name) => write!(f, "refs/tags/{name}"),
            Self::Branch(name) => write!(f, "refs/heads/{name}"),
            Self::Commit(_) | Self::Name(_) | Self::DefaultBranch => f.write_str(self.name()),
        }
    }
}

/// The semantic version of a tag (`Major.Minor.Patch`, with an optional leading `v` or `V`); `None` for any other tag.
pub fn semantic(tag: &str) -> Option<semver::Version> {
    semver::Version::parse(tag.strip_prefix(['v', 'V']).unwrap_or(tag)).ok()
}

/// The other spelling of a version: `1.2.3` for `v1.2.3` and the reverse, also `2` for `v2` and `v2024.01.05` for
/// `2024.01.05`; `None` for a name without a digit at its beginning or behind its `v`.
pub fn with_v_toggled(tag: &str) -> Option<String> {
    let bare = tag.strip_prefix(['v', 'V']);
    if !bare.unwrap_or(tag).starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    Some(bare.map_or_else(|| format!("v{tag}"), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn version_distinguishes_tags_branches_and_commits() {
        let sha = "12b27abb78e04142adfbdc4aa7fa9571ff05d67B";
        for (text, version) in [
            ("refs/tags/v1", Version::Tag("v1".into())),
            ("refs/heads/a/b", Version::Branch("a/b".into())),
            (sha, Version::Commit(sha.to_ascii_lowercase())),
            ("1.2.3", Version::Name("1.2.3".into())),
            ("codeql-cli/v2.12.0", Version::Name("codeql-cli/v2.12.0".into())),
        ] {
            assert_eq!(text.parse(), Ok(version), "{text}");
        }
        for text in
            ["", "a//b", "/a", "a/", "..", "a..b", ".a", "a b", "a\nb", "a:b", "a?b", "a\\b", "x.lock", "refs/tags/"]
        {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_v_is_optional_before_a_digit_and_nowhere_else() {
        for (tag, other) in [
            ("1.2.3", "v1.2.3"),
            ("v1.2.3-rc.1", "1.2.3-rc.1"),
            ("v1", "1"),
            ("2.1", "v2.1"),
            ("v1.2.3.4", "1.2.3.4"),
            ("V2024.01.05", "2024.01.05"),
        ] {
            assert_eq!(with_v_toggled(tag).as_deref(), Some(other), "{tag}");
        }
        for tag in ["main", "v", "vv1", "version1", "release/1.0", "v-1"] {
            assert_eq!(with_v_toggled(tag), None, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn parsed_version_prints_back_unchanged(text in "\\PC{0,40}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string().parse::<Version>(), Ok(version));
            }
        }
    }
}
