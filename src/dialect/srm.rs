//! The Serverless Registry Model's own routes, and the bare envelope.

use bytes::Bytes;
use serde_json::json;

use super::{ApiRequest, Names, Ops, PackageId, Page, Reason};
use crate::package::{PackageName, Version};

/// True for the word that ends the name of a package in a path.
pub(super) fn is_route_word(segment: &str) -> bool {
    matches!(segment, "releases" | "zipball" | "flat" | "metadata")
}

/// Reads a path from its very beginning, where the mirror's own routes are too.
pub(super) fn parse_root(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        ["healthz"] => Ok(ApiRequest::Ops(Ops::Healthz)),
        ["readyz"] => Ok(ApiRequest::Ops(Ops::Readyz)),
        ["metrics"] => Ok(ApiRequest::Ops(Ops::Metrics)),
        ["-", rest @ ..] => Ok(ApiRequest::Ops(Ops::Admin(rest.join("/")))),
        ["healthz" | "readyz" | "metrics", ..] => Err(no_route()),
        _ => parse(names, segments, query),
    }
}

/// Reads what follows the dialect's prefix: rules 1 (upstreams) to 4 of [`super`].
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    if let [first, rest @ ..] = segments
        && let Some(upstream) = names.upstream(first)
    {
        return match rest {
            [owner, repo, word, rest @ ..] if is_route_word(word) => {
                let name = PackageName::new(owner, repo)?;
                tail(PackageId { upstream: upstream.clone(), name }, word, rest, query)
            }
            _ => Err(no_route()),
        };
    }
    match segments {
        [name, word, rest @ ..] if is_route_word(word) && names.alias(name).is_some() => match names.alias(name) {
            Some(package) => tail(package.clone(), word, rest, query),
            None => Err(no_route()),
        },
        [owner, repo, word, rest @ ..] if is_route_word(word) => tail(names.pair(owner, repo)?, word, rest, query),
        [name, word, rest @ ..] if is_route_word(word) => match names.plain(name) {
            Some(package) => tail(package?, word, rest, query),
            None => {
                PackageName::new("x", name)?;
                Err(Reason::NotFound(format!("{name} is no alias and names.default_owner is not set; {WRITE}")))
            }
        },
        _ => Err(no_route()),
    }
}

/// Reads what follows a package: a route word and its rest.
pub(super) fn tail(package: PackageId, word: &str, rest: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match (word, rest) {
        ("releases", []) => Ok(ApiRequest::Releases { package, page: Page::of(query)? }),
        ("releases", ["latest"]) => Ok(ApiRequest::Latest { package }),
        ("releases", ["tags", version @ ..]) => Ok(ApiRequest::Tag { package, version: read_version(version)? }),
        ("zipball", version) => Ok(ApiRequest::Archive { package, version: read_version(version)? }),
        ("flat", version) => Ok(ApiRequest::Flat { package, version: read_version(version)? }),
        ("metadata", []) => Ok(ApiRequest::Metadata { package, version: None }),
        ("metadata", version) => Ok(ApiRequest::Metadata { package, version: Some(read_version(version)?) }),
        _ => Err(no_route()),
    }
}

/// The rest of a path is a version: its slashes may be literal or encoded.
pub(super) fn read_version(segments: &[&str]) -> Result<Version, Reason> {
    Ok(segments.join("/").parse()?)
}

const WRITE: &str = "write /{owner}/{repo}/releases, …/releases/latest or …/zipball/{version}";

/// 404 for a path that is no route.
pub(super) fn no_route() -> Reason {
    Reason::NotFound(format!("nothing has this address; {WRITE}"))
}

/// `{"message": "…", "status": "404"}`, GitHub's form.
pub(super) fn error(status: u16, message: &str) -> Bytes {
    json!({ "message": message, "status": status.to_string() }).to_string().into()
}
