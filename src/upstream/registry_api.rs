//! What both kinds of registries share: packages with plain names, and versions without tags, commits and branches.

use std::{future::Future, marker::PhantomData};

use url::Url;

use super::{
    DocumentAsk, GitRef, ReleaseLookup, ZipPacking, api::UpstreamApi, api_profile::ApiProfile, call_log::CallLog,
    client::ApiClient, documents, registry_zip, request::RequestKind,
};
use crate::{
    entry::Document,
    origin::{FetchError, FetchedBody, FetchedDocument, Missing},
    package::{CatalogPackage, PackageName, Repository},
};

/// The part of a registry that differs between kinds: addresses and envelopes.
pub(super) trait RegistryApi: Send + Sync + 'static {
    /// The constants of its HTTP API.
    const PROFILE: &'static ApiProfile;

    /// Where the files of its zips are.
    const ZIP_PACKING: ZipPacking;

    /// Where the release of one version is found.
    const RELEASE_LOOKUP: ReleaseLookup;

    /// Fetches every release.
    ///
    /// # Errors
    /// An absence is `NotFound(Missing::Package)`.
    fn releases(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        stored: Option<&Document>,
    ) -> impl Future<Output = Result<FetchedDocument, FetchError>> + Send;

    /// True when the release list has at least one entry.
    ///
    /// # Errors
    /// An absence is `NotFound(Missing::Package)`.
    fn has_releases(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        kind: RequestKind,
    ) -> impl Future<Output = Result<bool, FetchError>> + Send;

    /// Fetches the release that the registry calls latest.
    ///
    /// # Errors
    /// An absence is `NotFound(Missing::Release)`, whether the package exists or not.
    fn latest(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        kind: RequestKind,
        stored: Option<&Document>,
    ) -> impl Future<Output = Result<FetchedDocument, FetchError>> + Send;

    /// Fetches the release of one version.
    ///
    /// # Errors
    /// An absence is `NotFound(Missing::Version)`, whether the package exists or not.
    fn release(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        version: &str,
        stored: Option<&Document>,
    ) -> impl Future<Output = Result<FetchedDocument, FetchError>> + Send;

    /// The addresses of the zip of a version, in the order in which they are tried.
    fn zip_urls(client: &ApiClient, package: &PackageName, version: &str) -> Vec<Url>;

    /// What JSON in place of a zip means.
    fn refusal(json: &[u8]) -> FetchError;

    /// Fetches the list of public packages; see [`super::Upstream::catalog`]. The default is a registry without one.
    fn catalog(
        _client: &ApiClient,
        _call: &CallLog<'_>,
    ) -> impl Future<Output = Result<Vec<CatalogPackage>, FetchError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }
}

/// A registry as an [`UpstreamApi`].
pub(super) struct PackageRegistry<R>(PhantomData<R>);

impl<R: RegistryApi> UpstreamApi for PackageRegistry<R> {
    const PROFILE: &'static ApiProfile = R::PROFILE;

    const ZIP_PACKING: ZipPacking = R::ZIP_PACKING;

    const EXISTENCE: DocumentAsk = DocumentAsk::Latest;

    const RELEASE_LOOKUP: ReleaseLookup = R::RELEASE_LOOKUP;

    async fn document(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        match ask {
            DocumentAsk::Releases => R::releases(client, call, package, stored).await,
            DocumentAsk::Latest => match R::latest(client, call, package, RequestKind::Api, stored).await {
                Err(FetchError::NotFound(_)) => {
                    Err(release_or_package_missing::<R>(client, call, package, RequestKind::Api).await)
                }
                other => other,
            },
            DocumentAsk::Tag(version) => R::release(client, call, package, version, stored).await,
            DocumentAsk::Repository => fetch_repository::<R>(client, call, package).await,
            DocumentAsk::Tags | DocumentAsk::Branches | DocumentAsk::Branch(_) => {
                Err(FetchError::NotFound(Missing::Version))
            }
            DocumentAsk::Moving(version) => {
                let urls = R::zip_urls(client, package, version);
                registry_zip::fetch_head(client, call, urls, R::refusal, stored).await
            }
        }
    }

    async fn archive(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        reference: &GitRef,
    ) -> Result<FetchedBody, FetchError> {
        match reference {
            GitRef::Tag(version) | GitRef::Moving { version, .. } => {
                let urls = R::zip_urls(client, package, version);
                registry_zip::open(client, call, urls, R::refusal).await
            }
            GitRef::Commit(_) => Err(FetchError::NotFound(Missing::Version)),
        }
    }

    async fn catalog(client: &ApiClient, call: &CallLog<'_>) -> Result<Vec<CatalogPackage>, FetchError> {
        R::catalog(client, call).await
    }
}

/// Says whether the latest release or the package is missing: a registry answers alike for both, and only the release list
/// tells them apart.
async fn release_or_package_missing<R: RegistryApi>(
    client: &ApiClient,
    call: &CallLog<'_>,
    package: &PackageName,
    kind: RequestKind,
) -> FetchError {
    match R::has_releases(client, call, package, kind).await {
        Ok(true) => FetchError::NotFound(Missing::Release),
        Ok(false) => FetchError::NotFound(Missing::Package),
        Err(error) => error,
    }
}

/// Fetches what stands in for a registry's repository: whether the package is visible without the safety code.
async fn fetch_repository<R: RegistryApi>(
    client: &ApiClient,
    call: &CallLog<'_>,
    package: &PackageName,
) -> Result<FetchedDocument, FetchError> {
    let private = match ensure_exists::<R>(client, call, package, RequestKind::AnonymousApi).await {
        Ok(()) => false,
        Err(FetchError::NotFound(_) | FetchError::Status(401 | 403)) if call.identity().has_credential() => {
            ensure_exists::<R>(client, call, package, RequestKind::Api).await?;
            true
        }
        Err(error) => return Err(error),
    };
    let name = package.base_name().to_owned();
    let repository =
        Repository { full_name: name, private, default_branch: String::new(), rest: serde_json::Map::new() };
    documents::changed_document(&repository, client.new_validators(call, Vec::new()))
}

/// Succeeds when the registry has the package, with a latest release or without one.
async fn ensure_exists<R: RegistryApi>(
    client: &ApiClient,
    call: &CallLog<'_>,
    package: &PackageName,
    kind: RequestKind,
) -> Result<(), FetchError> {
    match R::latest(client, call, package, kind, None).await {
        Ok(_) => Ok(()),
        Err(FetchError::NotFound(_)) => match release_or_package_missing::<R>(client, call, package, kind).await {
            FetchError::NotFound(Missing::Release) => Ok(()),
            error => Err(error),
        },
        Err(error) => Err(error),
    }
}
