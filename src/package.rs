//! Names of packages, versions, releases and metadata records, parsed and validated.
//!
//! This module depends neither on HTTP nor on an upstream or the cache.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest accepted owner or repository name, in bytes (GitHub: 39 and 100; Gitee: 100 and 191).
const MAX_NAME_BYTES: usize = 191;
/// Longest accepted version, in bytes (git's own limit is the file system's 255 bytes per segment of a ref name).
const MAX_VERSION_BYTES: usize = 512;

/// The name of a package on its upstream, `owner/repo`.
///
/// Keeps its spelling for display; compares without case, as forges do.
#[derive(Clone, Debug)]
pub struct PackageName {
    owner: String,
    repo: String,
}

/// Why a name or a version is rejected. The text is shown to clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

impl PackageName {
    /// Parses both parts.
    ///
    /// # Errors
    /// If a part is empty, too long, `.` or `..`, or has a character outside `A-Z a-z 0-9 . _ -`.
    pub fn new(owner: &str, repo: &str) -> Result<Self, NameError> {
        check_name("owner", owner)?;
        check_name("repo", repo)?;
        Ok(Self { owner: owner.to_owned(), repo: repo.to_owned() })
    }

    /// The owner in its original spelling.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository in its original spelling.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// `owner/repo` in lower case, as used in keys and matched by patterns.
    pub fn folded(&self) -> String {
        format!("{}/{}", self.owner.to_ascii_lowercase(), self.repo.to_ascii_lowercase())
    }
}

/// A package on one upstream. Compares without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageId {
    /// The configured name of the upstream.
    pub upstream: Arc<str>,
    /// `owner/repo` in the spelling of the client or the configuration.
    pub name: PackageName,
}

impl PackageId {
    /// `upstream/owner/repo` with owner and repo in lower case: the prefix of every key.
    pub fn folded(&self) -> String {
        format!("{}/{}", self.upstream, self.name.folded())
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.upstream)
    }
}

fn check_name(part: &str, text: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = if text.is_empty() {
        "is empty"
    } else if text == "." || text == ".." {
        "must not be . or .."
    } else if text.len() > MAX_NAME_BYTES {
        "is too long"
    } else if !text.chars().all(allowed) {
        "may only have letters, digits, dot, dash and underscore"
    } else {
        return Ok(());
    };
    Err(NameError(format!("{part} {why}")))
}

impl PartialEq for PackageName {
    fn eq(&self, other: &Self) -> bool {
        self.owner.eq_ignore_ascii_case(&other.owner) && self.repo.eq_ignore_ascii_case(&other.repo)
    }
}

impl Eq for PackageName {}

impl FromStr for PackageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (owner, repo) =
            text.split_once('/').ok_or_else(|| NameError("package must be written owner/repo".into()))?;
        Self::new(owner, repo)
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.repo)
    }
}

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
}

impl Version {
    /// The text without its `refs/…/` prefix.
    pub fn name(&self) -> &str {
        match self {
            Self::Tag(name) | Self::Branch(name) | Self::Commit(name) | Self::Name(name) => name,
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
            Self::Commit(name) | Self::Name(name) => f.write_str(name),
        }
    }
}

/// The semantic version of a tag (`Major.Minor.Patch`, with an optional leading `v` or `V`); `None` for any other tag.
pub fn semantic(tag: &str) -> Option<semver::Version> {
    semver::Version::parse(tag.strip_prefix(['v', 'V']).unwrap_or(tag)).ok()
}

/// A semantic version with its `v` removed or added: `1.2.3` for `v1.2.3` and the reverse; `None` for any other tag.
pub fn with_v_toggled(tag: &str) -> Option<String> {
    semantic(tag)?;
    Some(match tag.strip_prefix(['v', 'V']) {
        Some(bare) => bare.to_owned(),
        None => format!("v{tag}"),
    })
}

/// One normalised release: no unexpected nulls, times in UTC, never a draft.
///
/// Has no `zipball_url`: the mirror renders its own in every response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The upstream's tag, unchanged: clients compare it with `===`.
    pub tag_name: String,
    /// The title; `None` if the upstream sends null or no title.
    pub name: Option<String>,
    /// Time of creation in UTC (GitHub: the date of the commit).
    pub created_at: Timestamp,
    /// Time of publication in UTC, if the upstream sends it.
    pub published_at: Option<Timestamp>,
    /// True for a release that is listed but never `latest`.
    pub prerelease: bool,
    /// The release notes; empty if the upstream sends null.
    pub body: String,
    /// The uploaded files, without the source zip.
    pub assets: Vec<Asset>,
    /// All other fields of the forge, verbatim, for the github dialect. URLs in it are those of the forge.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// One uploaded file of a release. A field that the upstream leaves out is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// File name.
    pub name: Option<String>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Media type.
    pub content_type: Option<String>,
    /// URL of the file on the forge (not mirrored).
    pub browser_download_url: Option<String>,
    /// `sha256:…`, if the forge sends it.
    pub digest: Option<String>,
    /// All other fields of the forge, verbatim.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// All releases of a package, in the upstream's order (newest first).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    /// The releases.
    pub releases: Vec<Release>,
    /// True if the upstream has more releases than its limits or the mirror's limits allow to list.
    pub truncated: bool,
}

/// A repository, normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// `owner/repo` in the spelling of the forge.
    pub full_name: String,
    /// True if access requires a token.
    pub private: bool,
    /// The default branch.
    pub default_branch: String,
    /// All other fields of the forge, verbatim, for the github dialect.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// The commit at the head of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BranchHead {
    /// Full commit SHA, 40 hexadecimal digits, lower case.
    pub commit: String,
}

/// The fields of `publish.yaml` in a zip; each is absent if the file does not have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishManifest {
    /// `Component`, `Application`, `Plugin` or `Project`.
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The package's name for itself.
    #[serde(rename = "Name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line, shown in lists.
    #[serde(rename = "Description", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The category in the registry.
    #[serde(rename = "Category", skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Search words.
    #[serde(rename = "Tags", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// The metadata record of the Serverless Registry Model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// From `publish.yaml`, else the repository's name.
    pub name: String,
    /// From `publish.yaml`; null without it.
    #[serde(rename = "Type")]
    pub kind: Option<String>,
    /// The tag's semantic version without `v`; null for any other tag.
    pub version: Option<String>,
    /// `published_at`, else `created_at`, in seconds since 1970-01-01.
    pub publish_time: i64,
    /// The release notes.
    pub version_body: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn package_name_folds_case_and_rejects_what_forges_reject() {
        let name: PackageName = "DevsApp/FC3".parse().expect("valid");
        assert_eq!(name, "devsapp/fc3".parse().expect("valid"));
        assert_eq!((name.to_string().as_str(), name.folded().as_str()), ("DevsApp/FC3", "devsapp/fc3"));
        for text in ["", "a", "/b", "a/", "a/..", "./b", "a/b/c", "a b/c", "a/b%2f", "ä/b", "a/b\n"] {
            assert!(text.parse::<PackageName>().is_err(), "{text:?}");
        }
    }

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
    fn only_a_semantic_version_toggles_its_v() {
        assert_eq!(with_v_toggled("1.2.3").as_deref(), Some("v1.2.3"));
        assert_eq!(with_v_toggled("v1.2.3-rc.1").as_deref(), Some("1.2.3-rc.1"));
        assert_eq!(with_v_toggled("main"), None);
        assert_eq!(with_v_toggled("v1"), None);
    }

    proptest! {
        #[test]
        fn parsed_name_or_version_prints_back_unchanged(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<PackageName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string().parse::<Version>(), Ok(version));
            }
        }
    }
}
