//! GitHub and GitHub Enterprise Server, REST API version 2022-11-28.

use url::Url;

use super::{
    DocumentAsk, GitRef,
    call_log::CallLog,
    client::{ForgeClient, RequestKind},
    error_class,
    failure::invalid,
    forge::{ForgeApi, ForgeProfile},
    normalise,
    pages::{self, Paging, RELEASES_PER_PAGE, SingleDocument},
};
use crate::{
    entry::Document,
    origin::{FetchError, FetchedBody, FetchedDocument, Missing},
    package::BranchHead,
};

/// The media type that makes GitHub answer with a commit's SHA alone.
const SHA_MEDIA_TYPE: &str = "application/vnd.github.sha";

/// The GitHub API.
pub(super) enum Github {}

impl ForgeApi for Github {
    const PROFILE: &'static ForgeProfile = &ForgeProfile {
        scheme: "Bearer",
        headers: &[("x-github-api-version", "2022-11-28")],
        accept: "application/vnd.github+json",
        classify: error_class::github,
    };

    async fn document(
        client: &ForgeClient,
        call: &CallLog<'_>,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        match ask {
            DocumentAsk::Releases => {
                let url = release_list(client, call, RELEASES_PER_PAGE);
                pages::releases(client, call, &url, Paging::Link, stored).await
            }
            DocumentAsk::Latest => {
                let url = client.urls.repository(call.package, ["releases", "latest"]);
                let missing = Missing::Release;
                let single = SingleDocument { url: &url, accept: None, missing };
                match pages::single(client, call, single, stored, |json| pages::release(json, missing)).await {
                    Err(FetchError::NotFound(_)) => Err(release_or_package_missing(client, call).await),
                    other => other,
                }
            }
            DocumentAsk::Tag(tag) => {
                let url = client.urls.repository(call.package, ["releases", "tags", tag]);
                let missing = Missing::Version;
                let single = SingleDocument { url: &url, accept: None, missing };
                pages::single(client, call, single, stored, |json| pages::release(json, missing)).await
            }
            DocumentAsk::Repository => {
                let url = client.urls.repository(call.package, []);
                let single = SingleDocument { url: &url, accept: None, missing: Missing::Package };
                let parse = |json: &[u8]| normalise::repository(json, None).ok_or_else(|| invalid("not a repository"));
                pages::single(client, call, single, stored, parse).await
            }
            DocumentAsk::Moving(_) => Err(FetchError::NotFound(Missing::Version)),
            DocumentAsk::Branch(branch) => {
                // `heads/`, so that a tag of the same name cannot match.
                let url = client.urls.repository(call.package, ["commits", "heads", branch]);
                let accept = Some(SHA_MEDIA_TYPE);
                let single = SingleDocument { url: &url, accept, missing: Missing::Version };
                match pages::single(client, call, single, stored, branch_head).await {
                    // "No commit found for SHA", and "Git Repository is empty."
                    Err(FetchError::Status(422 | 409)) => Err(FetchError::NotFound(Missing::Version)),
                    other => other,
                }
            }
        }
    }

    async fn archive(client: &ForgeClient, call: &CallLog<'_>, reference: &GitRef) -> Result<FetchedBody, FetchError> {
        // A tag's slashes are not encoded here, as in GitHub's own links; `refs/tags/`, so that no branch can match.
        let url = match reference {
            GitRef::Tag(tag) => {
                client.urls.repository(call.package, ["zipball", "refs", "tags"].into_iter().chain(tag.split('/')))
            }
            GitRef::Commit(sha) => client.urls.repository(call.package, ["zipball", sha]),
            GitRef::Moving { .. } => return Err(FetchError::NotFound(Missing::Version)),
        };
        client.archive(call, url, RequestKind::Api).await
    }
}

/// GitHub answers 404 to `latest` both without a release and without a repository; the release list tells them apart.
async fn release_or_package_missing(client: &ForgeClient, call: &CallLog<'_>) -> FetchError {
    match client.document(call, &release_list(client, call, 1), None, None, Missing::Package).await {
        Ok(_) => FetchError::NotFound(Missing::Release),
        Err(error) => error,
    }
}

fn release_list(client: &ForgeClient, call: &CallLog<'_>, per_page: usize) -> Url {
    let mut url = client.urls.repository(call.package, ["releases"]);
    url.query_pairs_mut().append_pair("per_page", &per_page.to_string());
    url
}

fn branch_head(text: &[u8]) -> Result<BranchHead, FetchError> {
    let commit = std::str::from_utf8(text).ok().and_then(normalise::commit);
    commit.map(|commit| BranchHead { commit }).ok_or_else(|| invalid("not a commit"))
}
