//! The package specs of a lock file: exactly its zips.

use std::{collections::HashSet, path::Path};

use super::package_spec::{LockedContent, PackageSpec, PackageSpecError, VersionSelector, VersionSpec};
use crate::{
    admin_api::RefKind,
    cli::lock_file::{self, LockFormatError, LockedPackage},
    package::{NameError, Version},
};

/// A lock file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--locked {file}: {reason}")]
pub(super) struct LockFileError {
    file: String,
    reason: LockErrorReason,
}

#[derive(Debug, thiserror::Error)]
enum LockErrorReason {
    #[error(transparent)]
    Format(#[from] LockFormatError),
    #[error("{package}@{version}: \"{sha256}\" is no SHA-256")]
    NoDigest { package: String, version: String, sha256: String },
    #[error("{package}: \"{version}\" is no full commit")]
    NoCommit { package: String, version: String },
    #[error("{package}: \"{version}\" is no tag: {reason}")]
    NoTag { package: String, version: String, reason: NameError },
    #[error(transparent)]
    Spec(#[from] PackageSpecError),
    #[error("\"{0}\" is no package")]
    NoPackage(String),
    #[error("{0} is locked twice")]
    Duplicate(String),
}

/// Reads a lock file.
///
/// # Errors
/// When it cannot be read, has another format, or has an entry that is no package or stands twice.
pub(super) fn read(path: &Path) -> Result<Vec<PackageSpec>, LockFileError> {
    let packages = lock_file::read(path).map_err(LockErrorReason::from);
    let specs = packages.and_then(specs);
    specs.map_err(|reason| LockFileError { file: path.display().to_string(), reason })
}

fn specs(packages: Vec<LockedPackage>) -> Result<Vec<PackageSpec>, LockErrorReason> {
    let mut seen = HashSet::new();
    let once = |locked: LockedPackage| {
        let spec = spec(&locked)?;
        let package = format!("{}:{}", locked.upstream, locked.package);
        // The case of a repository does not count, that of a plain name does.
        let key = if locked.package.contains('/') { package.to_ascii_lowercase() } else { package.clone() };
        if seen.insert((key, locked.version.clone())) {
            Ok(spec)
        } else {
            Err(LockErrorReason::Duplicate(format!("{package}@{}", locked.version)))
        }
    };
    packages.into_iter().map(once).collect()
}

/// The spec of exactly this tag or commit: its text is never read as a range or as another selector.
fn spec(locked: &LockedPackage) -> Result<PackageSpec, LockErrorReason> {
    let LockedPackage { upstream, package, kind, version, sha256, commit, .. } = locked;
    let Ok(digest) = sha256.parse() else {
        let sha256 = sha256.clone();
        return Err(LockErrorReason::NoDigest { package: package.clone(), version: version.clone(), sha256 });
    };
    match kind {
        RefKind::Commit if !matches!(version.parse(), Ok(Version::Commit(_))) => {
            return Err(LockErrorReason::NoCommit { package: package.clone(), version: version.clone() });
        }
        RefKind::Commit => {}
        RefKind::Tag | RefKind::Moving => {
            if let Err(reason) = format!("refs/tags/{version}").parse::<Version>() {
                return Err(LockErrorReason::NoTag { package: package.clone(), version: version.clone(), reason });
            }
        }
    }
    let spec: PackageSpec = format!("{upstream}:{package}").parse()?;
    if spec.versions.is_some() {
        return Err(LockErrorReason::NoPackage(package.clone()));
    }
    let versions = VersionSpec { text: version.clone(), selector: VersionSelector::Ref };
    let content = LockedContent { sha256: digest, commit: commit.clone(), tag: *kind == RefKind::Tag };
    Ok(PackageSpec { versions: Some(versions), locked: Some(content), ..spec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Digest;

    fn parse(text: &str) -> Result<Vec<PackageSpec>, LockErrorReason> {
        specs(lock_file::parse(text)?)
    }

    #[test]
    fn entries_of_a_lock_file_become_exact_specs_and_wrong_ones_are_refused() {
        let sum = "ab".repeat(32);
        let row = |version: &str, sum: &str| {
            format!(
                "version = 1\n[[package]]\nupstream = \"github\"\npackage = \"devsapp/fc3\"\nkind = \"tag\"\n\
                 version = \"{version}\"\nsha256 = \"{sum}\"\nfirst_seen = \"2024-05-01T00:00:00Z\"\n"
            )
        };
        let specs = parse(&row("v1.0.0", &sum)).expect("good");
        assert_eq!(specs[0].package.path(), "/github/devsapp/fc3");
        let locked = specs[0].locked.as_ref().expect("locked");
        assert_eq!(locked.difference(Digest([0xab; 32]), None), None);
        assert!(locked.difference(Digest([0xcd; 32]), None).is_some());
        let plain = row("0.1.22", &sum).replace("github", "official").replace("devsapp/fc3", "fc3");
        assert_eq!(parse(&plain).expect("good")[0].package.path(), "/official/fc3");
        for text in ["version = 2", "x", &row("a b", &sum), &row("v1", "ab"), ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
