//! The routes of the Serverless Registry Model, and its envelope: the bare value.

use bytes::Bytes;
use serde_json::json;

use super::{ApiRequest, NamedUpstream, Names, Ops, PackageId, PackageRef, PageRequest, ROUTE_WORDS, Reason};
use crate::{
    admin_api::FailureCode,
    package::{NameForm, PackageName, Version},
};

/// True for a segment that follows the name of a package.
pub(super) fn is_route_word(segment: &str) -> bool {
    ROUTE_WORDS.contains(&segment)
}

/// Parses a path without prefix, which may also be a route of the mirror itself.
pub(super) fn parse_root(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        ["healthz"] => Ok(ApiRequest::Ops(Ops::Healthz)),
        ["readyz"] => Ok(ApiRequest::Ops(Ops::Readyz)),
        ["metrics"] => Ok(ApiRequest::Ops(Ops::Metrics)),
        ["-", "openapi.json"] => Ok(ApiRequest::Ops(Ops::OpenApi)),
        ["-", rest @ ..] => Ok(ApiRequest::Ops(Ops::Admin(rest.join("/")))),
        ["healthz" | "readyz" | "metrics", ..] => Err(unknown_route()),
        _ => parse(names, segments, query),
    }
}

/// Parses the segments after the dialect's prefix: rules 1 (upstreams) to 4 of [`super`].
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    if let [first, rest @ ..] = segments
        && let Some(upstream) = names.upstream(first)
    {
        return parse_on_upstream(upstream, rest, query);
    }
    match segments {
        [name, word, rest @ ..] if is_route_word(word) && names.alias(name).is_some() => {
            parse_package_route(names.reference(PackageName::plain(name)?), word, rest, query)
        }
        [owner, repo, word, rest @ ..] if is_route_word(word) => {
            parse_package_route(names.reference(PackageName::new(owner, repo)?), word, rest, query)
        }
        [name, word, rest @ ..] if is_route_word(word) => {
            parse_package_route(PackageRef::Routed(PackageName::plain(name)?), word, rest, query)
        }
        _ => Err(unknown_route()),
    }
}

/// Parses the segments after an upstream's name.
fn parse_on_upstream(upstream: &NamedUpstream, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    let (name, word, rest) = match (upstream.form, segments) {
        (NameForm::Repository, [owner, repo, word, rest @ ..]) => (PackageName::new(owner, repo)?, word, rest),
        (NameForm::Plain, [owner, name, word, rest @ ..]) if is_route_word(word) && upstream.drops_owner(owner) => {
            (PackageName::plain(name)?, word, rest)
        }
        (NameForm::Plain, [name, word, rest @ ..]) => (PackageName::plain(name)?, word, rest),
        _ => return Err(unknown_route()),
    };
    if !is_route_word(word) {
        return Err(unknown_route());
    }
    parse_package_route(PackageId { upstream: upstream.name.clone(), name }.into(), word, rest, query)
}

/// Parses the segments after a package: a route word and its arguments.
pub(super) fn parse_package_route(
    package: PackageRef,
    word: &str,
    rest: &[&str],
    query: &str,
) -> Result<ApiRequest, Reason> {
    match (word, rest) {
        ("releases", []) => Ok(ApiRequest::Releases { package, page: PageRequest::parse(query)? }),
        ("releases", ["latest"]) => Ok(ApiRequest::Latest { package }),
        ("releases", ["tags", version @ ..]) => Ok(ApiRequest::Tag { package, version: parse_version(version)? }),
        ("zipball", []) => Ok(ApiRequest::Archive { package, version: Version::DefaultBranch }),
        ("zipball", version) => Ok(ApiRequest::Archive { package, version: parse_version(version)? }),
        ("flat", version) => Ok(ApiRequest::Flat { package, version: parse_version(version)? }),
        ("metadata", []) => Ok(ApiRequest::Metadata { package, version: None }),
        ("metadata", version) => Ok(ApiRequest::Metadata { package, version: Some(parse_version(version)?) }),
        _ => Err(unknown_route()),
    }
}

/// Parses the rest of a path as a version, whose slashes may be literal or encoded.
pub(super) fn parse_version(segments: &[&str]) -> Result<Version, Reason> {
    Ok(segments.join("/").parse()?)
}

const ROUTE_EXAMPLES: &str = "write /{owner}/{repo}/releases, …/releases/latest or …/zipball/{version}";

/// 404: the path is no route.
pub(super) fn unknown_route() -> Reason {
    Reason::NotFound(format!("nothing has this address; {ROUTE_EXAMPLES}"))
}

/// `{"message": "…", "status": "404"}`, as GitHub writes it, and the member `code` in errors about a package: clients need
/// not read the sentence.
pub(super) fn error(status: u16, code: Option<FailureCode>, message: &str, request_id: &str) -> Bytes {
    let mut envelope = json!({ "message": message, "status": status.to_string(), "request_id": request_id });
    if let Some(code) = code {
        envelope["code"] = json!(code);
    }
    envelope.to_string().into()
}
