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
        append(&self.api, ["repos", package.owner(), package.repo()].into_iter().chain(segments))
    }

    /// `{web}/{owner}/{repo}/…`; a slash within a segment is encoded.
    pub(super) fn web<'s>(&self, package: &'s PackageName, segments: impl IntoIterator<Item = &'s str>) -> Url {
        append(&self.web, [package.owner(), package.repo()].into_iter().chain(segments))
    }
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
