//! STUB: trait Upstream and its registry of kinds.
use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::PackageName,
    value::{BaseUrl, ByteSize, Period},
};

/// What speaks to one forge. One implementation per kind.
pub trait Upstream: Send + Sync + 'static {
    /// True when requests carry a token.
    fn has_token(&self) -> bool;

    /// Asks for a document, conditionally where `stored` was fetched with the same token; the body of a changed one is
    /// the JSON of the type that [`DocumentAsk`] names, normalised.
    ///
    /// # Errors
    /// See [`FetchError`].
    fn document<'a>(
        &'a self,
        package: &'a PackageName,
        ask: &'a DocumentAsk,
        stored: Option<&'a Document>,
    ) -> BoxFuture<'a, Result<FetchedDocument, FetchError>>;

    /// Opens the zip of a tag or a commit: redirects resolved, status and media type judged, body only begun.
    ///
    /// # Errors
    /// See [`FetchError`]; no such ref is `NotFound(Missing::Version)`.
    fn archive<'a>(
        &'a self,
        package: &'a PackageName,
        reference: &'a GitRef,
    ) -> BoxFuture<'a, Result<FetchedBody, FetchError>>;
}

/// A document an upstream is asked for, and the type of its normalised JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DocumentAsk {
    /// Every release: [`crate::package::Releases`].
    Releases,
    /// What the upstream calls latest: [`crate::package::Release`].
    Latest,
    /// The release of one tag: [`crate::package::Release`].
    Tag(String),
    /// The repository itself: [`crate::package::Repository`].
    Repository,
    /// The commit a branch points at: [`crate::package::BranchHead`].
    Branch(String),
}

/// What a zip is asked by; always unambiguous.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GitRef {
    /// `refs/tags/…`, given without that prefix.
    Tag(String),
    /// A full commit SHA.
    Commit(String),
}

/// The kinds of forges there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// GitHub and GitHub Enterprise Server.
    Github,
    /// Gitee, API v5.
    Gitee,
}

/// One `[upstreams.NAME]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which forge it is.
    pub kind: Kind,
    /// Where its API is.
    pub api: BaseUrl,
    /// Where its web pages are (Gitee serves tokenless archives there).
    pub web: BaseUrl,
    /// The environment variable that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// The file that holds the token; wins over `token_env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Hosts (`name`, `*.name`, or `name:port`) that an archive may be redirected to, besides the API's own origin.
    pub redirect_hosts: Vec<String>,
    /// Longest wait for a connection.
    pub connect_timeout: Period,
    /// Longest wait for the head of an answer.
    pub response_timeout: Period,
    /// Longest silence within a body.
    pub idle_timeout: Period,
    /// Most requests in flight at once.
    pub concurrency: usize,
    /// Largest document, all its pages together, as it comes over the wire.
    pub document_limit: ByteSize,
    /// `http://`, `https://`, `socks5://` or `socks5h://` proxy for every request to this upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Hosts that are reached without the proxy, comma-separated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    /// PEM file of further certificate authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A fixed address for the API's host, where DNS points it elsewhere (at this mirror, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// A full walk over all pages of a release list is made at least this often, even while page one says 304.
    pub full_walk: Period,
}
