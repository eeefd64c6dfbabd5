//! Names of packages: a repository of a forge, or a plain name of a registry; on an upstream, or still to be routed.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest accepted part of a name, in bytes (GitHub: 39 and 100; Gitee: 100 and 191).
const MAX_NAME_BYTES: usize = 191;

/// The name of a package on its upstream: a repository of a forge, or a plain name of a registry.
///
/// Keeps its spelling for display. Repositories compare without case, as forges do; plain names compare exactly.
#[derive(Clone, Debug)]
pub struct PackageName {
    /// `None` for a plain name.
    owner: Option<String>,
    /// The repository, or the plain name.
    name: String,
}

/// The two forms of a package's name. An upstream's kind decides which one its packages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameForm {
    /// `owner/repo`: forges.
    Repository,
    /// One segment: registries.
    Plain,
}

/// Why a name or a version is rejected. The text is shown to clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

impl PackageName {
    /// The name of a repository.
    ///
    /// # Errors
    /// If a part is empty, too long, `.` or `..`, or has a character outside `A-Z a-z 0-9 . _ -`.
    pub fn new(owner: &str, repo: &str) -> Result<Self, NameError> {
        check_name("owner", owner)?;
        check_name("repo", repo)?;
        Ok(Self { owner: Some(owner.to_owned()), name: repo.to_owned() })
    }

    /// A plain name, as registries have it.
    ///
    /// # Errors
    /// As [`PackageName::new`] for one part.
    pub fn plain(name: &str) -> Result<Self, NameError> {
        check_name("name", name)?;
        Ok(Self { owner: None, name: name.to_owned() })
    }

    /// Parses a name of one form.
    ///
    /// # Errors
    /// If the text has the other form, or as [`PackageName::new`].
    pub fn parse_as(form: NameForm, text: &str) -> Result<Self, NameError> {
        match (form, text.split_once('/')) {
            (NameForm::Repository, Some((owner, repo))) => Self::new(owner, repo),
            (NameForm::Repository, None) => Err(NameError("package must be written owner/repo".into())),
            (NameForm::Plain, None) => Self::plain(text),
            (NameForm::Plain, Some(_)) => Err(NameError("package must be one name without a slash".into())),
        }
    }

    /// The form of this name.
    pub fn form(&self) -> NameForm {
        if self.owner.is_some() { NameForm::Repository } else { NameForm::Plain }
    }

    /// The owner in its original spelling; `None` for a plain name.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The last part in its original spelling: the repository, or the plain name.
    pub fn base_name(&self) -> &str {
        &self.name
    }

    /// The name in lower case, for every comparison that protects: patterns, aliases, recorded sources.
    pub fn folded(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

/// A package on one upstream. Compares as its name does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageId {
    /// The configured name of the upstream.
    pub upstream: Arc<str>,
    /// The name in the spelling of the client or the configuration.
    pub name: PackageName,
}

impl PackageId {
    /// The prefix of every key of the package: `upstream/owner/repo` in lower case for a repository, `upstream:name` for
    /// a plain name, whose case counts.
    pub fn key_prefix(&self) -> String {
        match self.name.form() {
            NameForm::Repository => format!("{}/{}", self.upstream, self.name.folded()),
            NameForm::Plain => format!("{}:{}", self.upstream, self.name),
        }
    }

    /// `upstream:name`, as commands and lists write a package.
    pub fn spec(&self) -> String {
        format!("{}:{}", self.upstream, self.name)
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
        match (&self.owner, &other.owner) {
            (Some(owner), Some(other_owner)) => {
                owner.eq_ignore_ascii_case(other_owner) && self.name.eq_ignore_ascii_case(&other.name)
            }
            (None, None) => self.name == other.name,
            _ => false,
        }
    }
}

impl Eq for PackageName {}

impl FromStr for PackageName {
    type Err = NameError;

    /// Parses `owner/repo` or a plain name.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = if text.contains('/') { NameForm::Repository } else { NameForm::Plain };
        Self::parse_as(form, text)
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
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
        for text in ["", "/b", "a/", "a/..", "./b", "a/b/c", "a b/c", "a/b%2f", "ä/b", "a/b\n", "..", "a b", "ä"] {
            assert!(text.parse::<PackageName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn plain_names_keep_their_case_and_differ_from_repositories() {
        let plain: PackageName = "FC3".parse().expect("valid");
        assert_eq!((plain.owner(), plain.base_name(), plain.folded().as_str()), (None, "FC3", "fc3"));
        assert_ne!(plain, "fc3".parse().expect("valid"));
        assert_ne!(plain, "x/FC3".parse().expect("valid"));
        let id = |name: &PackageName| PackageId { upstream: "official".into(), name: name.clone() };
        assert_eq!(id(&plain).key_prefix(), "official:FC3");
        assert_eq!(id(&"A/b".parse().expect("valid")).key_prefix(), "official/a/b");
    }

    proptest! {
        #[test]
        fn parsed_name_prints_back_unchanged(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<PackageName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
