//! The HTTP API of the mirror: path grammars and JSON envelopes, one of each per dialect.
//!
//! [`parse`] maps a method, a path and a query to a [`Route`], or to a [`RouteError`] that names the dialect whose
//! envelope the error response uses. The path grammar:
//!
//! 1. A reserved first segment (`repos`, `api`, `simple`, `v3`, `healthz`, `readyz`, `metrics`, `-`, an upstream's name)
//!    selects the dialect or the upstream. Below an upstream, aliases are ignored and the package is `owner/repo` on a
//!    forge, and a plain name on a registry.
//! 2. A configured alias followed by a route word (`releases`, `zipball`, `flat`, `metadata`) is that alias.
//! 3. If the third segment is a route word, the first two are `owner/repo`, or an alias of that form.
//! 4. One segment followed by a route word is a plain name. Any other path is 404.
//!
//! An alias may name a folder of a repository: a [`PackageRef::Folder`]. Its plain name has no path in the github dialect.
//! A name without an upstream and without an alias is a [`PackageRef::Routed`]: the [routes](Names::route) decide where
//! it comes from.
//!
//! To add a dialect: one file here, one variant of [`Dialect`], and one line in each of its methods.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    admin_api::FailureCode,
    package::{NameError, Version},
};

mod aliases;
mod catalog;
mod client_setup;
mod example_target;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod github;
mod hosting;
mod named_upstream;
mod names;
mod names_compiler;
mod names_error;
mod package_paths;
mod page;
mod path;
mod reserved_words;
mod route_row;
mod routes;
mod simple;
mod srm;
mod v3;
mod web;

pub use crate::package::{DialectName, NameRoute, PackageId, PackageRef, RouteRule};
pub use catalog::{CatalogMenu, CatalogQuery};
pub(crate) use client_setup::shell_word;
pub use client_setup::{ClientSetup, client_setups};
pub use example_target::{ExampleTarget, ExampleTargetError};
pub use github::ApiRoot;
pub use hosting::{HostNames, HostedNames};
pub(crate) use named_upstream::SIMPLE_OWNER;
pub use named_upstream::{HOSTED, NamedUpstream};
pub use names::{Names, OfficialRoutes};
pub use names_error::{AliasError, HostedNameError, NamesError, PackageError};
pub use page::{PageRequest, RowPage};
pub use path::{PATH_ENCODE_SET, encoded_segment, folder_zipball_url, unresolved_zipball_url, zipball_url};
pub use reserved_words::is_reserved_word;
use reserved_words::{RESERVED_SEGMENTS, ROUTE_WORDS};
pub use route_row::{RouteConfig, RouteConfigError};
pub use routes::EffectiveRoute;
pub(crate) use v3::is_upload;
pub use web::{PackageSearch, WebPage};

/// The `[names]` section: how a name in a path becomes a package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The upstream of paths that name none.
    pub default_upstream: String,
    /// The owner of plain names (`/fc3/releases`) that no route matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_owner: Option<String>,
    /// Whether plain names come from the official registry where nothing else decides. `None`: true unless
    /// `default_owner` or `packages.allow` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub official: Option<bool>,
    /// Names of packages: `fc3 = "devsapp/fc3"`, `"devsapp/core" = "Serverless-Devs/core"`, `x = "gitee:owner/repo"`; and
    /// of folders: `start-x = "acme/apps//start-x"`.
    pub aliases: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { default_upstream: "github".into(), default_owner: None, official: None, aliases: BTreeMap::new() }
    }
}

/// A path grammar with its JSON envelope. Part of the cache key of a rendered response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The routes of the Serverless Registry Model.
    Srm,
    /// GitHub's REST API, under one of two roots.
    Github(ApiRoot),
    /// The 2.x registry: the srm routes under `/simple`.
    Simple,
    /// The 3.x registry under `/v3`.
    V3,
}

/// A part of a 200 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopePart {
    /// A text that is the same in every response.
    Text(&'static str),
    /// The request's id, inside the quotes of a JSON string.
    RequestId,
    /// The JSON value.
    Value,
}

/// Where the files of a zip are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZipForm {
    /// In one top folder, as forges pack them.
    Foldered,
    /// At the root, as the 3.x registry packs them.
    Flat,
}

/// A parsed request path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The dialect whose envelope the response uses.
    pub dialect: Dialect,
    /// The requested resource.
    pub request: ApiRequest,
}

/// The resource that a path names. `package` is always the package that the resource belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRequest {
    /// All releases, or one page of them.
    Releases {
        /// The package.
        package: PackageRef,
        /// The requested page; `None` unless the query has `per_page` or `page`.
        page: Option<PageRequest>,
    },
    /// The latest release by the upstream's definition.
    Latest {
        /// The package.
        package: PackageRef,
    },
    /// The release of one version.
    Tag {
        /// The package.
        package: PackageRef,
        /// The version.
        version: Version,
    },
    /// A release by the forge's numeric id (github only): the target of a release's `url`.
    ById {
        /// The package.
        package: PackageRef,
        /// The numeric id (`id` in [`crate::package::Release::rest`]).
        id: u64,
        /// True for the release's assets alone: the target of its `assets_url`.
        assets: bool,
    },
    /// The zip of one version.
    Archive {
        /// The package.
        package: PackageRef,
        /// The version.
        version: Version,
    },
    /// The flat zip of one version: the zip without its top folder.
    Flat {
        /// The package.
        package: PackageRef,
        /// The version.
        version: Version,
    },
    /// The metadata record of one version or of all versions.
    Metadata {
        /// The package.
        package: PackageRef,
        /// The version; `None` for all.
        version: Option<Version>,
    },
    /// The repository itself (github only).
    Repository {
        /// The package.
        package: PackageRef,
    },
    /// The catalog: the packages that the mirror has or can fetch (v3 only).
    Catalog(CatalogQuery),
    /// The values of a filter of the catalog (v3 only).
    Menu(CatalogMenu),
    /// The packages that are published here and that the client may read or publish (v3 only).
    OwnPackages(RowPage),
    /// The versions of one package as table rows (v3 only).
    Detail {
        /// The package.
        package: PackageRef,
        /// The requested rows.
        page: RowPage,
    },
    /// Publishes the zip of one version (`PUT`, srm only).
    Publish {
        /// The package.
        package: PackageRef,
        /// The version.
        version: Version,
    },
    /// Deletes a published version (`DELETE`, srm and v3).
    Delete {
        /// The package.
        package: PackageRef,
        /// The version.
        version: Version,
    },
    /// Reserves a version and asks for the address that its zip is uploaded to (`POST`, v3 only). The body names both.
    Reserve,
    /// Uploads the zip of a reserved version (`PUT`, v3 only).
    Upload {
        /// The package.
        package: PackageRef,
        /// The version.
        version: Version,
    },
    /// Asks for a new code of the account that signs the request (`POST`, v3 only).
    RenewCode,
    /// Health, metrics, administration or a web page.
    Ops(Ops),
}

impl ApiRequest {
    /// True for requests that may have other methods than GET and HEAD.
    pub fn allows_writing(&self) -> bool {
        self.is_publication() || matches!(self, Self::RenewCode | Self::Ops(Ops::Admin(_)))
    }

    /// True for requests that publish or delete packages.
    pub fn is_publication(&self) -> bool {
        matches!(self, Self::Publish { .. } | Self::Delete { .. } | Self::Reserve | Self::Upload { .. })
    }

    /// The package of the resource; `None` for a resource of several packages or of none.
    pub fn package(&self) -> Option<&PackageRef> {
        match self {
            Self::Releases { package, .. }
            | Self::Latest { package }
            | Self::Tag { package, .. }
            | Self::ById { package, .. }
            | Self::Archive { package, .. }
            | Self::Flat { package, .. }
            | Self::Metadata { package, .. }
            | Self::Repository { package }
            | Self::Publish { package, .. }
            | Self::Delete { package, .. }
            | Self::Upload { package, .. }
            | Self::Detail { package, .. }
            | Self::Ops(Ops::Web(WebPage::Package { package, .. })) => Some(package),
            Self::Catalog(_)
            | Self::Menu(_)
            | Self::OwnPackages(_)
            | Self::Reserve
            | Self::RenewCode
            | Self::Ops(_) => None,
        }
    }
}

/// A resource of the mirror itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ops {
    /// `/healthz`: liveness.
    Healthz,
    /// `/readyz`: ready, degraded or draining.
    Readyz,
    /// `/metrics`.
    Metrics,
    /// `/-/openapi.json`: the description of the routes.
    OpenApi,
    /// A web page: `/-/`, and some addresses below it.
    Web(WebPage),
    /// Administration: the decoded path after `/-/`. [`parse`] accepts every method; the service checks it.
    Admin(String),
}

/// A request that matches no [`Route`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// The dialect whose envelope the error response uses.
    pub dialect: Dialect,
    /// The reason.
    pub reason: Reason,
}

/// Why a request matches no route. The texts are the mirror's own and may be shown to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400: a part of the request is malformed.
    BadRequest(String),
    /// 404: no route has this path.
    NotFound(String),
    /// 405: the route does not have this method.
    MethodNotAllowed {
        /// The value of the `Allow` field.
        allow: &'static str,
        /// The text for the client.
        message: String,
    },
}

impl RouteError {
    /// The HTTP status code.
    pub fn status(&self) -> u16 {
        match self.reason {
            Reason::BadRequest(_) => 400,
            Reason::NotFound(_) => 404,
            Reason::MethodNotAllowed { .. } => 405,
        }
    }

    /// The text for the client.
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

/// The methods of every route that can only be read.
const READ_METHODS: &str = "GET, HEAD";

/// Parses a request. `path` and `query` are still percent-encoded.
///
/// # Errors
/// See [`Reason`].
pub fn parse(names: &Names, method: &Method, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    let (dialect, rest) = Dialect::split_prefix(path);
    let reject = |reason| RouteError { dialect, reason };
    let reads = *method == Method::GET || *method == Method::HEAD;
    let query = query.unwrap_or_default();
    if dialect == Dialect::Srm
        && reads
        && let Some(page) = web::parse(names, rest, query).map_err(reject)?
    {
        return Ok(Route { dialect, request: ApiRequest::Ops(Ops::Web(page)) });
    }
    let segments = path::split(rest).map_err(|error| reject(Reason::BadRequest(error.to_string())))?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let request = match dialect {
        Dialect::Srm => srm::parse_root(names, &segments, query),
        Dialect::Simple => srm::parse(names, &segments, query),
        Dialect::Github(_) => github::parse(names, &segments, query),
        Dialect::V3 if !reads => v3::parse_write(names, method, &segments),
        Dialect::V3 => v3::parse(names, &segments, query),
    };
    let request = request.map_err(reject)?;
    let request = if dialect == Dialect::Srm { hosting::with_method(names, method, request) } else { request };
    if !reads && !request.allows_writing() {
        let message = format!("this address can only be read; use {READ_METHODS}");
        return Err(reject(Reason::MethodNotAllowed { allow: READ_METHODS, message }));
    }
    Ok(Route { dialect, request })
}

impl Dialect {
    /// Returns the dialect of a path and the path without the segments that select it.
    ///
    /// A base URL that ends in a slash doubles one slash; that is accepted at the start and after the prefix.
    fn split_prefix(path: &str) -> (Self, &str) {
        let path = path::strip_leading_slash(path::strip_leading_slash(path));
        let (first, rest) = path::split_first_segment(path);
        match path::decode(first).as_deref() {
            Ok("simple") => (Self::Simple, rest),
            Ok("v3") => (Self::V3, rest),
            Ok("repos") => (Self::Github(ApiRoot::Plain), rest),
            Ok("api") => {
                let (version, after) = path::split_first_segment(rest);
                let (word, after) = path::split_first_segment(after);
                let is_api_v3 = version == "v3" && word == "repos";
                (Self::Github(ApiRoot::ApiV3), if is_api_v3 { after } else { "" })
            }
            _ => (Self::Srm, path),
        }
    }

    /// The dialect as routes name it.
    pub fn name(self) -> DialectName {
        match self {
            Self::Srm => DialectName::Srm,
            Self::Github(_) => DialectName::Github,
            Self::Simple => DialectName::Simple,
            Self::V3 => DialectName::V3,
        }
    }

    /// True for the dialects whose clients install what they fetch: the command line clients of Serverless Devs.
    pub fn is_of_command_line(self) -> bool {
        matches!(self, Self::V3 | Self::Simple)
    }

    /// The form of the zips that its clients unpack.
    pub fn zip_form(self) -> ZipForm {
        match self {
            Self::V3 => ZipForm::Flat,
            Self::Srm | Self::Simple | Self::Github(_) => ZipForm::Foldered,
        }
    }

    /// The parts of a 200 response, in order.
    pub fn envelope(self) -> &'static [EnvelopePart] {
        match self {
            Self::Srm | Self::Github(_) => &[EnvelopePart::Value],
            Self::Simple => &simple::SIMPLE_ENVELOPE,
            Self::V3 => &v3::V3_ENVELOPE,
        }
    }

    /// The JSON body of an error response, with the request's id. Only srm's envelope has the code.
    pub fn error(self, status: u16, code: Option<FailureCode>, message: &str, request_id: &str) -> Bytes {
        match self {
            Self::Srm => srm::error(status, code, message, request_id),
            Self::Github(_) => github::error(status, message, request_id),
            Self::Simple => simple::error(status, message, request_id),
            Self::V3 => v3::error(message, request_id),
        }
    }
}

#[cfg(test)]
mod tests;
