//! The release routes of GitHub's REST API, for clients that are configured for `https://api.github.com/repos`.
//!
//! Below `/repos/` no word is reserved: `github` and `gitee` are owners. A path that is not `owner/repo` may begin with an
//! upstream's name; URLs in the mirror's responses use that form for packages that `owner/repo` does not identify.
//! The envelope is that of srm, except for a 404.

use bytes::Bytes;
use serde_json::json;

use super::{
    ApiRequest, Names, PackageId, PackageRef, PageRequest, Reason,
    srm::{self, parse_package_route, unknown_route},
};
use crate::package::{NameForm, PackageName};

/// The path below which the API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiRoot {
    /// `/repos/…`, as on api.github.com.
    Plain,
    /// `/api/v3/repos/…`, as on GitHub Enterprise Server.
    ApiV3,
}

impl ApiRoot {
    /// The path between the mirror's base URL and `/repos`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::ApiV3 => "/api/v3",
        }
    }
}

/// Parses the segments after `/repos`.
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        [owner, repo] => Ok(ApiRequest::Repository { package: names.reference(PackageName::new(owner, repo)?) }),
        [owner, repo, word @ ("releases" | "zipball"), rest @ ..] => {
            parse_github_package_route(names.reference(PackageName::new(owner, repo)?), word, rest, query)
        }
        [first, owner, repo, rest @ ..] => {
            let upstream = names.upstream(first).filter(|upstream| upstream.form == NameForm::Repository);
            let upstream = upstream.ok_or_else(unknown_route)?.name.clone();
            let package = PackageId { upstream, name: PackageName::new(owner, repo)? }.into();
            match rest {
                [] => Ok(ApiRequest::Repository { package }),
                [word @ ("releases" | "zipball"), rest @ ..] => parse_github_package_route(package, word, rest, query),
                _ => Err(unknown_route()),
            }
        }
        _ => Err(unknown_route()),
    }
}

/// Parses the segments after a package: the routes of srm, and releases by numeric id.
fn parse_github_package_route(
    package: PackageRef,
    word: &str,
    rest: &[&str],
    query: &str,
) -> Result<ApiRequest, Reason> {
    let (id, assets) = match (word, rest) {
        // GitHub refuses no number of a page.
        ("releases", []) => return Ok(ApiRequest::Releases { package, page: PageRequest::parse_clamped(query) }),
        ("releases", [id]) => (id, false),
        ("releases", [id, "assets"]) => (id, true),
        _ => return parse_package_route(package, word, rest, query),
    };
    if id.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(id) = id.parse()
    {
        return Ok(ApiRequest::ById { package, id, assets });
    }
    parse_package_route(package, word, rest, query)
}

/// The envelope of srm; for a 404: `{"message": "Not Found", "errors": [{"message": "…"}], "status": "404"}`.
///
/// PyGithub raises `UnknownObjectException` only for GitHub's own message; octokit and gh print `errors` as well.
pub(super) fn error(status: u16, message: &str, request_id: &str) -> Bytes {
    if status != 404 {
        return srm::error(status, None, message, request_id);
    }
    let errors = [json!({ "message": message })];
    json!({ "message": "Not Found", "errors": errors, "status": "404", "request_id": request_id }).to_string().into()
}
