//! Gitee, API v5: oldest first unless asked otherwise, `200 null` for what is missing, zips for guests from its web pages.

use serde_json::Value;
use url::Url;

use super::{
    BuildError, Config, DocumentAsk, GitRef, RateLimitStatus, Upstream, address,
    call_log::CallLog,
    client::{Client, ForgeProfile, RequestKind},
    failure::invalid,
    github::release,
    normalise,
    pages::{self, PER_PAGE, Paging, Single},
    throttle,
};
use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument, Missing},
    package::{BranchHead, PackageName},
    value::Secret,
};

/// The token goes into a header: in a query, which Gitee also takes, it would end up in logs.
static WIRE: ForgeProfile =
    ForgeProfile { scheme: "token", headers: &[], accept: "application/json", judge: throttle::gitee };

/// The branch of an empty repository, which names none.
const DEFAULT_BRANCH: &str = "master";

/// One Gitee.
pub(super) struct Gitee {
    client: Client,
}

impl Gitee {
    pub(super) fn new(name: &str, config: &Config, token: Option<Secret>, instance: &str) -> Result<Self, BuildError> {
        Ok(Self { client: Client::new(name, config, token, instance, &WIRE)? })
    }

    fn url<'s>(&self, package: &'s PackageName, more: impl IntoIterator<Item = &'s str>) -> Url {
        address(&self.client.api, ["repos", package.owner(), package.repo()].into_iter().chain(more))
    }

    async fn ask(
        &self,
        call: &CallLog<'_>,
        package: &PackageName,
        ask: &DocumentAsk,
        stored: Option<&Document>,
    ) -> Result<FetchedDocument, FetchError> {
        let client = &self.client;
        let (url, missing) = match ask {
            DocumentAsk::Releases => {
                let mut url = self.url(package, ["releases"]);
                let query = [("direction", "desc"), ("per_page", &PER_PAGE.to_string()), ("page", "1")];
                url.query_pairs_mut().extend_pairs(query);
                return pages::releases(client, call, &url, Paging::Numbered, stored).await;
            }
            DocumentAsk::Latest => (self.url(package, ["releases", "latest"]), Missing::Release),
            DocumentAsk::Tag(tag) => (self.url(package, ["releases", "tags", tag]), Missing::Version),
            DocumentAsk::Repository => (self.url(package, []), Missing::Package),
            DocumentAsk::Branch(branch) => (self.url(package, ["branches", branch]), Missing::Version),
        };
        let single = Single { url: &url, accept: None, missing };
        match ask {
            DocumentAsk::Repository => {
                let read = |json: &[u8]| {
                    let found = normalise::repository(there(json, missing)?, Some(DEFAULT_BRANCH));
                    found.ok_or_else(|| invalid("not a repository"))
                };
                pages::single(client, call, single, stored, read).await
            }
            DocumentAsk::Branch(_) => pages::single(client, call, single, stored, branch_head).await,
            _ => {
                let read = |json: &[u8]| release(there(json, missing)?, missing);
                pages::single(client, call, single, stored, read).await
            }
        }
    }

    /// Tries, in turn, the ways to a zip that there are: the API for those with a token, then two web pages, any of which
    /// may answer with a login page instead.
    ///
    /// Only some of them can be told that a tag is meant. The others are asked once it is known that no branch has that
    /// name: a branch must never be kept as if it were a tag.
    async fn zip(
        &self,
        call: &CallLog<'_>,
        package: &PackageName,
        reference: &GitRef,
    ) -> Result<FetchedBody, FetchError> {
        let web = |parts: &[&str]| {
            let parts = [package.owner(), package.repo()].into_iter().chain(parts.iter().copied());
            (address(&self.client.web, parts.flat_map(|part| part.split('/'))), RequestKind::Archive)
        };
        let api = |name: &str| {
            let mut url = self.url(package, ["zipball"]);
            url.query_pairs_mut().append_pair("ref", name);
            self.client.has_token().then_some((url, RequestKind::Api))
        };
        match reference {
            GitRef::Commit(sha) => {
                let file = format!("{sha}.zip");
                let ways = [api(sha), Some(web(&["repository", "archive", &file])), Some(web(&["archive", &file]))];
                self.first_of(call, ways).await
            }
            GitRef::Tag(tag) => {
                let file = format!("{tag}.zip");
                let exact = [api(&format!("refs/tags/{tag}")), Some(web(&["archive", "refs", "tags", &file]))];
                let refused = match self.first_of(call, exact).await {
                    Err(error) if goes_on(&error) => error,
                    other => return other,
                };
                if !self.is_no_branch(call, package, tag).await? {
                    return Err(refused);
                }
                let loose = [api(tag), Some(web(&["repository", "archive", &file]))];
                self.first_of(call, loose).await.map_err(|error| weightier(refused, error))
            }
        }
    }

    async fn first_of<const N: usize>(
        &self,
        call: &CallLog<'_>,
        ways: [Option<(Url, RequestKind)>; N],
    ) -> Result<FetchedBody, FetchError> {
        let mut result = Err(FetchError::NotFound(Missing::Version));
        for (url, lane) in ways.into_iter().flatten() {
            let refused = match result {
                Err(error) if goes_on(&error) => error,
                other => return other,
            };
            result = self.client.archive(call, url, lane).await.map_err(|error| weightier(refused, error));
        }
        result
    }

    async fn is_no_branch(&self, call: &CallLog<'_>, package: &PackageName, name: &str) -> Result<bool, FetchError> {
        let url = self.url(package, ["branches", name]);
        let single = Single { url: &url, accept: None, missing: Missing::Version };
        match pages::single(&self.client, call, single, None, branch_head).await {
            Ok(_) => Ok(false),
            Err(FetchError::NotFound(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl Upstream for Gitee {
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
            let result = self.zip(&call, package, reference).await;
            self.client.finish(&call, result)
        })
    }
}

/// Refusals that say nothing about the next way to the same zip.
fn goes_on(error: &FetchError) -> bool {
    use FetchError::{Invalid, NotFound, Refused, Status};
    matches!(error, NotFound(_) | Invalid(_) | Refused(_) | Status(400..=499))
}

/// Which of two failures is told: "missing" only when nothing speaks against it.
fn weightier(first: FetchError, second: FetchError) -> FetchError {
    if first.is_trouble() && !second.is_trouble() { first } else { second }
}

/// Gitee's way to say 404 is often `200` with `null`.
fn there(json: &[u8], missing: Missing) -> Result<&[u8], FetchError> {
    if json.trim_ascii() == b"null" { Err(FetchError::NotFound(missing)) } else { Ok(json) }
}

fn branch_head(json: &[u8]) -> Result<BranchHead, FetchError> {
    let value: Value = serde_json::from_slice(there(json, Missing::Version)?).map_err(|_| invalid("not a branch"))?;
    let commit = value.pointer("/commit/sha").and_then(Value::as_str).and_then(normalise::commit);
    commit.map(|commit| BranchHead { commit }).ok_or_else(|| invalid("not a branch"))
}
