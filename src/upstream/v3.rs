//! The registry of the 3.x CLI. Every response is `{"request_id", "body"}`; a string in `body` is an error, whatever the
//! status.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Map, Value};
use url::Url;

use super::{
    ReleaseLookup, ZipPacking,
    api_profile::ApiProfile,
    body::SizeMeter,
    call_log::CallLog,
    client::ApiClient,
    credentials, documents,
    envelope::{self, EnvelopeValue},
    error_class::{self, ErrorClass, ErrorResponse},
    failure::invalid,
    pages,
    registry_api::RegistryApi,
    registry_release::{self, FirstSeenDates},
    request::{DocumentRequest, DocumentResponse, RequestKind},
};
use crate::{
    entry::{Document, PageValidator},
    origin::{FetchError, FetchedDocument, Missing},
    package::{CatalogPackage, PackageName, Release, Releases},
};

/// The error text for a package or a version that does not exist. Any other text is trouble.
const MISSING: &str = "未找到指定资源";
/// Most pages of a release list. How many releases a page has is not known.
const MAX_LIST_PAGES: usize = 100;

/// The v3 registry.
pub(super) enum V3 {}

impl RegistryApi for V3 {
    const PROFILE: &'static ApiProfile = &ApiProfile {
        credential: &credentials::REGISTRY,
        headers: &[],
        accept: "application/json",
        accept_zip: "*/*",
        classify,
    };

    const ZIP_PACKING: ZipPacking = ZipPacking::Root;

    const RELEASE_LOOKUP: ReleaseLookup = ReleaseLookup::ByTag;

    /// Fetches pages until an empty or a repeated one. An unchanged first page renews the whole list, unless all pages were
    /// last fetched too long ago: a new release is on the first page.
    async fn releases(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let first = page_url(client, package, 1);
        let known = client
            .applicable_validators(call, stored, &first)
            .filter(|known| pages::is_recently_fetched(known, client));
        let validator = known.and_then(|known| known.pages.first()).filter(|page| documents::has_validator(page));
        let first_seen = FirstSeenDates::of_list(stored);
        let mut meter = client.meter();
        let mut list = Releases { truncated: true, ..Releases::default() };
        let mut tags = HashSet::new();
        let mut validators = Vec::new();
        for number in 1..=MAX_LIST_PAGES {
            let url = page_url(client, package, number);
            let request = DocumentRequest::new(&url, Missing::Package);
            let validator = validator.filter(|_| number == 1);
            let page = match fetch_page(client, call, request, validator, &mut meter, &first_seen).await {
                Ok(FetchedPage::Changed(page)) => page,
                Ok(FetchedPage::NotModified) => {
                    return Ok(FetchedDocument::NotModified { validators: known.cloned().unwrap_or_default() });
                }
                Err(FetchError::NotFound(_)) if number > 1 => ListPage::default(),
                Err(error) => return Err(error),
            };
            if number == 1 {
                validators.push(page.validator);
            }
            let before = list.releases.len();
            // A release that is published between two pages moves an earlier one to the next page.
            list.releases.extend(page.releases.into_iter().filter(|release| tags.insert(release.tag_name.clone())));
            if list.releases.len() == before {
                list.truncated = false;
                break;
            }
        }
        if list.truncated {
            pages::warn_of_cut(client, call, list.releases.len());
        }
        if list.releases.is_empty() {
            ensure_exists(client, call, package).await?;
        }
        documents::changed_document(&list, client.new_validators(call, validators))
    }

    async fn has_releases(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        kind: RequestKind,
    ) -> Result<bool, FetchError> {
        let url = page_url(client, package, 1);
        let request = DocumentRequest { kind, ..DocumentRequest::new(&url, Missing::Package) };
        let first_seen = FirstSeenDates::of_list(None);
        let mut meter = client.meter();
        match fetch_page(client, call, request, None, &mut meter, &first_seen).await? {
            FetchedPage::Changed(page) => Ok(!page.releases.is_empty()),
            FetchedPage::NotModified => Err(invalid("304 to an unconditional request")),
        }
    }

    async fn latest(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        kind: RequestKind,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let url = package_url(client, package, &["release", "latest"]);
        let request = DocumentRequest { kind, ..DocumentRequest::new(&url, Missing::Release) };
        fetch_release(client, call, request, stored).await
    }

    async fn release(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        version: &str,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let url = package_url(client, package, &["release", "tags", version]);
        fetch_release(client, call, DocumentRequest::new(&url, Missing::Version), stored).await
    }

    /// Builds the address: the `zipball_url` of a release is never followed.
    fn zip_urls(client: &ApiClient, package: &PackageName, version: &str) -> Vec<Url> {
        vec![package_url(client, package, &["zipball", version])]
    }

    fn refusal(json: &[u8]) -> FetchError {
        match read_envelope(json, Missing::Version, |_| Some(())) {
            Err(error @ FetchError::NotFound(_)) => error,
            _ => invalid("JSON instead of a zip"),
        }
    }

    async fn catalog(client: &ApiClient, call: &CallLog<'_>) -> Result<Vec<CatalogPackage>, FetchError> {
        let mut url = client.urls.api(["packages", "releases"]);
        url.query_pairs_mut().append_pair("page", "-1");
        let request =
            DocumentRequest { kind: RequestKind::AnonymousApi, ..DocumentRequest::new(&url, Missing::Package) };
        let DocumentResponse::Body(body) = client.request_document(call, request, None).await? else {
            return Err(invalid("304 to an unconditional request"));
        };
        let mut meter = client.meter();
        let json = body.read_all(&mut meter).await?;
        match read_envelope(&json, Missing::Package, |row| registry_release::catalog_package(&row))? {
            EnvelopeValue::Array { read, broken } if broken == 0 || !read.is_empty() => Ok(read),
            _ => Err(invalid("not a list of packages")),
        }
    }
}

/// The answer to the request for one page of a release list.
enum FetchedPage {
    NotModified,
    Changed(ListPage),
}

/// The releases of one page of a list.
#[derive(Default)]
struct ListPage {
    releases: Vec<Release>,
    validator: PageValidator,
}

/// Fetches one page of a release list.
async fn fetch_page(
    client: &ApiClient,
    call: &CallLog<'_>,
    request: DocumentRequest<'_>,
    validator: Option<&PageValidator>,
    meter: &mut SizeMeter,
    first_seen: &FirstSeenDates,
) -> Result<FetchedPage, FetchError> {
    let body = match client.request_document(call, request, validator).await? {
        DocumentResponse::NotModified => return Ok(FetchedPage::NotModified),
        DocumentResponse::Body(body) => body,
    };
    let validator = documents::page_validator(request.url, body.headers(), 0, None);
    let json = body.read_all(meter).await?;
    match read_envelope(&json, request.missing, |row| registry_release::release(row, first_seen))? {
        EnvelopeValue::Array { read, broken } if broken > 0 && read.is_empty() => {
            Err(invalid("a list without one valid release"))
        }
        EnvelopeValue::Array { read, broken } => {
            if broken > 0 {
                pages::warn_of_broken(client, call, broken);
            }
            Ok(FetchedPage::Changed(ListPage {
                validator: PageValidator { items: read.len(), ..validator },
                releases: read,
            }))
        }
        _ => Err(invalid("not a release list")),
    }
}

/// Checks, after an empty release list, that the package exists: its list may be empty, too.
///
/// # Errors
/// `NotFound(Missing::Package)` without a latest release.
async fn ensure_exists(client: &ApiClient, call: &CallLog<'_>, package: &PackageName) -> Result<(), FetchError> {
    match V3::latest(client, call, package, RequestKind::Api, None).await {
        Ok(_) => Ok(()),
        Err(FetchError::NotFound(_)) => Err(FetchError::NotFound(Missing::Package)),
        Err(error) => Err(error),
    }
}

/// Fetches one release.
async fn fetch_release(
    client: &ApiClient,
    call: &CallLog<'_>,
    request: DocumentRequest<'_>,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    let parse = |json: &[u8]| match read_envelope(json, request.missing, |_| Some(()))? {
        EnvelopeValue::Object(release) => {
            let first_seen = FirstSeenDates::of_release(stored);
            registry_release::release(release, &first_seen).ok_or_else(|| invalid("not a release"))
        }
        _ => Err(invalid("not a release")),
    };
    documents::fetch_single(client, call, request, stored, parse).await
}

/// Reads the value in an envelope.
///
/// # Errors
/// `NotFound(missing)` for the text of an absence; `Invalid` for any other text, which is not repeated.
fn read_envelope<T>(
    json: &[u8],
    missing: Missing,
    element: impl Fn(Map<String, Value>) -> Option<T>,
) -> Result<EnvelopeValue<T>, FetchError> {
    match envelope::read(json, "body", element)? {
        EnvelopeValue::Text(text) if text == MISSING => Err(FetchError::NotFound(missing)),
        EnvelopeValue::Text(_) => Err(invalid("an error message")),
        value => Ok(value),
    }
}

fn classify(response: ErrorResponse<'_>, now: Timestamp) -> ErrorClass {
    let is_absence = |text: &[u8]| {
        let value = read_envelope(text, Missing::Package, |_| Some(()));
        matches!(value, Err(FetchError::NotFound(_)))
    };
    error_class::registry(response, now, is_absence)
}

/// `{api}/packages/{name}/…`
fn package_url(client: &ApiClient, package: &PackageName, segments: &[&str]) -> Url {
    client.urls.api(["packages", package.base_name()].into_iter().chain(segments.iter().copied()))
}

fn page_url(client: &ApiClient, package: &PackageName, number: usize) -> Url {
    let mut url = package_url(client, package, &["release"]);
    url.query_pairs_mut().append_pair("page", &number.to_string());
    url
}
