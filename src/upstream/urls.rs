//! The addresses of an upstream's resources.

use url::Url;

use crate::{entry::PageValidator, package::PackageName, value::BaseUrl};

/// The base URLs of an upstream.
#[derive(Clone)]
pub(super) struct ApiUrls {
    pub(super) api: BaseUrl,
    /// `None` for registries, which have no web pages.
    pub(super) web: Option<BaseUrl>,
}

impl ApiUrls {
    /// `{api}/…`; a slash within a segment is encoded.
    pub(super) fn api<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        append(&self.api, segments)
    }

    /// `{api}/repos/{owner}/{repo}/…`; a slash within a segment is encoded.
    pub(super) fn repository<'s>(&self, package: &'s PackageName, segments: impl IntoIterator<Item = &'s str>) -> Url {
        self.api(["repos"].into_iter().chain(path(package)).chain(segments))
    }

    /// `{web}/{owner}/{repo}/…`; a slash within a segment is encoded.
    pub(super) fn web<'s>(&self, package: &'s PackageName, segments: impl IntoIterator<Item = &'s str>) -> Url {
        append(self.web.as_ref().unwrap_or(&self.api), path(package).chain(segments))
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

/// True when a stored page was fetched from this address. Case is ignored, as forges and the page's cache key do for owner
/// and repository: another spelling must not discard its validators.
pub(super) fn is_same_url(page: &PageValidator, url: &Url) -> bool {
    page.url.eq_ignore_ascii_case(url.as_str())
}
