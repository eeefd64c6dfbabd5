//! Zips of registries: opened, or only asked whether they have changed.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, header};
use jiff::Timestamp;
use std::time::Duration;
use url::Url;

use super::{
    body::ResponseBody,
    call_log::CallLog,
    client::ApiClient,
    documents,
    failure::invalid,
    request::{ArchiveResponse, OpenedArchive, RequestKind},
    response::ensure_not_html,
};
use crate::{
    entry::{Digest, Document, Validators},
    origin::{DownloadPlace, FetchError, FetchedBody, FetchedDocument, Missing},
    package::MovingHead,
};

/// Hexadecimal digits of a revision.
const REVISION_DIGITS: usize = 40;
/// A moving version whose zips have no validators is taken for changed after this time.
const UNVALIDATED_PERIOD: Duration = Duration::from_secs(600);
/// Most bytes of JSON in place of a zip that are read.
const MAX_REFUSAL_BYTES: usize = 16 << 10;

/// Opens the zip at the first of `urls` that has it. `refusal` says what JSON in place of a zip means.
pub(super) async fn open(
    client: &ApiClient,
    call: &CallLog<'_>,
    urls: Vec<Url>,
    refusal: fn(&[u8]) -> FetchError,
) -> Result<FetchedBody, FetchError> {
    let mut absent = FetchError::NotFound(Missing::Version);
    for url in urls {
        let opened = client.open_archive(call, url, RequestKind::Api).await;
        let checked = match opened {
            Ok(opened) => ensure_zip(opened, refusal).await,
            Err(error) => Err(error),
        };
        match checked {
            Ok(zip) => {
                let first = stream::iter(zip.first.into_iter().map(Ok));
                let body = first.chain(zip.body.into_stream()).boxed();
                return Ok(FetchedBody { len: zip.len, anonymous: zip.anonymous, body, place: zip.place });
            }
            Err(error @ FetchError::NotFound(_)) => absent = error,
            Err(error) => return Err(error),
        }
    }
    Err(absent)
}

/// Asks whether the zip of a moving version has changed, and drops its body: [`MovingHead`]. An unchanged one costs one
/// conditional request. Without validators it counts as changed after [`UNVALIDATED_PERIOD`], before which nothing is asked.
pub(super) async fn fetch_head(
    client: &ApiClient,
    call: &CallLog<'_>,
    urls: Vec<Url>,
    refusal: fn(&[u8]) -> FetchError,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    let mut absent = FetchError::NotFound(Missing::Version);
    for url in urls {
        let known = client.applicable_validators(call, stored, &url);
        let validator = known.and_then(|known| known.pages.first()).filter(|page| documents::has_validator(page));
        if let Some(known) = known.filter(|known| validator.is_none() && is_recent(known)) {
            return Ok(FetchedDocument::NotModified { validators: known.clone() });
        }
        let checked = match client.probe_archive(call, url.clone(), validator).await {
            Ok(ArchiveResponse::NotModified) => {
                return Ok(FetchedDocument::NotModified { validators: documents::renewed_validators(known) });
            }
            Ok(ArchiveResponse::Opened(opened)) => ensure_zip(opened, refusal).await,
            Err(error) => Err(error),
        };
        match checked {
            Ok(zip) => {
                let page = documents::page_validator(&url, zip.body.headers(), 1, None);
                let validators = client.new_validators(call, vec![page]);
                return documents::changed_document(&MovingHead { revision: revision(zip.body.headers()) }, validators);
            }
            Err(error @ FetchError::NotFound(_)) => absent = error,
            Err(error) => return Err(error),
        }
    }
    Err(absent)
}

/// An archive that begins like no page and no JSON.
struct CheckedZip {
    /// The first bytes; `None` for an empty body.
    first: Option<Bytes>,
    /// The announced length of the whole body.
    len: Option<u64>,
    body: Box<ResponseBody>,
    place: DownloadPlace,
    anonymous: bool,
}

/// Reads the first bytes. JSON that the API sends in place of a zip is the registry's word; anything else that is no zip
/// is invalid.
async fn ensure_zip(opened: OpenedArchive, refusal: fn(&[u8]) -> FetchError) -> Result<CheckedZip, FetchError> {
    let OpenedArchive { mut body, place, anonymous, kind } = opened;
    let len = body.content_length();
    let first = body.chunk().await?;
    let beginning = first.as_deref().unwrap_or_default().trim_ascii_start();
    let is_json = beginning.starts_with(b"{");
    if is_json && kind != RequestKind::Archive {
        let json = read_refusal(first.unwrap_or_default(), body).await?;
        return Err(refusal(&json));
    }
    if is_json {
        return Err(invalid("JSON instead of a zip"));
    }
    if !beginning.starts_with(b"PK") {
        ensure_not_html(body.headers())?;
    }
    Ok(CheckedZip { first, len, body, place, anonymous })
}

async fn read_refusal(first: Bytes, mut body: Box<ResponseBody>) -> Result<Vec<u8>, FetchError> {
    let mut json = first.to_vec();
    while json.len() <= MAX_REFUSAL_BYTES {
        let Some(chunk) = body.chunk().await? else { return Ok(json) };
        json.extend_from_slice(&chunk);
    }
    Err(invalid("JSON instead of a zip"))
}

/// Identifies content by its validators; without any, by the time.
fn revision(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = text(header::ETAG);
    let last_modified = text(header::LAST_MODIFIED);
    let content = match (etag, last_modified) {
        (None, None) => format!("fetched {}", Timestamp::now()),
        _ => format!("{etag:?} {last_modified:?} {:?}", text(header::CONTENT_LENGTH)),
    };
    let mut revision = Digest::of(content.as_bytes()).to_string();
    revision.truncate(REVISION_DIGITS);
    revision
}

fn is_recent(known: &Validators) -> bool {
    let age = known.last_full_fetch.and_then(|asked| Timestamp::now().duration_since(asked).try_into().ok());
    age.is_some_and(|age: Duration| age < UNVALIDATED_PERIOD)
}
