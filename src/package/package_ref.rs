//! A package as a request names it.

use std::sync::Arc;

use super::{FolderPackage, PackageId, PackageName};

/// A package as a request names it: on an upstream, or by a name whose source the routes decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageRef {
    /// An upstream's package: by prefix or by alias.
    Id(PackageId),
    /// A folder of a repository: by alias.
    Folder(Arc<FolderPackage>),
    /// A name without an upstream.
    Routed(PackageName),
}

impl PackageRef {
    /// The name of the package; of a folder its alias.
    pub fn name(&self) -> &PackageName {
        match self {
            Self::Id(id) => &id.name,
            Self::Folder(folder) => &folder.alias,
            Self::Routed(name) => name,
        }
    }
}

impl From<PackageId> for PackageRef {
    fn from(id: PackageId) -> Self {
        Self::Id(id)
    }
}
