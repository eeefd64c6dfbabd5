//! Checks of response headers.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, VIA},
};

use super::failure::invalid;
use crate::{origin::FetchError, value::BaseUrl};

/// Refuses a content coding of a zip: the request accepts `identity` only, and the encoded bytes would be stored and served
/// as the content itself.
pub(super) fn ensure_identity(headers: &HeaderMap) -> Result<(), FetchError> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(invalid("an encoded body")),
        _ => Ok(()),
    }
}

/// Refuses the media type of a page: a login form, or an error with status 200.
pub(super) fn ensure_not_html(headers: &HeaderMap) -> Result<(), FetchError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let page = kind.starts_with("text/") || ["html", "json", "xml"].iter().any(|word| kind.contains(word));
    if page { Err(invalid("a page instead of a zip")) } else { Ok(()) }
}

/// True when the request came back to this mirror, whose `Via` is `ours`: another hop reports a loop, or the response
/// passed through here.
pub(super) fn is_loop(response: &reqwest::Response, ours: &HeaderValue) -> bool {
    let by_us = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii() == ours.as_bytes())
    };
    response.status() == StatusCode::LOOP_DETECTED || response.headers().get_all(VIA).iter().any(by_us)
}

/// True for the response of a mirror like this one, by the name in its `Cache-Status` (RFC 9211).
pub(super) fn is_of_mirror(headers: &HeaderMap) -> bool {
    let named = |value: &HeaderValue| value.as_bytes().starts_with(b"srm-mirror");
    headers.get_all("cache-status").iter().any(named)
}

/// True where a mirror like this one has put a remark into its `Cache-Status`: one token of `detail`. Its other remarks are
/// beside it, separated by commas.
pub(super) fn mirror_remarks(headers: &HeaderMap, remark: &str) -> bool {
    let remarks = |value: &HeaderValue| {
        let mut params = value.to_str().unwrap_or_default().split(';').map(str::trim);
        let detail = params.find_map(|param| param.strip_prefix("detail="));
        detail.is_some_and(|detail| detail.trim_matches('"').split(',').any(|one| one.trim() == remark))
    };
    headers.get_all("cache-status").iter().any(remarks)
}

/// Tells from the responses of an API whether it is that of a mirror like this one.
pub(super) struct MirrorDetector {
    /// The last response was a mirror's, or there was none yet.
    may_be: AtomicBool,
    /// The last response was a mirror's.
    is: AtomicBool,
}

impl MirrorDetector {
    /// Begins for an API that has not answered yet. The APIs of the default upstreams are no mirrors.
    pub(super) fn new(api: &BaseUrl) -> Self {
        let is_default = super::defaults().values().any(|config| config.api == *api);
        Self { may_be: AtomicBool::new(!is_default), is: AtomicBool::new(false) }
    }

    /// Records a response of the API.
    pub(super) fn note(&self, headers: &HeaderMap) {
        let is_mirror = is_of_mirror(headers);
        self.may_be.store(is_mirror, Ordering::Relaxed);
        self.is.store(is_mirror, Ordering::Relaxed);
    }

    /// True when the API may be a mirror's.
    pub(super) fn may_be_mirror(&self) -> bool {
        self.may_be.load(Ordering::Relaxed)
    }

    /// True when the API has answered as a mirror.
    pub(super) fn is_mirror(&self) -> bool {
        self.is.load(Ordering::Relaxed)
    }
}
