//! The versions that can be published: `Major.Minor.Patch[-pre]`, and the moving versions `dev` and `dev.*`.

use std::{fmt, str::FromStr};

use crate::archive::package_model::is_published_version;

/// The moving version, and what stands before the dot of the others.
const MOVING: &str = "dev";

/// A version that can be published. Safe as the name of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionNumber {
    text: String,
    /// `None` for a moving version.
    semantic: Option<semver::Version>,
}

/// A text that is no version that can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a published version is written Major.Minor.Patch, perhaps with -pre, or is dev or dev.name; for example 1.0.0"
)]
pub(crate) struct VersionNumberError;

impl VersionNumber {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// True for `dev` and `dev.*`, which are published again and again.
    pub(crate) fn is_moving(&self) -> bool {
        self.semantic.is_none()
    }

    /// Its order among the versions of a package; `None` for a moving version.
    pub(crate) fn semantic(&self) -> Option<&semver::Version> {
        self.semantic.as_ref()
    }

    /// True when this text names a moving version.
    pub(crate) fn names_moving(text: &str) -> bool {
        text == MOVING || text.strip_prefix(MOVING).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl FromStr for VersionNumber {
    type Err = VersionNumberError;

    fn from_str(text: &str) -> Result<Self, VersionNumberError> {
        if !is_published_version(text) {
            return Err(VersionNumberError);
        }
        let semantic = match Self::names_moving(text) {
            true => None,
            false => Some(semver::Version::parse(text).map_err(|_| VersionNumberError)?),
        };
        Ok(Self { text: text.to_owned(), semantic })
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
