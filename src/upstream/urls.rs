//! The addresses of a forge's repositories.

use url::Url;

use crate::{package::PackageName, value::BaseUrl};

/// The base URLs of a forge.
pub(super) struct ForgeUrls {
    pub(super) api: BaseUrl,
    pub(super) web: BaseUrl,
}

impl ForgeUrls {
    /// `{api}/repos/{owner}/{repo}/…`; a slash within a segment is encoded.
    pub(super) fn repository<'s>(&self, package: &'s PackageName, segments: impl IntoIterator<Item = &'s str>) -> Url {
        append(&self.api, ["repos"].into_iter().chain(path(package)).chain(segments))
    }

    /// `{web}/{owner}/{repo}/…`; a slash within a segment is encoded.
    pub(super) fn web<'s>(&self, package: &'s PackageName, segments: impl IntoIterator<Item = &'s str>) -> Url {
        append(&self.web, path(package).chain(segments))
    }
}

/// `owner`, `repo`; or the plain name.
fn path(package: &PackageName) -> impl Iterator<Item = &str> {
    package.owner().into_iter().chain([package.base_name()])
}

/// `base` with path segments appended; each stays one segment whatever it contains.
fn append<'s>(base: &BaseUrl, segments: impl IntoIterator<Item = &'s str>) -> Url {
    let mut url = base.url().clone();
    // Fails only for URLs without a path, and a `BaseUrl` is always http or https.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}
