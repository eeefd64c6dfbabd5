//! GitHub and GitHub Enterprise Server, REST API version 2022-11-28.

use serde::Serialize;
use url::Url;

use super::{
    DocumentAsk, GitRef, ReleaseLookup, ZipPacking,
    api::UpstreamApi,
    api_profile::ApiProfile,
    call_log::CallLog,
    client::ApiClient,
    credentials, documents, error_class,
    failure::invalid,
    normalise,
    pages::{self, Paging, RELEASES_PER_PAGE},
    request::{DocumentRequest, RequestKind},
    tags,
};
use crate::{
    entry::Document,
    origin::{FetchError, FetchedBody, FetchedDocument, Missing},
    package::{BranchHead, MovingHead, PackageName, Releases, RepositoryBranches},
};

/// The media type that makes GitHub answer with a commit's SHA alone.
const SHA_MEDIA_TYPE: &str = "application/vnd.github.sha";

/// The GitHub API.
pub(super) enum Github {}

impl UpstreamApi for Github {
    const PROFILE: &'static ApiProfile = &ApiProfile {
        credential: &credentials::GITHUB,
        headers: &[("x-github-api-version", "2022-11-28")],
        accept: "application/vnd.github+json",
        accept_zip: "application/vnd.github+json",
        classify: error_class::github,
    };

    const ZIP_PACKING: ZipPacking = ZipPacking::TopFolder;

    const EXISTENCE: DocumentAsk = DocumentAsk::Repository;

    const RELEASE_LOOKUP: ReleaseLookup = ReleaseLookup::InList;

    async fn document(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let list_url = |name: &str| {
            let mut url = client.urls.repository(package, [name]);
            url.query_pairs_mut().append_pair("per_page", &RELEASES_PER_PAGE.to_string());
            url
        };
        match ask {
            DocumentAsk::Releases => {
                pages::fetch_list::<Releases>(client, call, &list_url("releases"), Paging::Link, stored).await
            }
            DocumentAsk::Latest => {
                let url = client.urls.repository(package, ["releases", "latest"]);
                let missing = Missing::Release;
                let single = DocumentRequest::new(&url, missing);
                documents::fetch_single(client, call, single, stored, |json| documents::parse_release(json, missing))
                    .await
            }
            DocumentAsk::Tag(tag) => {
                let url = client.urls.repository(package, ["releases", "tags", tag]);
                let missing = Missing::Version;
                let single = DocumentRequest::new(&url, missing);
                documents::fetch_single(client, call, single, stored, |json| documents::parse_release(json, missing))
                    .await
            }
            DocumentAsk::Repository => {
                let url = client.urls.repository(package, []);
                let single = DocumentRequest::new(&url, Missing::Package);
                let parse = |json: &[u8]| normalise::repository(json, None).ok_or_else(|| invalid("not a repository"));
                documents::fetch_single(client, call, single, stored, parse).await
            }
            DocumentAsk::Tags => tags::fetch_list(client, call, &list_url("tags"), Paging::Link, stored).await,
            DocumentAsk::Branches => {
                pages::fetch_list::<RepositoryBranches>(client, call, &list_url("branches"), Paging::Link, stored).await
            }
            // `heads/`, so that a tag of the same name cannot match; and `tags/`, so that no branch can.
            DocumentAsk::Branch(branch) => {
                let url = client.urls.repository(package, ["commits", "heads", branch]);
                fetch_commit(client, call, &url, stored, |commit| BranchHead { commit }).await
            }
            DocumentAsk::Moving(tag) => {
                let url = client.urls.repository(package, ["commits", "tags", tag]);
                fetch_commit(client, call, &url, stored, |revision| MovingHead { revision }).await
            }
        }
    }

    async fn archive(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        reference: &GitRef,
    ) -> Result<FetchedBody, FetchError> {
        // A tag's slashes are not encoded here, as in GitHub's own links; `refs/tags/`, so that no branch can match.
        let url = match reference {
            GitRef::Tag(tag) => {
                client.urls.repository(package, ["zipball", "refs", "tags"].into_iter().chain(tag.split('/')))
            }
            GitRef::Commit(sha) | GitRef::Moving { revision: sha, .. } => {
                client.urls.repository(package, ["zipball", sha])
            }
        };
        client.open_zip(call, url, RequestKind::Api).await
    }
}

/// Fetches the commit that a branch or a tag points at.
async fn fetch_commit<T: Serialize>(
    client: &ApiClient,
    call: &CallLog<'_>,
    url: &Url,
    stored: Option<&Document>,
    head: impl FnOnce(String) -> T,
) -> Result<FetchedDocument, FetchError> {
    let request = DocumentRequest { accept: Some(SHA_MEDIA_TYPE), ..DocumentRequest::new(url, Missing::Version) };
    let parse = |text: &[u8]| {
        let commit = std::str::from_utf8(text).ok().and_then(normalise::commit);
        commit.map(head).ok_or_else(|| invalid("not a commit"))
    };
    match documents::fetch_single(client, call, request, stored, parse).await {
        // "No commit found for SHA", and "Git Repository is empty."
        Err(FetchError::Status(422 | 409)) => Err(FetchError::NotFound(Missing::Version)),
        other => other,
    }
}
