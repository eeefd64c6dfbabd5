//! The lock file: exactly these zips. `cache lock` writes it, `warm --locked` reads it.
//!
//! It is TOML: `version = 1`, then one `[[package]]` per zip.

use std::{fs, io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin_api::{PinnedArchive, RefKind};

/// The version of the format.
const LOCK_FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct LockFile {
    version: u32,
    #[serde(default)]
    package: Vec<LockedPackage>,
}

/// One `[[package]]`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LockedPackage {
    /// The name of its upstream.
    pub(super) upstream: String,
    /// `owner/repo`, or a plain name.
    pub(super) package: String,
    /// What it was fetched by; a tag where the file does not say.
    #[serde(default)]
    pub(super) kind: RefKind,
    /// The tag or the commit.
    pub(super) version: String,
    /// SHA-256 of the zip, hexadecimal.
    pub(super) sha256: String,
    /// The full commit that the zip was made from, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<String>,
    /// When it was first seen. For people; it is not read.
    #[serde(skip_deserializing)]
    pub(super) first_seen: Option<Timestamp>,
}

/// What is wrong with a lock file.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockFormatError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no lock file.
    #[error("{}", .0.message())]
    Malformed(#[from] toml::de::Error),
    /// Another version of this program wrote it.
    #[error("version = {0}: another srm-mirror wrote it, this one knows version {LOCK_FORMAT}")]
    OtherVersion(u32),
}

impl From<PinnedArchive> for LockedPackage {
    fn from(PinnedArchive { archive, first_seen }: PinnedArchive) -> Self {
        Self {
            upstream: archive.upstream,
            package: archive.package,
            kind: archive.kind,
            version: archive.version,
            sha256: archive.sha256.to_string(),
            commit: archive.commit,
            first_seen: Some(first_seen),
        }
    }
}

/// The text of a lock file.
///
/// # Errors
/// Never for values that [`LockedPackage::from`] makes.
pub(super) fn render(package: Vec<LockedPackage>) -> Result<String, toml::ser::Error> {
    let file = toml::to_string(&LockFile { version: LOCK_FORMAT, package })?;
    Ok(format!("# Written by srm-mirror cache lock.\n{file}"))
}

/// Reads a lock file.
///
/// # Errors
/// See [`LockFormatError`].
pub(super) fn read(path: &Path) -> Result<Vec<LockedPackage>, LockFormatError> {
    parse(&fs::read_to_string(path)?)
}

/// Reads the text of a lock file.
///
/// # Errors
/// See [`LockFormatError`].
pub(super) fn parse(text: &str) -> Result<Vec<LockedPackage>, LockFormatError> {
    /// Read first: a file of another version may have fields that this one does not read.
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u32,
    }
    let VersionOnly { version } = toml::from_str(text)?;
    if version != LOCK_FORMAT {
        return Err(LockFormatError::OtherVersion(version));
    }
    let file: LockFile = toml::from_str(text)?;
    Ok(file.package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_one_table_per_zip() {
        let locked = |version: &str, commit: Option<&str>| LockedPackage {
            upstream: "github".into(),
            package: "devsapp/fc3".into(),
            kind: RefKind::Tag,
            version: version.into(),
            sha256: "ab".repeat(32),
            commit: commit.map(str::to_owned),
            first_seen: Some("2024-05-01T00:00:00Z".parse().expect("a time")),
        };
        let plain = LockedPackage { upstream: "official".into(), package: "fc3".into(), ..locked("0.1.22", None) };
        let text = render(vec![locked("v1.0.0", Some("abc")), locked("v\"2", None), plain]).expect("a text");
        let sum = "ab".repeat(32);
        assert_eq!(
            text,
            format!(
                "# Written by srm-mirror cache lock.\nversion = 1\n\n\
                 [[package]]\nupstream = \"github\"\npackage = \"devsapp/fc3\"\nkind = \"tag\"\nversion = \"v1.0.0\"\n\
                 sha256 = \"{sum}\"\ncommit = \"abc\"\nfirst_seen = \"2024-05-01T00:00:00Z\"\n\n\
                 [[package]]\nupstream = \"github\"\npackage = \"devsapp/fc3\"\nkind = \"tag\"\nversion = 'v\"2'\n\
                 sha256 = \"{sum}\"\nfirst_seen = \"2024-05-01T00:00:00Z\"\n\n\
                 [[package]]\nupstream = \"official\"\npackage = \"fc3\"\nkind = \"tag\"\nversion = \"0.1.22\"\n\
                 sha256 = \"{sum}\"\nfirst_seen = \"2024-05-01T00:00:00Z\"\n"
            )
        );
        let read = parse(&text).expect("a lock file");
        assert_eq!((read.len(), read[1].version.as_str(), read[1].commit.as_deref()), (3, "v\"2", None));
    }

    #[test]
    fn a_lock_file_of_another_version_is_refused_for_its_version() {
        let why = parse("version = 2\npackage = \"something else\"").expect_err("refused").to_string();
        assert!(why.contains("this one knows version 1"), "{why}");
        for text in ["x", "", "version = 1\npackage = 3"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
