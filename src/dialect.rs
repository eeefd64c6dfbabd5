//! How clients ask and how answers are wrapped: one path grammar and one JSON envelope per dialect.
//!
//! [`parse`] turns a method, a path and a query into a [`Route`] or a [`RouteError`] that knows which envelope its error must
//! wear. How a path is read:
//!
//! 1. A reserved first segment (`repos`, `api`, `simple`, `v3`, `healthz`, `readyz`, `metrics`, `-`, an upstream's name)
//!    names the dialect or the upstream; under an upstream there are no aliases and always `owner/repo`.
//! 2. A configured alias followed by a route word (`releases`, `zipball`, `flat`, `metadata`) is that alias.
//! 3. If the third segment is a route word, it is `owner/repo` (which may be an alias too).
//! 4. With a default owner, a segment followed by a route word is a plain name. Anything else is 404.
//!
//! A new dialect is one file here, one variant of [`Dialect`] and one line in each of its methods.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::package::{NameError, Version};

mod github;
mod names;
mod page;
mod path;
mod simple;
mod srm;
mod v3;

pub use crate::package::PackageId;
pub use github::Root;
pub use names::Names;
pub use page::Page;
pub use path::zipball_url;

/// The `[names]` section: how a path becomes a package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The upstream of paths that name none.
    pub default_upstream: String,
    /// The owner of plain names (`/fc3/releases`), where one is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_owner: Option<String>,
    /// Names of packages: `fc3 = "devsapp/fc3"`, `"devsapp/core" = "Serverless-Devs/core"`, `x = "gitee:owner/repo"`.
    pub aliases: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { default_upstream: "github".into(), default_owner: None, aliases: BTreeMap::new() }
    }
}

/// A path grammar with its JSON envelope. Part of the key of anything rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The Serverless Registry Model's own routes.
    Srm,
    /// GitHub's REST API, under one of two roots.
    Github(Root),
    /// The 2.x registry: the srm routes under `/simple`.
    Simple,
    /// The 3.x registry under `/v3`.
    V3,
}

/// What a request asks for, and in which dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whose envelope the answer wears.
    pub dialect: Dialect,
    /// What is asked for.
    pub ask: ApiRequest,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRequest {
    /// Every release, or one page of them.
    Releases {
        /// Of this package.
        package: PackageId,
        /// Only where the client sent `per_page` or `page`.
        page: Option<Page>,
    },
    /// What the upstream calls the latest release.
    Latest {
        /// Of this package.
        package: PackageId,
    },
    /// The release of one version.
    Tag {
        /// Of this package.
        package: PackageId,
        /// Which one.
        version: Version,
    },
    /// The release with the forge's own number (github only): where its `url` leads.
    ById {
        /// Of this package.
        package: PackageId,
        /// The forge's number (`id` in [`crate::package::Release::rest`]).
        id: u64,
        /// Only its assets: where its `assets_url` leads.
        assets: bool,
    },
    /// The zip of one version.
    Archive {
        /// Of this package.
        package: PackageId,
        /// Which one.
        version: Version,
    },
    /// The same zip without its top folder.
    Flat {
        /// Of this package.
        package: PackageId,
        /// Which one.
        version: Version,
    },
    /// The metadata record of one version, or of all.
    Metadata {
        /// Of this package.
        package: PackageId,
        /// Which one; all where it is `None`.
        version: Option<Version>,
    },
    /// The repository itself (github only).
    Repository {
        /// This package.
        package: PackageId,
    },
    /// The packages the mirror knows (v3 only).
    Search {
        /// What their names or descriptions must contain.
        search: Option<String>,
        /// Which part of the list.
        page: Page,
    },
    /// The versions of one package as rows (v3 only).
    Detail {
        /// Of this package.
        package: PackageId,
        /// Which part of the list.
        page: Page,
    },
    /// Something about the mirror itself.
    Ops(Ops),
}

impl ApiRequest {
    /// The package that is asked about, where it is one.
    pub fn package(&self) -> Option<&PackageId> {
        match self {
            Self::Releases { package, .. }
            | Self::Latest { package }
            | Self::Tag { package, .. }
            | Self::ById { package, .. }
            | Self::Archive { package, .. }
            | Self::Flat { package, .. }
            | Self::Metadata { package, .. }
            | Self::Repository { package }
            | Self::Detail { package, .. } => Some(package),
            Self::Search { .. } | Self::Ops(_) => None,
        }
    }
}

/// Questions about the mirror itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ops {
    /// `/healthz`: alive?
    Healthz,
    /// `/readyz`: ready, degraded or draining?
    Readyz,
    /// `/metrics`.
    Metrics,
    /// `/-/…`, decoded, without that prefix; its methods are its own.
    Admin(String),
}

/// A request that no [`Route`] fits, and whose envelope says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// Whose envelope the error wears.
    pub dialect: Dialect,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a request. The texts are ours, for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400: a part of it is malformed.
    BadRequest(String),
    /// 404: nothing has this address.
    NotFound(String),
    /// 405.
    MethodNotAllowed {
        /// The `Allow` field.
        allow: &'static str,
        /// What to say.
        message: String,
    },
}

impl RouteError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self.reason {
            Reason::BadRequest(_) => 400,
            Reason::NotFound(_) => 404,
            Reason::MethodNotAllowed { .. } => 405,
        }
    }

    /// What to tell the client.
    pub fn message(&self) -> &str {
        match &self.reason {
            Reason::BadRequest(text) | Reason::NotFound(text) => text,
            Reason::MethodNotAllowed { message, .. } => message,
        }
    }
}

impl From<NameError> for Reason {
    fn from(error: NameError) -> Self {
        Self::BadRequest(error.0)
    }
}

/// The methods that read.
const READS: &str = "GET, HEAD";

/// First segments that name a dialect or the mirror itself; upstreams' names are reserved too.
const RESERVED: [&str; 8] = ["repos", "api", "simple", "v3", "healthz", "readyz", "metrics", "-"];

/// Reads a request. `path` and `query` are as they came over the wire, still percent-encoded.
///
/// # Errors
/// See [`Reason`].
pub fn parse(names: &Names, method: &Method, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    let (dialect, rest) = Dialect::of(path);
    let reject = |reason| RouteError { dialect, reason };
    let reads = *method == Method::GET || *method == Method::HEAD;
    if dialect == Dialect::V3 && !reads {
        return Err(reject(Reason::MethodNotAllowed { allow: READS, message: v3::HOSTS_NOTHING.into() }));
    }
    let segments = path::split(rest).map_err(|why| reject(Reason::BadRequest(why)))?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let query = query.unwrap_or_default();
    let ask = match dialect {
        Dialect::Srm => srm::parse_root(names, &segments, query),
        Dialect::Simple => srm::parse(names, &segments, query),
        Dialect::Github(_) => github::parse(names, &segments, query),
        Dialect::V3 => v3::parse(names, &segments, query),
    };
    let ask = ask.map_err(reject)?;
    if !reads && !matches!(ask, ApiRequest::Ops(Ops::Admin(_))) {
        let message = format!("this address can only be read; use {READS}");
        return Err(reject(Reason::MethodNotAllowed { allow: READS, message }));
    }
    Ok(Route { dialect, ask })
}

impl Dialect {
    /// Names the dialect of a path and cuts off the segments that say so.
    ///
    /// The slash doubled by a base address that ends in one is forgiven, once at the start and once after that prefix.
    fn of(path: &str) -> (Self, &str) {
        let path = path::strip_leading_slash(path.strip_prefix('/').unwrap_or(path));
        let (first, rest) = path::split_first_segment(path);
        match path::decode(first).as_deref() {
            Ok("simple") => (Self::Simple, rest),
            Ok("v3") => (Self::V3, rest),
            Ok("repos") => (Self::Github(Root::Plain), rest),
            Ok("api") => {
                let (version, after) = path::split_first_segment(rest);
                let (word, after) = path::split_first_segment(after);
                let under = version == "v3" && word == "repos";
                (Self::Github(Root::ApiV3), if under { after } else { "" })
            }
            _ => (Self::Srm, path),
        }
    }

    /// True where the dialect's zips are flat views.
    pub fn is_flat(self) -> bool {
        self == Self::V3
    }

    /// Wraps a rendered JSON value for a 200.
    pub fn success(self, value: Bytes, request_id: &str) -> Bytes {
        match self {
            Self::Srm | Self::Github(_) => value,
            Self::Simple => simple::success(&value),
            Self::V3 => v3::success(&value, request_id),
        }
    }

    /// The JSON body of an error.
    pub fn error(self, status: u16, message: &str, request_id: &str) -> Bytes {
        match self {
            Self::Srm => srm::error(status, message),
            Self::Github(_) => github::error(status, message),
            Self::Simple => simple::error(status, message),
            Self::V3 => v3::error(message, request_id),
        }
    }
}

#[cfg(test)]
mod tests;
