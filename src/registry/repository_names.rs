//! The names of a repository: the one that is asked for, and the one that it has now.

use super::package_documents::PackageDocuments;
use crate::{
    package::{PackageId, PackageName, Repository},
    upstream::DocumentAsk,
};

/// The name that a repository has now, where that is not the package's.
pub(super) fn renamed(package: &PackageId, repository: &Repository) -> Option<PackageId> {
    let name: PackageName = repository.full_name.parse().ok()?;
    let present = PackageId { upstream: package.upstream.clone(), name };
    (present.key_prefix() != package.key_prefix()).then_some(present)
}

/// The names of a package: that of the request, and the one that its repository has now, where a stored document says that
/// it was renamed. A version is served only if the rules permit it under both.
pub(super) async fn names_of(documents: &PackageDocuments, package: &PackageId) -> Vec<PackageId> {
    let mut names = vec![package.clone()];
    if let Some(document) = documents.stored().document(package, &DocumentAsk::Repository).await
        && let Some(repository) = documents.stored().parse_repository(&document).await
    {
        names.extend(renamed(package, &repository));
    }
    names
}
