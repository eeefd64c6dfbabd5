//! The 3.x registry (`api.devsapp.cn/v3`): names without a slash, and an envelope whose `body` is a text when it failed.

use bytes::Bytes;
use serde_json::json;
use url::form_urlencoded;

use super::{
    ApiRequest, Names, PackageId, Page, Reason,
    srm::{no_route, read_version},
};
use crate::package::PackageName;

/// What the writing and the personal routes answer.
pub(super) const HOSTS_NOTHING: &str =
    "this registry is a mirror and hosts nothing of its own: publish, remove and login are done at the real registry";

/// Reads what follows `/v3`.
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        ["packages", "releases"] => {
            let search = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "search");
            let search = search.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty());
            Ok(ApiRequest::Search { search, page: Page::of(query)?.unwrap_or_default() })
        }
        ["packages", name, "release", rest @ ..] => {
            let package = package(names, name)?;
            match rest {
                [] => Ok(ApiRequest::Detail { package, page: Page::of(query)?.unwrap_or_default() }),
                ["latest"] => Ok(ApiRequest::Latest { package }),
                ["tags", version @ ..] => Ok(ApiRequest::Tag { package, version: read_version(version)? }),
                _ => Err(no_route()),
            }
        }
        ["user", ..] | ["package", "user", ..] => Err(Reason::NotFound(HOSTS_NOTHING.into())),
        _ => Err(no_route()),
    }
}

/// Reads a name: an alias, `{upstream}__owner__repo`, `owner__repo` (split at the first `__`), or a plain name.
fn package(names: &Names, name: &str) -> Result<PackageId, Reason> {
    if let Some(package) = names.alias(name) {
        return Ok(package.clone());
    }
    let Some((first, rest)) = name.split_once("__") else {
        PackageName::new("x", name)?;
        let not_found =
            || Reason::NotFound(format!("{name} is no alias and names.default_owner is not set; write owner__repo"));
        return Ok(names.plain(name).ok_or_else(not_found)??);
    };
    match (names.upstream(first), rest.split_once("__")) {
        (Some(upstream), Some((owner, repo))) => {
            Ok(PackageId { upstream: upstream.clone(), name: PackageName::new(owner, repo)? })
        }
        _ => Ok(names.pair(first, rest)?),
    }
}

/// The shortest name that [`package`] reads back to this package; `None` where there is none (an owner with `__` in it).
pub(super) fn name(names: &Names, wanted: &PackageId) -> Option<String> {
    let aliases = names.aliases().filter(|(key, package)| !key.contains('/') && *package == wanted);
    let owner = wanted.name.owner();
    let repo = wanted.name.repo();
    let spelled = [repo.to_owned(), format!("{owner}__{repo}"), format!("{}__{owner}__{repo}", wanted.upstream)];
    let mut candidates = aliases.map(|(key, _)| key.to_owned()).chain(spelled);
    candidates.find(|name| package(names, name).is_ok_and(|found| found == *wanted))
}

/// `{"request_id": "…", "body": value}`.
pub(super) fn success(value: &[u8], request_id: &str) -> Bytes {
    let head = format!("{{\"request_id\":{},\"body\":", json!(request_id));
    [head.as_bytes(), value, b"}"].concat().into()
}

/// `{"request_id": "…", "body": "text"}`.
pub(super) fn error(message: &str, request_id: &str) -> Bytes {
    json!({ "request_id": request_id, "body": message }).to_string().into()
}
