//! The entries of `names.aliases`: names of packages, and of folders of repositories.

use std::sync::Arc;

use super::{Names, PackageError};
use crate::package::{FolderPackage, FolderPathError, NameError, NameForm, PackageName, PackageRef};

/// Why an alias cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// The key is no name.
    #[error("the name's {0}")]
    Name(NameError),
    /// The first segment of the key is reserved.
    #[error("no path reaches it, {0} is a route of the mirror or an upstream")]
    Unreachable(String),
    /// Two keys are equal without case.
    #[error("another alias has this name; names compare without case")]
    Duplicate,
    /// The value is no package.
    #[error(transparent)]
    Package(PackageError),
    /// The value has two slashes, and what stands behind them is no folder.
    #[error("the path of the folder {0}{example}", example = FOLDER_EXAMPLE)]
    FolderPath(FolderPathError),
    /// A folder of a package of a registry.
    #[error("{0} is no forge, and only repositories have folders{example}", example = FOLDER_EXAMPLE)]
    FolderOfRegistry(String),
    /// A folder whose alias is `owner/name`.
    #[error("a folder's alias has no slash{example}", example = FOLDER_EXAMPLE)]
    FolderWithOwner,
}

impl AliasError {
    /// True when the text of the error has an example.
    pub fn has_example(&self) -> bool {
        match self {
            Self::FolderPath(_) | Self::FolderOfRegistry(_) | Self::FolderWithOwner => true,
            Self::Name(_) | Self::Unreachable(_) | Self::Duplicate | Self::Package(_) => false,
        }
    }
}

/// The end of every error about the folder of an alias.
const FOLDER_EXAMPLE: &str = "; for example start-x = \"github:acme/apps//start-x\"";

/// Checks the key of an alias: `name` or `owner/name`.
pub(super) fn check_key(names: &Names, key: &str) -> Result<(), AliasError> {
    key.parse::<PackageName>().map_err(AliasError::Name)?;
    let first = key.split('/').next().unwrap_or_default();
    if names.is_reserved(first) {
        return Err(AliasError::Unreachable(first.to_owned()));
    }
    Ok(())
}

/// Parses the value of an alias: a package, or `owner/repo//folder` with or without an upstream.
pub(super) fn parse_value(names: &Names, key: &str, value: &str) -> Result<PackageRef, AliasError> {
    let Some((repository, path)) = value.split_once("//") else {
        return Ok(names.parse_id(value).map_err(AliasError::Package)?.into());
    };
    let repository = names.parse_id(repository).map_err(AliasError::Package)?;
    if repository.name.form() == NameForm::Plain {
        return Err(AliasError::FolderOfRegistry(repository.upstream.to_string()));
    }
    let alias = PackageName::plain(key).map_err(|_| AliasError::FolderWithOwner)?;
    let path = path.parse().map_err(AliasError::FolderPath)?;
    Ok(PackageRef::Folder(Arc::new(FolderPackage { alias, repository, path })))
}
