//! The routes of the Serverless Registry Model, and its envelope: the bare value.

use bytes::Bytes;
use serde_json::json;

use super::{ApiRequest, Names, Ops, PackageId, PageRequest, ROUTE_WORDS, Reason};
use crate::{
    admin_api::FailureCode,
    package::{PackageName, Version},
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
        return match rest {
            [owner, repo, word, rest @ ..] if is_route_word(word) => {
                let name = PackageName::new(owner, repo)?;
                parse_package_route(PackageId { upstream: upstream.clone(), name }, word, rest, query)
            }
            _ => Err(unknown_route()),
        };
    }
    match segments {
        [name, word, rest @ ..] if is_route_word(word) && names.alias(name).is_some() => match names.alias(name) {
            Some(package) => parse_package_route(package.clone(), word, rest, query),
            None => Err(unknown_route()),
        },
        [owner, repo, word, rest @ ..] if is_route_word(word) => {
            parse_package_route(names.resolve_pair(owner, repo)?, word, rest, query)
        }
        [name, word, rest @ ..] if is_route_word(word) => match names.resolve_plain_name(name) {
            Some(package) => parse_package_route(package?, word, rest, query),
            None => {
                PackageName::new("x", name)?;
                Err(Reason::NotFound(format!(
                    "{name} is no alias and names.default_owner is not set; {ROUTE_EXAMPLES}"
                )))
            }
        },
        _ => Err(unknown_route()),
    }
}

/// Parses the segments after a package: a route word and its arguments.
pub(super) fn parse_package_route(
    package: PackageId,
    word: &str,
    rest: &[&str],
    query: &str,
) -> Result<ApiRequest, Reason> {
    match (word, rest) {
        ("releases", []) => Ok(ApiRequest::Releases { package, page: PageRequest::parse(query)? }),
        ("releases", ["latest"]) => Ok(ApiRequest::Latest { package }),
        ("releases", ["tags", version @ ..]) => Ok(ApiRequest::Tag { package, version: parse_version(version)? }),
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
pub(super) fn error(status: u16, code: Option<FailureCode>, message: &str) -> Bytes {
    let mut envelope = json!({ "message": message, "status": status.to_string() });
    if let Some(code) = code {
        envelope["code"] = json!(code);
    }
    envelope.to_string().into()
}
