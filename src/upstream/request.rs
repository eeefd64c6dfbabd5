//! The requests that an [`super::client::ApiClient`] makes, and their successful responses.

use http::{
    HeaderMap, HeaderValue,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use url::Url;

use super::body::ResponseBody;
use crate::{
    entry::PageValidator,
    origin::{DownloadPlace, Missing},
};

/// The quota that a request uses, and whether it may carry the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// The API: with the credential.
    Api,
    /// The API, for what is public: without the credential.
    AnonymousApi,
    /// Web pages and archive hosts, which have their own limits: never with the credential.
    Archive,
}

/// A request for a document.
#[derive(Clone, Copy)]
pub(super) struct DocumentRequest<'a> {
    pub(super) url: &'a Url,
    /// `None` is the API's default.
    pub(super) accept: Option<&'static str>,
    pub(super) kind: RequestKind,
    /// The meaning of an absence.
    pub(super) missing: Missing,
}

impl<'a> DocumentRequest<'a> {
    /// A request to the API, with its credential and its default `Accept`.
    pub(super) fn new(url: &'a Url, missing: Missing) -> Self {
        Self { url, accept: None, kind: RequestKind::Api, missing }
    }
}

/// What a request accepts.
#[derive(Clone, Copy)]
pub(super) struct Accepts {
    /// `Accept`.
    pub(super) media_type: &'static str,
    /// `Accept-Encoding`.
    pub(super) coding: &'static str,
}

/// A successful response to a document request.
pub(super) enum DocumentResponse {
    /// 304, to a conditional request.
    NotModified,
    /// 200.
    Body(Box<ResponseBody>),
}

/// A successful response to an archive request.
pub(super) enum ArchiveResponse {
    /// 304, to a conditional request.
    NotModified,
    /// 200.
    Opened(OpenedArchive),
}

/// An archive whose body has not been read yet. It may still be a page.
pub(super) struct OpenedArchive {
    pub(super) body: Box<ResponseBody>,
    /// Its place among the downloads; none for one whose body is not to be read.
    pub(super) place: DownloadPlace,
    /// True when it was requested without a credential.
    pub(super) anonymous: bool,
    /// Who sent it: the API, or a host that it redirects to.
    pub(super) kind: RequestKind,
}

/// Makes a request conditional.
pub(super) fn add_condition(headers: &mut HeaderMap, validator: &PageValidator) {
    let mut condition = |name, value: &Option<String>| {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    // RFC 9110 §13.1.3: a recipient ignores If-Modified-Since when there is an If-None-Match.
    if validator.etag.is_some() {
        condition(IF_NONE_MATCH, &validator.etag);
    } else {
        condition(IF_MODIFIED_SINCE, &validator.last_modified);
    }
}
