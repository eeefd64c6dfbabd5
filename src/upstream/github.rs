//! GitHub and GitHub Enterprise Server, REST API version 2022-11-28.

use url::Url;

use super::{
    BuildError, Config, DocumentAsk, GitRef, RateLimitStatus, Upstream,
    call_log::CallLog,
    client::{Client, ForgeProfile, RequestKind},
    failure::invalid,
    normalise::{self, Listed},
    pages::{self, PER_PAGE, Paging, Single},
    throttle,
};
use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument, Missing},
    package::{BranchHead, PackageName, Release},
    value::Secret,
};

static WIRE: ForgeProfile = ForgeProfile {
    scheme: "Bearer",
    headers: &[("x-github-api-version", "2022-11-28")],
    accept: "application/vnd.github+json",
    judge: throttle::github,
};

/// The media type that makes GitHub answer with nothing but a commit's SHA.
const SHA: &str = "application/vnd.github.sha";

/// One GitHub.
pub(super) struct Github {
    client: Client,
}

impl Github {
    pub(super) fn new(name: &str, config: &Config, token: Option<Secret>, instance: &str) -> Result<Self, BuildError> {
        Ok(Self { client: Client::new(name, config, token, instance, &WIRE)? })
    }

    /// `{api}/repos/{owner}/{repo}/…`; a slash within a segment is encoded, as GitHub wants it in parameters.
    fn url<'s>(&self, package: &'s PackageName, more: impl IntoIterator<Item = &'s str>) -> Url {
        super::address(&self.client.api, ["repos", package.owner(), package.repo()].into_iter().chain(more))
    }

    async fn ask(
        &self,
        call: &CallLog<'_>,
        package: &PackageName,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let client = &self.client;
        match ask {
            DocumentAsk::Releases => {
                let url = self.list(package, PER_PAGE);
                pages::releases(client, call, &url, Paging::Link, stored).await
            }
            DocumentAsk::Latest => {
                let url = self.url(package, ["releases", "latest"]);
                let single = Single { url: &url, accept: None, missing: Missing::Release };
                match pages::single(client, call, single, stored, |json| release(json, Missing::Release)).await {
                    Err(FetchError::NotFound(_)) => Err(self.what_is_missing(call, package).await),
                    other => other,
                }
            }
            DocumentAsk::Tag(tag) => {
                let url = self.url(package, ["releases", "tags", tag]);
                let single = Single { url: &url, accept: None, missing: Missing::Version };
                pages::single(client, call, single, stored, |json| release(json, Missing::Version)).await
            }
            DocumentAsk::Repository => {
                let url = self.url(package, []);
                let single = Single { url: &url, accept: None, missing: Missing::Package };
                let read = |json: &[u8]| normalise::repository(json, None).ok_or_else(|| invalid("not a repository"));
                pages::single(client, call, single, stored, read).await
            }
            DocumentAsk::Branch(branch) => {
                // `heads/` so that a tag of the same name cannot answer.
                let url = self.url(package, ["commits", "heads", branch]);
                let single = Single { url: &url, accept: Some(SHA), missing: Missing::Version };
                match pages::single(client, call, single, stored, branch_head).await {
                    // "No commit found for SHA", and "Git Repository is empty."
                    Err(FetchError::Status(422 | 409)) => Err(FetchError::NotFound(Missing::Version)),
                    other => other,
                }
            }
        }
    }

    /// GitHub answers 404 to `latest` both without a release and without a repository; its list knows the difference.
    async fn what_is_missing(&self, call: &CallLog<'_>, package: &PackageName) -> FetchError {
        match self.client.document(call, &self.list(package, 1), None, None, Missing::Package).await {
            Ok(_) => FetchError::NotFound(Missing::Release),
            Err(error) => error,
        }
    }

    fn list(&self, package: &PackageName, per_page: usize) -> Url {
        let mut url = self.url(package, ["releases"]);
        url.query_pairs_mut().append_pair("per_page", &per_page.to_string());
        url
    }
}

impl Upstream for Github {
    fn has_token(&self) -> bool {
        self.client.has_token()
    }

    fn allowance(&self) -> RateLimitStatus {
        self.client.allowance()
    }

    fn document<'a>(
        &'a self,
        package: &'a PackageName,
        ask: &'a DocumentAsk,
        stored: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>> {
        Box::pin(async move {
            let call = CallLog::new(package, ask.name());
            let result = self.ask(&call, package, ask, stored).await;
            self.client.finish(&call, result)
        })
    }

    fn archive<'a>(
        &'a self,
        package: &'a PackageName,
        reference: &'a GitRef,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>> {
        Box::pin(async move {
            let call = CallLog::new(package, "archive");
            // A tag's slashes stay slashes here, as in GitHub's own links; `refs/tags/` so that no branch can answer.
            let url = match reference {
                GitRef::Tag(tag) => self.url(package, ["zipball", "refs", "tags"].into_iter().chain(tag.split('/'))),
                GitRef::Commit(sha) => self.url(package, ["zipball", sha]),
            };
            let result = self.client.archive(&call, url, RequestKind::Api).await;
            self.client.finish(&call, result)
        })
    }
}

/// One release; a draft is as good as absent.
pub(super) fn release(json: &[u8], missing: Missing) -> Result<Release, FetchError> {
    match normalise::release(json) {
        Listed::Release(release) => Ok(*release),
        Listed::Draft => Err(FetchError::NotFound(missing)),
        Listed::Broken => Err(invalid("not a release")),
    }
}

fn branch_head(text: &[u8]) -> Result<BranchHead, FetchError> {
    let commit = std::str::from_utf8(text).ok().and_then(normalise::commit);
    commit.map(|commit| BranchHead { commit }).ok_or_else(|| invalid("not a commit"))
}
