//! The entries of `names.aliases`: names of packages, and of folders of repositories.

use std::sync::Arc;

use super::{Names, names_error::AliasError};
use crate::package::{FolderPackage, NameForm, PackageName, PackageRef};

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
