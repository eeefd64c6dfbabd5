//! The 3.x registry (`api.devsapp.cn/v3`): names without a slash, and an envelope whose `body` is a text for an error.

use bytes::Bytes;
use serde_json::json;
use url::form_urlencoded;

use super::{
    ApiRequest, Names, PackageId, PageRequest, Reason,
    srm::{parse_version, unknown_route},
};
use crate::package::PackageName;

/// The error of routes that write and of routes that belong to a user account.
pub(super) const READ_ONLY_MESSAGE: &str =
    "this registry is a mirror and hosts nothing of its own: publish, remove and login are done at the real registry";

/// Parses the segments after `/v3`.
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        ["packages", "releases"] => {
            let search = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "search");
            let search = search.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty());
            Ok(ApiRequest::Search { search, page: PageRequest::parse(query)?.unwrap_or_default() })
        }
        ["packages", name, "release", rest @ ..] => {
            let package = parse_package(names, name)?;
            match rest {
                [] => Ok(ApiRequest::Detail { package, page: PageRequest::parse(query)?.unwrap_or_default() }),
                ["latest"] => Ok(ApiRequest::Latest { package }),
                ["tags", version @ ..] => Ok(ApiRequest::Tag { package, version: parse_version(version)? }),
                _ => Err(unknown_route()),
            }
        }
        ["user", ..] | ["package", "user", ..] => Err(Reason::NotFound(READ_ONLY_MESSAGE.into())),
        _ => Err(unknown_route()),
    }
}

/// Parses a name: an alias, `{upstream}__owner__repo`, `owner__repo` (split at the first `__`), or a plain name.
fn parse_package(names: &Names, name: &str) -> Result<PackageId, Reason> {
    if let Some(package) = names.alias(name) {
        return Ok(package.clone());
    }
    let Some((first, rest)) = name.split_once("__") else {
        PackageName::new("x", name)?;
        let not_found =
            || Reason::NotFound(format!("{name} is no alias and names.default_owner is not set; write owner__repo"));
        return Ok(names.resolve_plain_name(name).ok_or_else(not_found)??);
    };
    match (names.upstream(first), rest.split_once("__")) {
        (Some(upstream), Some((owner, repo))) => {
            Ok(PackageId { upstream: upstream.clone(), name: PackageName::new(owner, repo)? })
        }
        _ => Ok(names.resolve_pair(first, rest)?),
    }
}

/// The shortest name that [`parse_package`] maps to this package; `None` if no name does (an owner that contains `__`).
pub(super) fn name(names: &Names, package: &PackageId) -> Option<String> {
    let aliases = names.aliases().filter(|(key, aliased)| !key.contains('/') && *aliased == package);
    let owner = package.name.owner();
    let repo = package.name.repo();
    let spelled = [repo.to_owned(), format!("{owner}__{repo}"), format!("{}__{owner}__{repo}", package.upstream)];
    let mut candidates = aliases.map(|(key, _)| key.to_owned()).chain(spelled);
    candidates.find(|name| parse_package(names, name).is_ok_and(|found| found == *package))
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
