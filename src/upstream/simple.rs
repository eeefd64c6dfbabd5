//! The registry of the 2.x CLI. Every response is `{"Response": value}`, or `{"Response": {"Error": {"Code", "Message"}}}`.
//!
//! A package has its address with or without its provider in front; both are tried.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use super::{
    ReleaseLookup, ZipPacking,
    api_profile::ApiProfile,
    call_log::CallLog,
    client::ApiClient,
    config::SIMPLE_PROVIDER,
    credentials, documents,
    envelope::{self, EnvelopeValue},
    error_class::{self, ErrorClass, ErrorResponse},
    failure::invalid,
    pages,
    registry_api::RegistryApi,
    registry_release::{self, FirstSeenDates},
    request::{DocumentRequest, RequestKind},
};
use crate::{
    entry::Document,
    origin::{FetchError, FetchedDocument, Missing},
    package::{PackageName, Release, Releases},
};

/// The code of an error that means absence. Any other error is trouble.
const NOT_FOUND: &str = "NotFound";

/// The simple registry.
pub(super) enum Simple {}

impl RegistryApi for Simple {
    const PROFILE: &'static ApiProfile = &ApiProfile {
        credential: &credentials::REGISTRY,
        headers: &[],
        accept: "application/json",
        accept_zip: "*/*",
        classify,
    };

    const ZIP_PACKING: ZipPacking = ZipPacking::TopFolder;

    const RELEASE_LOOKUP: ReleaseLookup = ReleaseLookup::InList;

    async fn releases(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let ask = SimpleAsk { segments: &["releases"], kind: RequestKind::Api, missing: Missing::Package };
        let first_seen = FirstSeenDates::of_list(stored);
        let parse = |json: &[u8]| {
            let list = parse_releases(client, call, json, &first_seen)?;
            if list.releases.is_empty() { Err(FetchError::NotFound(Missing::Package)) } else { Ok(list) }
        };
        fetch_document(client, call, package, ask, stored, parse).await
    }

    async fn has_releases(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        kind: RequestKind,
    ) -> Result<bool, FetchError> {
        let ask = SimpleAsk { segments: &["releases"], kind, missing: Missing::Package };
        let first_seen = FirstSeenDates::of_list(None);
        let parse = |json: &[u8]| Ok(!parse_releases(client, call, json, &first_seen)?.releases.is_empty());
        match fetch_document(client, call, package, ask, None, parse).await? {
            FetchedDocument::Changed { body, .. } => Ok(serde_json::from_slice(&body).unwrap_or(false)),
            FetchedDocument::NotModified { .. } => Err(invalid("304 to an unconditional request")),
        }
    }

    async fn latest(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        kind: RequestKind,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let ask = SimpleAsk { segments: &["releases", "latest"], kind, missing: Missing::Release };
        let first_seen = FirstSeenDates::of_release(stored);
        let parse = |json: &[u8]| match read_envelope(json, Missing::Release, |_| Some(()))? {
            EnvelopeValue::Object(release) => {
                registry_release::release(release, &first_seen).ok_or_else(|| invalid("not a release"))
            }
            _ => Err(invalid("not a release")),
        };
        fetch_document(client, call, package, ask, stored, parse).await
    }

    /// Takes the release from the list: one release has no address of its own.
    async fn release(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        version: &str,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let ask = SimpleAsk { segments: &["releases"], kind: RequestKind::Api, missing: Missing::Version };
        let first_seen = FirstSeenDates::of_release(stored);
        let parse = |json: &[u8]| -> Result<Release, FetchError> {
            let list = parse_releases(client, call, json, &first_seen)?;
            let found = list.releases.into_iter().find(|release| release.tag_name == version);
            found.ok_or(FetchError::NotFound(Missing::Version))
        };
        fetch_document(client, call, package, ask, stored, parse).await
    }

    fn zip_urls(client: &ApiClient, package: &PackageName, version: &str) -> Vec<Url> {
        package_urls(client, package, &["zipball", version]).into()
    }

    fn refusal(json: &[u8]) -> FetchError {
        match read_envelope(json, Missing::Version, |_| Some(())) {
            Err(error @ FetchError::NotFound(_)) => error,
            _ => invalid("JSON instead of a zip"),
        }
    }
}

/// What is asked of a package: a path behind its name.
#[derive(Clone, Copy)]
struct SimpleAsk<'a> {
    segments: &'a [&'a str],
    kind: RequestKind,
    /// The meaning of an absence.
    missing: Missing,
}

/// Fetches a document from the first address of the package that has it.
async fn fetch_document<T: Serialize>(
    client: &ApiClient,
    call: &CallLog<'_>,
    package: &PackageName,
    ask: SimpleAsk<'_>,
    stored: Option<&Document>,
    parse: impl Fn(&[u8]) -> Result<T, FetchError>,
) -> Result<FetchedDocument, FetchError> {
    let mut absent = FetchError::NotFound(ask.missing);
    for url in package_urls(client, package, ask.segments) {
        let request = DocumentRequest { kind: ask.kind, ..DocumentRequest::new(&url, ask.missing) };
        match documents::fetch_single(client, call, request, stored, &parse).await {
            Err(error @ FetchError::NotFound(_)) => absent = error,
            other => return other,
        }
    }
    Err(absent)
}

/// Parses the releases of a package: one response has every version.
fn parse_releases(
    client: &ApiClient,
    call: &CallLog<'_>,
    json: &[u8],
    first_seen: &FirstSeenDates,
) -> Result<Releases, FetchError> {
    match read_envelope(json, Missing::Package, |row| registry_release::release(row, first_seen))? {
        EnvelopeValue::Array { read, broken } if broken > 0 && read.is_empty() => {
            Err(invalid("a list without one valid release"))
        }
        EnvelopeValue::Array { read, broken } => {
            if broken > 0 {
                pages::warn_of_broken(client, call, broken);
            }
            Ok(Releases { releases: read, ..Releases::default() })
        }
        _ => Err(invalid("not a release list")),
    }
}

/// Reads the value in an envelope.
///
/// # Errors
/// `NotFound(missing)` for the code of an absence; `Invalid` for any other error, whose text is not repeated.
fn read_envelope<T>(
    json: &[u8],
    missing: Missing,
    element: impl Fn(Map<String, Value>) -> Option<T>,
) -> Result<EnvelopeValue<T>, FetchError> {
    let error_of = |error: &Map<String, Value>| match error.get("Code").and_then(Value::as_str) {
        Some(NOT_FOUND) => FetchError::NotFound(missing),
        _ => invalid("an error message"),
    };
    match envelope::read(json, "Response", element) {
        Ok(EnvelopeValue::Object(object)) => match object.get("Error") {
            Some(Value::Object(error)) => Err(error_of(error)),
            Some(_) => Err(invalid("an error message")),
            None => Ok(EnvelopeValue::Object(object)),
        },
        // Another mirror's error has no `Response` around it.
        Err(no_response) => match envelope::read(json, "Error", |_| Some(())) {
            Ok(EnvelopeValue::Object(error)) => Err(error_of(&error)),
            _ => Err(no_response),
        },
        other => other,
    }
}

fn classify(response: ErrorResponse<'_>, now: Timestamp) -> ErrorClass {
    let is_absence = |text: &[u8]| {
        let value = read_envelope(text, Missing::Package, |_| Some(()));
        matches!(value, Err(FetchError::NotFound(_)))
    };
    error_class::registry(response, now, is_absence)
}

/// `{api}/{name}/…` and `{api}/{provider}/{name}/…`
fn package_urls(client: &ApiClient, package: &PackageName, segments: &[&str]) -> [Url; 2] {
    let plain = [package.base_name()];
    let with_provider = [SIMPLE_PROVIDER, package.base_name()];
    let url = |name: &[&str]| client.urls.api(name.iter().chain(segments).copied());
    [url(&plain), url(&with_provider)]
}
