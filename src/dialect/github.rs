//! GitHub's REST API as far as releases go, for clients that believe they talk to `https://api.github.com/repos`.
//!
//! Behind `/repos/` there are no reserved words: `github` and `gitee` are owners there. Where that would be nothing, an
//! upstream's name may stand in front, and the addresses in our own answers use that form for packages that need it.
//! The envelope is srm's, but for a 404.

use bytes::Bytes;
use serde_json::json;

use super::{
    ApiRequest, Names, PackageId, Reason,
    srm::{self, no_route, tail},
};
use crate::package::PackageName;

/// Where the API begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// `/repos/…`, as on api.github.com.
    Plain,
    /// `/api/v3/repos/…`, as on GitHub Enterprise Server.
    ApiV3,
}

impl Root {
    /// What stands between the mirror's address and `/repos`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::ApiV3 => "/api/v3",
        }
    }
}

/// Reads what follows `/repos`.
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        [owner, repo] => Ok(ApiRequest::Repository { package: names.pair(owner, repo)? }),
        [owner, repo, word @ ("releases" | "zipball"), rest @ ..] => below(names.pair(owner, repo)?, word, rest, query),
        [first, owner, repo, rest @ ..] => {
            let upstream = names.upstream(first).ok_or_else(no_route)?.clone();
            let package = PackageId { upstream, name: PackageName::new(owner, repo)? };
            match rest {
                [] => Ok(ApiRequest::Repository { package }),
                [word @ ("releases" | "zipball"), rest @ ..] => below(package, word, rest, query),
                _ => Err(no_route()),
            }
        }
        _ => Err(no_route()),
    }
}

/// Reads what follows a package: srm's routes, and releases by their number.
fn below(package: PackageId, word: &str, rest: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    let (id, assets) = match (word, rest) {
        ("releases", [id]) => (id, false),
        ("releases", [id, "assets"]) => (id, true),
        _ => return tail(package, word, rest, query),
    };
    if id.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(id) = id.parse()
    {
        return Ok(ApiRequest::ById { package, id, assets });
    }
    tail(package, word, rest, query)
}

/// srm's form; a 404 is `{"message": "Not Found", "errors": [{"message": "…"}], "status": "404"}`.
///
/// PyGithub takes a 404 for an `UnknownObjectException` only by GitHub's own words; octokit and gh print `errors` too.
pub(super) fn error(status: u16, message: &str) -> Bytes {
    if status != 404 {
        return srm::error(status, message);
    }
    json!({ "message": "Not Found", "errors": [{ "message": message }], "status": "404" }).to_string().into()
}
