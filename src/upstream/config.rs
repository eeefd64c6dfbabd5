//! The `[upstreams.NAME]` sections of the configuration, and their defaults.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    package::NameForm,
    value::{BaseUrl, ByteSize, Period},
};

/// The kind of a forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// GitHub and GitHub Enterprise Server.
    Github,
    /// Gitee, API v5.
    Gitee,
}

impl ForgeKind {
    /// The form of the names of its packages.
    pub fn name_form(self) -> NameForm {
        match self {
            Self::Github | Self::Gitee => NameForm::Repository,
        }
    }

    /// An owner that may stand in front of the plain names of a registry.
    pub fn dropped_owner(self) -> Option<&'static str> {
        match self {
            Self::Github | Self::Gitee => None,
        }
    }
}

/// One `[upstreams.NAME]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The kind of forge.
    pub kind: ForgeKind,
    /// Base URL of the API.
    pub api: BaseUrl,
    /// Base URL of the web pages (Gitee serves archives there without a token).
    pub web: BaseUrl,
    /// The environment variable that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// The file that holds the token; takes precedence over `token_env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Hosts (`name`, `*.name`, or `name:port`) that an archive may be redirected to, besides the API's own origin.
    pub redirect_hosts: Vec<String>,
    /// Time limit for a connection to be established.
    pub connect_timeout: Period,
    /// Time limit for the head of a response.
    pub response_timeout: Period,
    /// Longest pause between two chunks of a body.
    pub idle_timeout: Period,
    /// Most requests in flight at once.
    pub concurrency: usize,
    /// Largest document, all its pages together, as transferred.
    pub document_limit: ByteSize,
    /// `http://`, `https://`, `socks5://` or `socks5h://` proxy for every request to this upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Hosts reached without the proxy, comma-separated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    /// PEM file of additional certificate authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A fixed address for the API's host, for when DNS resolves it elsewhere (to this mirror, for example).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Longest time between two fetches of all pages of a release list, even while page one answers 304.
    pub full_walk: Period,
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
    let github = section(
        ForgeKind::Github,
        "https://api.github.com",
        "https://github.com",
        "GITHUB_TOKEN",
        &["codeload.github.com"],
    );
    let gitee = section(
        ForgeKind::Gitee,
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

/// An invalid value of an `[upstreams.NAME]` section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upstreams.{upstream}.{key}: {reason}")]
pub struct BuildError {
    /// The section's name.
    pub upstream: String,
    /// The key (`instance` is the mirror's own pseudonym).
    pub key: &'static str,
    /// Why the value is invalid; never contains a secret.
    pub reason: String,
}
