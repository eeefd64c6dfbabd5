//! The stylesheet and the icon of the pages. Their addresses contain a digest of their content, so clients may cache them for
//! ever.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, Response, header, request::Parts};

use super::html;
use crate::{
    dialect::{Dialect, Reason, RouteError},
    entry::Digest,
    http::body::Body,
    service::{error::ApiError, headers::immutable},
};

const STYLE: &str = include_str!("templates/style.css");
const ICON: &str = include_str!("templates/icon.svg");
/// Digits of the digest in a name.
const DIGEST_DIGITS: usize = 16;

/// The names of the present files.
pub(super) static ASSET_NAMES: LazyLock<AssetNames> = LazyLock::new(|| AssetNames {
    style: format!("{}.css", short_digest(STYLE)),
    icon: format!("{}.svg", short_digest(ICON)),
});

/// The names of the files, each with a digest of its content.
pub(super) struct AssetNames {
    pub(super) style: String,
    pub(super) icon: String,
}

fn short_digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string().chars().take(DIGEST_DIGITS).collect()
}

/// Responds with a file.
///
/// # Errors
/// For another name than the present ones.
pub(super) fn respond(parts: &Parts, name: &str) -> Result<Response<Body>, ApiError> {
    let found = match name {
        name if name == ASSET_NAMES.style => (STYLE, "text/css; charset=utf-8"),
        name if name == ASSET_NAMES.icon => (ICON, "image/svg+xml"),
        _ => {
            let reason = Reason::NotFound("this mirror has no such page".into());
            return Err(ApiError::Route(RouteError { dialect: Dialect::Srm, reason }));
        }
    };
    let mut response = html::content(Bytes::from_static(found.0.as_bytes()), parts);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(found.1));
    headers.insert(header::CACHE_CONTROL, immutable(0));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
