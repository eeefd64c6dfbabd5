//! The package that a request names, found: a package on its upstream, or a folder of one.

use std::sync::Arc;

use crate::{
    package::{FolderPackage, Metadata, PackageId, Release, Releases},
    registry::{CachedValue, Registry, RegistryError},
};

/// A package that a request names, found on its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FoundPackage {
    /// A package of an upstream.
    Package(PackageId),
    /// A folder of a repository.
    Folder(Arc<FolderPackage>),
}

impl FoundPackage {
    /// The package that is fetched, stored and checked: of a folder the repository.
    pub(super) fn id(&self) -> &PackageId {
        match self {
            Self::Package(package) => package,
            Self::Folder(folder) => &folder.repository,
        }
    }

    /// The folder, if it is one.
    pub(super) fn folder(&self) -> Option<&FolderPackage> {
        match self {
            Self::Package(_) => None,
            Self::Folder(folder) => Some(folder),
        }
    }

    /// The package in the spelling of its links: two packages never have the same.
    pub(super) fn spelling(&self) -> Box<str> {
        let spelling = match self {
            Self::Package(package) => [&*package.upstream, "/", &package.name.to_string()].concat(),
            // No upstream has an empty name.
            Self::Folder(folder) => format!("/{}", folder.alias),
        };
        spelling.into()
    }

    /// Every release.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn releases(&self, registry: &Registry) -> Result<CachedValue<Releases>, RegistryError> {
        match self {
            Self::Package(package) => registry.documents().releases(package).await,
            Self::Folder(folder) => registry.folders().releases(folder).await,
        }
    }

    /// The latest release.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn latest(&self, registry: &Registry) -> Result<CachedValue<Release>, RegistryError> {
        match self {
            Self::Package(package) => registry.documents().latest(package).await,
            Self::Folder(folder) => registry.folders().latest(folder).await,
        }
    }

    /// The release of a version.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn release(
        &self,
        registry: &Registry,
        version: &str,
    ) -> Result<CachedValue<Release>, RegistryError> {
        match self {
            Self::Package(package) => registry.documents().release(package, version).await,
            Self::Folder(folder) => registry.folders().release(folder, version).await,
        }
    }

    /// The metadata record of a version.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn metadata(
        &self,
        registry: &Registry,
        version: &str,
    ) -> Result<CachedValue<Metadata>, RegistryError> {
        match self {
            Self::Package(package) => registry.metadata().record(package, version).await,
            Self::Folder(folder) => registry.folders().metadata(folder, version).await,
        }
    }

    /// The metadata records of every version.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn metadata_list(&self, registry: &Registry) -> Result<CachedValue<Vec<Metadata>>, RegistryError> {
        match self {
            Self::Package(package) => registry.metadata().list(package).await,
            Self::Folder(folder) => registry.folders().metadata_list(folder).await,
        }
    }
}
