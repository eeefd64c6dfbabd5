//! Fetches documents that are one response, conditionally when one is stored; and the validators that documents are stored
//! with.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;
use serde::Serialize;
use url::Url;

use super::{
    call_log::CallLog,
    client::ApiClient,
    failure::invalid,
    normalise::{self, ReleaseEntry},
    request::{DocumentRequest, DocumentResponse},
};
use crate::{
    entry::{Document, PageValidator, Validators},
    origin::{FetchError, FetchedDocument, Missing},
    package::Release,
};

/// Fetches a single-response document and normalises it.
pub(super) async fn fetch_single<T: Serialize>(
    client: &ApiClient,
    call: &CallLog<'_>,
    request: DocumentRequest<'_>,
    stored: Option<&Document>,
    normalise: impl FnOnce(&[u8]) -> Result<T, FetchError>,
) -> Result<FetchedDocument, FetchError> {
    let known = client.applicable_validators(call, stored, request.url);
    let validator = known.and_then(|known| known.pages.first()).filter(|page| has_validator(page));
    match client.request_document(call, request, validator).await? {
        DocumentResponse::NotModified => Ok(FetchedDocument::NotModified { validators: renewed_validators(known) }),
        DocumentResponse::Body(body) => {
            let validators = client.new_validators(call, vec![page_validator(request.url, body.headers(), 1, None)]);
            let value = normalise(&body.read_all(&mut client.meter()).await?)?;
            changed_document(&value, validators)
        }
    }
}

/// Parses one release; a draft counts as not found.
pub(super) fn parse_release(json: &[u8], missing: Missing) -> Result<Release, FetchError> {
    match normalise::release(json) {
        ReleaseEntry::Release(release) | ReleaseEntry::Repaired(release) => Ok(*release),
        ReleaseEntry::Draft => Err(FetchError::NotFound(missing)),
        ReleaseEntry::Broken => Err(invalid("not a release")),
    }
}

/// The validators of a page. The `ETag` is stored as in the 200: GitHub's 304 has the same one without `W/`.
pub(super) fn page_validator(url: &Url, headers: &HeaderMap, items: usize, next: Option<&Url>) -> PageValidator {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    PageValidator {
        url: url.to_string(),
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
        items,
        next: next.map(Url::to_string),
    }
}

/// True for a page that can be requested conditionally.
pub(super) fn has_validator(page: &PageValidator) -> bool {
    page.etag.is_some() || page.last_modified.is_some()
}

/// The stored validators after a 304: as they are, with the time of now as that of the last fetch.
pub(super) fn renewed_validators(known: Option<&Validators>) -> Validators {
    Validators { last_full_fetch: Some(Timestamp::now()), ..known.cloned().unwrap_or_default() }
}

/// A document whose content is new: `value` as JSON.
///
/// # Errors
/// [`FetchError::Invalid`] when the value cannot be written as JSON.
pub(super) fn changed_document<T: Serialize>(value: &T, validators: Validators) -> Result<FetchedDocument, FetchError> {
    let body =
        serde_json::to_vec(value).map(Bytes::from).map_err(|_| invalid("a value that cannot be written as JSON"))?;
    Ok(FetchedDocument::Changed { body, validators })
}
