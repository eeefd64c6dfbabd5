//! What the mirror fetches from: one trait, one file per kind of forge, and one line per kind in [`build`].
//!
//! Speaks in normalised documents and opened archives; an upstream's own words, addresses and tokens stay inside.
//! Every request leaves through `client`, which alone knows the token and where it may go.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    entry::Document,
    origin::{BoxFuture, FetchError, FetchedBody, FetchedDocument},
    package::PackageName,
    value::{BaseUrl, ByteSize, Period, Secret},
};

mod body;
mod call_log;
mod client;
mod connect;
mod failure;
mod gitee;
mod github;
mod json;
mod normalise;
mod offline;
mod pages;
mod rate_limiter;
mod redirect;
mod throttle;

#[cfg(test)]
mod tests;

/// Builds the upstream that a section describes.
///
/// `token` is sent only to the origin of `config.api`. `instance` is this mirror's pseudonym in `Via` (RFC 9110 §7.6.3).
/// Reads `ca_file`; asks nobody.
///
/// # Errors
/// [`BuildError`] names the key whose value cannot be used.
pub fn build(
    name: &str,
    config: &Config,
    token: Option<Secret>,
    instance: &str,
) -> Result<Arc<dyn Upstream>, BuildError> {
    Ok(match config.kind {
        Kind::Github => Arc::new(github::Github::new(name, config, token, instance)?),
        Kind::Gitee => Arc::new(gitee::Gitee::new(name, config, token, instance)?),
    })
}

/// The same upstream, never asked: every request is refused, and no connection is made.
pub fn offline(upstream: &Arc<dyn Upstream>) -> Arc<dyn Upstream> {
    Arc::new(offline::Offline { has_token: upstream.has_token() })
}

/// What a mirror calls itself in the `Via` of its requests (RFC 9110 §7.6.3).
pub fn pseudonym(instance: &str) -> String {
    format!("srm-mirror-{instance}")
}

/// The upstreams of a mirror without configuration: `github` and `gitee`.
pub fn defaults() -> BTreeMap<String, Config> {
    let section = |kind, api: &str, web: &str, token_env: &str, hosts: &[&str]| {
        Some(Config {
            kind,
            api: api.parse().ok()?,
            web: web.parse().ok()?,
            token_env: Some(token_env.to_owned()),
            token_file: None,
            redirect_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            connect_timeout: Period::secs(10),
            response_timeout: Period::secs(15),
            idle_timeout: Period::secs(30),
            concurrency: 32,
            document_limit: ByteSize::mib(64),
            proxy: None,
            no_proxy: None,
            ca_file: None,
            address: None,
            full_walk: Period::secs(3600),
        })
    };
    let github =
        section(Kind::Github, "https://api.github.com", "https://github.com", "GITHUB_TOKEN", &["codeload.github.com"]);
    let gitee = section(
        Kind::Gitee,
        "https://gitee.com/api/v5",
        "https://gitee.com",
        "GITEE_TOKEN",
        &["gitee.com", "*.gitee.com", "*.giteeusercontent.com"],
    );
    [("github", github), ("gitee", gitee)]
        .into_iter()
        .filter_map(|(name, section)| Some((name.to_owned(), section?)))
        .collect()
}

/// A value of an `[upstreams.NAME]` section that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upstreams.{upstream}.{key}: {reason}")]
pub struct BuildError {
    /// The section's name.
    pub upstream: String,
    /// The key (`instance` is the mirror's own pseudonym).
    pub key: &'static str,
    /// What is wrong with it; never the value of a secret.
    pub reason: String,
}

/// An address below `base`; whatever a segment holds, it stays one segment.
fn address<'s>(base: &BaseUrl, segments: impl IntoIterator<Item = &'s str>) -> Url {
    let mut url = base.url().clone();
    // Fails only for addresses that have no path, and a `BaseUrl` is always http or https.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// What speaks to one forge. One implementation per kind.
pub trait Upstream: Send + Sync + 'static {
    /// True when requests carry a token.
    fn has_token(&self) -> bool;

    /// What it allows the mirror for now. An upstream that says nothing of it allows everything.
    fn allowance(&self) -> RateLimitStatus {
        RateLimitStatus::default()
    }

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

/// What an upstream still allows, as far as its last answers told. Unknown is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// Requests left until `reset`.
    pub remaining: Option<u64>,
    /// When the quota is filled up again.
    pub reset: Option<Timestamp>,
    /// Nothing is asked before this is over.
    pub wait: Option<Duration>,
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

impl DocumentAsk {
    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Releases => "releases",
            Self::Latest => "latest",
            Self::Tag(_) => "tag",
            Self::Repository => "repository",
            Self::Branch(_) => "branch",
        }
    }
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
