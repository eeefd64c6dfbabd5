//! Gitee, API v5: lists are oldest first by default, `200 null` means not found, and web pages serve anonymous zips.

use serde_json::Value;
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

/// The default branch of an empty repository, for which Gitee reports none.
const DEFAULT_BRANCH: &str = "master";

/// Most pages of tags in which a moving version is searched.
const MAX_SEARCHED_TAG_PAGES: usize = 10;

/// The Gitee API.
pub(super) enum Gitee {}

impl UpstreamApi for Gitee {
    const PROFILE: &'static ApiProfile = &ApiProfile {
        credential: &credentials::GITEE,
        headers: &[],
        accept: "application/json",
        accept_zip: "application/json",
        classify: error_class::gitee,
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
        let (url, missing) = match ask {
            DocumentAsk::Releases => {
                let mut url = client.urls.repository(package, ["releases"]);
                let query = [("direction", "desc"), ("per_page", &RELEASES_PER_PAGE.to_string()), ("page", "1")];
                url.query_pairs_mut().extend_pairs(query);
                return pages::fetch_list::<Releases>(client, call, &url, Paging::Numbered, stored).await;
            }
            DocumentAsk::Latest => (client.urls.repository(package, ["releases", "latest"]), Missing::Release),
            DocumentAsk::Tag(tag) => (client.urls.repository(package, ["releases", "tags", tag]), Missing::Version),
            DocumentAsk::Repository => (client.urls.repository(package, []), Missing::Package),
            DocumentAsk::Tags => {
                let mut url = client.urls.repository(package, ["tags"]);
                url.query_pairs_mut().extend_pairs([("per_page", &*RELEASES_PER_PAGE.to_string()), ("page", "1")]);
                return tags::fetch_list(client, call, &url, Paging::Numbered, stored).await;
            }
            DocumentAsk::Branches => {
                let mut url = client.urls.repository(package, ["branches"]);
                url.query_pairs_mut().extend_pairs([("per_page", &*RELEASES_PER_PAGE.to_string()), ("page", "1")]);
                return pages::fetch_list::<RepositoryBranches>(client, call, &url, Paging::Numbered, stored).await;
            }
            DocumentAsk::Branch(branch) => (client.urls.repository(package, ["branches", branch]), Missing::Version),
            DocumentAsk::Moving(tag) => return fetch_tag_head(client, call, package, tag, stored).await,
        };
        let single = DocumentRequest::new(&url, missing);
        match ask {
            DocumentAsk::Repository => {
                let parse = |json: &[u8]| {
                    let repository = normalise::repository(ensure_not_null(json, missing)?, Some(DEFAULT_BRANCH));
                    repository.ok_or_else(|| invalid("not a repository"))
                };
                documents::fetch_single(client, call, single, stored, parse).await
            }
            DocumentAsk::Branch(_) => documents::fetch_single(client, call, single, stored, parse_branch_head).await,
            _ => {
                let parse = |json: &[u8]| documents::parse_release(ensure_not_null(json, missing)?, missing);
                documents::fetch_single(client, call, single, stored, parse).await
            }
        }
    }

    /// Tries the addresses of a zip in turn: the API when there is a token, then two web pages. Each of them may answer
    /// with a login page instead.
    ///
    /// Only some of the addresses accept `refs/tags/`. The ambiguous ones are tried only after Gitee has said that no
    /// branch has this name: a branch must never be stored as a tag.
    async fn archive(
        client: &ApiClient,
        call: &CallLog<'_>,
        package: &PackageName,
        reference: &GitRef,
    ) -> Result<FetchedBody, FetchError> {
        let web = |segments: &[&str]| {
            let segments = segments.iter().flat_map(|segment| segment.split('/'));
            (client.urls.web(package, segments), RequestKind::Archive)
        };
        let api = |name: &str| {
            let mut url = client.urls.repository(package, ["zipball"]);
            url.query_pairs_mut().append_pair("ref", name);
            call.identity().has_credential().then_some((url, RequestKind::Api))
        };
        match reference {
            GitRef::Commit(sha) | GitRef::Moving { revision: sha, .. } => {
                let file = format!("{sha}.zip");
                let urls = [api(sha), Some(web(&["repository", "archive", &file])), Some(web(&["archive", &file]))];
                open_first_zip(client, call, urls).await
            }
            GitRef::Tag(tag) => {
                let file = format!("{tag}.zip");
                let exact = [api(&format!("refs/tags/{tag}")), Some(web(&["archive", "refs", "tags", &file]))];
                let refused = match open_first_zip(client, call, exact).await {
                    Err(error) if may_try_next(&error) => error,
                    other => return other,
                };
                if branch_exists(client, call, package, tag).await? {
                    return Err(refused);
                }
                let ambiguous = [api(tag), Some(web(&["repository", "archive", &file]))];
                open_first_zip(client, call, ambiguous).await.map_err(|error| more_telling(refused, error))
            }
        }
    }
}

/// Opens the first of the addresses that serves a zip.
async fn open_first_zip<const N: usize>(
    client: &ApiClient,
    call: &CallLog<'_>,
    urls: [Option<(Url, RequestKind)>; N],
) -> Result<FetchedBody, FetchError> {
    let mut result = Err(FetchError::NotFound(Missing::Version));
    for (url, kind) in urls.into_iter().flatten() {
        let refused = match result {
            Err(error) if may_try_next(&error) => error,
            other => return other,
        };
        result = client.open_zip(call, url, kind).await.map_err(|error| more_telling(refused, error));
    }
    result
}

/// True if the repository has a branch of this name.
async fn branch_exists(
    client: &ApiClient,
    call: &CallLog<'_>,
    package: &PackageName,
    name: &str,
) -> Result<bool, FetchError> {
    let url = client.urls.repository(package, ["branches", name]);
    let single = DocumentRequest::new(&url, Missing::Version);
    match documents::fetch_single(client, call, single, None, parse_branch_head).await {
        Ok(_) => Ok(true),
        Err(FetchError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// True for errors that say nothing about the next address of the same zip.
fn may_try_next(error: &FetchError) -> bool {
    use FetchError::{Invalid, NotFound, Refused, Status};
    matches!(error, NotFound(_) | Invalid(_) | Refused(_) | Status(400..=499))
}

/// The error to report of two: "not found" only when both say so.
fn more_telling(first: FetchError, second: FetchError) -> FetchError {
    if first.is_trouble() && !second.is_trouble() { first } else { second }
}

/// Refuses `null` as "not found": Gitee often answers so, with status 200.
fn ensure_not_null(json: &[u8], missing: Missing) -> Result<&[u8], FetchError> {
    if json.trim_ascii() == b"null" { Err(FetchError::NotFound(missing)) } else { Ok(json) }
}

fn parse_branch_head(json: &[u8]) -> Result<BranchHead, FetchError> {
    let value: Value =
        serde_json::from_slice(ensure_not_null(json, Missing::Version)?).map_err(|_| invalid("not a branch"))?;
    let commit = value.pointer("/commit/sha").and_then(Value::as_str).and_then(normalise::commit);
    commit.map(|commit| BranchHead { commit }).ok_or_else(|| invalid("not a branch"))
}

/// Fetches the commit of a tag. Gitee has no address for one tag's commit, only pages of all tags.
async fn fetch_tag_head(
    client: &ApiClient,
    call: &CallLog<'_>,
    package: &PackageName,
    tag: &str,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    for page in 1..=MAX_SEARCHED_TAG_PAGES {
        let mut url = client.urls.repository(package, ["tags"]);
        url.query_pairs_mut()
            .extend_pairs([("per_page", RELEASES_PER_PAGE), ("page", page)].map(|(n, v)| (n, v.to_string())));
        let mut listed = 0;
        let parse = |json: &[u8]| {
            let tags: Vec<Value> = serde_json::from_slice(json).map_err(|_| invalid("not a list of tags"))?;
            listed = tags.len();
            let found = tags.iter().find(|listed| listed.get("name").and_then(Value::as_str) == Some(tag));
            let found = found.ok_or(FetchError::NotFound(Missing::Version))?;
            let commit = found.pointer("/commit/sha").and_then(Value::as_str).and_then(normalise::commit);
            commit.map(|revision| MovingHead { revision }).ok_or_else(|| invalid("not a list of tags"))
        };
        match documents::fetch_single(client, call, DocumentRequest::new(&url, Missing::Package), stored, parse).await {
            Err(FetchError::NotFound(Missing::Version)) if listed >= RELEASES_PER_PAGE => {}
            other => return other,
        }
    }
    Err(invalid("the tag is not among the first thousand"))
}
