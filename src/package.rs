//! What a package, a version and a release are: parse or reject.
//!
//! Nothing here knows HTTP, an upstream or the cache.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest owner or repository name accepted, in bytes (GitHub: 39 and 100; Gitee: 100 and 191).
const MAX_NAME: usize = 191;
/// Longest version accepted, in bytes (git's own limit for a ref name is the file system's 255 per part).
const MAX_VERSION: usize = 512;

/// A package on an upstream, `owner/repo`.
///
/// Keeps the spelling it was given for what is shown and compares without case, as forges do.
#[derive(Clone, Debug)]
pub struct PackageName {
    owner: String,
    repo: String,
}

/// Why a name or version is refused: which part, and what it must look like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

impl PackageName {
    /// Parses both parts.
    ///
    /// # Errors
    /// When a part is empty, too long, `.`/`..`, or has a character outside `A-Z a-z 0-9 . _ -`.
    pub fn new(owner: &str, repo: &str) -> Result<Self, NameError> {
        check_name("owner", owner)?;
        check_name("repo", repo)?;
        Ok(Self { owner: owner.to_owned(), repo: repo.to_owned() })
    }

    /// The owner as it was written.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository as it was written.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// `owner/repo` in lower case: the form that is compared, matched by patterns and used in keys.
    pub fn folded(&self) -> String {
        format!("{}/{}", self.owner.to_ascii_lowercase(), self.repo.to_ascii_lowercase())
    }
}

/// A package and the upstream it lives on. Compares without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageId {
    /// The upstream's configured name.
    pub upstream: Arc<str>,
    /// `owner/repo`, as the client or the configuration spells it.
    pub name: PackageName,
}

impl PackageId {
    /// `upstream/owner/repo` with owner and repo in lower case: the beginning of every key.
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
    } else if text.len() > MAX_NAME {
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

/// A version as a client writes it in a path: a tag, a branch, a commit, or not yet known which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `refs/tags/X`: only a tag.
    Tag(String),
    /// `refs/heads/X`: only a branch.
    Branch(String),
    /// 40 hexadecimal digits, lower case: a commit. Forges refuse tags and branches of that shape.
    Commit(String),
    /// Anything else: looked up as pin, release, tag and branch in turn.
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

    /// Parses by the rules of `git check-ref-format`, as far as they keep a path and a header safe.
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
        } else if name.len() > MAX_VERSION {
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

/// The semantic version of a tag (`Major.Minor.Patch`, a leading `v` or `V` allowed), or `None`.
pub fn semantic(tag: &str) -> Option<semver::Version> {
    semver::Version::parse(tag.strip_prefix(['v', 'V']).unwrap_or(tag)).ok()
}

/// The other spelling of a semantic version: `1.2.3` for `v1.2.3` and the reverse; `None` for anything else.
pub fn with_v_toggled(tag: &str) -> Option<String> {
    semantic(tag)?;
    Some(match tag.strip_prefix(['v', 'V']) {
        Some(bare) => bare.to_owned(),
        None => format!("v{tag}"),
    })
}

/// One release, normalised: nulls mended, times in UTC, drafts already gone.
///
/// `zipball_url` is not part of it: the mirror makes its own for every answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The upstream's tag, untouched: clients compare it with `===`.
    pub tag_name: String,
    /// The release's title; null where the upstream sends null or nothing.
    pub name: Option<String>,
    /// When it was made (GitHub: the commit's date), UTC.
    pub created_at: Timestamp,
    /// When it was published, UTC, where the upstream says so.
    pub published_at: Option<Timestamp>,
    /// Listed, but never `latest`.
    pub prerelease: bool,
    /// The notes; never null.
    pub body: String,
    /// The uploaded files (the source zip is not one of them).
    pub assets: Vec<Asset>,
    /// Every further field the forge sent, verbatim, for the github dialect. Addresses in it are the forge's own.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// One uploaded file of a release. Absent facts stay absent, never invented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// File name; null where the upstream leaves it out.
    pub name: Option<String>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Media type.
    pub content_type: Option<String>,
    /// Where the forge serves it (not mirrored).
    pub browser_download_url: Option<String>,
    /// `sha256:…` where the forge knows it.
    pub digest: Option<String>,
    /// Every further field the forge sent, verbatim.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// All releases of a package, in the upstream's order (newest first).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    /// The releases.
    pub releases: Vec<Release>,
    /// True when the upstream has more than it or the mirror's limits let it list.
    pub truncated: bool,
}

/// What the mirror knows of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// `owner/repo` in the forge's own spelling.
    pub full_name: String,
    /// True when only a token can see it.
    pub private: bool,
    /// The branch a plain checkout has.
    pub default_branch: String,
    /// Every further field the forge sent, verbatim, for the github dialect.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// The commit a branch points at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BranchHead {
    /// Full commit SHA, 40 hexadecimal digits, lower case.
    pub commit: String,
}

/// What `publish.yaml` in a zip says of the package; every field absent where it does not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishManifest {
    /// `Component`, `Application`, `Plugin` or `Project`.
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The package's own name.
    #[serde(rename = "Name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line for lists.
    #[serde(rename = "Description", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The shelf it stands on.
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
    /// From `publish.yaml`, else null.
    #[serde(rename = "Type")]
    pub kind: Option<String>,
    /// The tag's semantic version without `v`; null where the tag has none.
    pub version: Option<String>,
    /// Seconds since 1970-01-01 of `published_at`, else of `created_at`.
    pub publish_time: i64,
    /// The release notes.
    pub version_body: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_fold_case_and_refuse_what_a_forge_refuses() {
        let name: PackageName = "DevsApp/FC3".parse().expect("valid");
        assert_eq!(name, "devsapp/fc3".parse().expect("valid"));
        assert_eq!((name.to_string().as_str(), name.folded().as_str()), ("DevsApp/FC3", "devsapp/fc3"));
        for text in ["", "a", "/b", "a/", "a/..", "./b", "a/b/c", "a b/c", "a/b%2f", "ä/b", "a/b\n"] {
            assert!(text.parse::<PackageName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn versions_tell_tags_branches_and_commits_apart() {
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
    fn only_semantic_versions_toggle_their_v() {
        assert_eq!(with_v_toggled("1.2.3").as_deref(), Some("v1.2.3"));
        assert_eq!(with_v_toggled("v1.2.3-rc.1").as_deref(), Some("1.2.3-rc.1"));
        assert_eq!(with_v_toggled("main"), None);
        assert_eq!(with_v_toggled("v1"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_what_is_parsed_prints_back(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<PackageName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string().parse::<Version>(), Ok(version));
            }
        }
    }
}
