//! The `[upstreams.NAME]` sections of the configuration, and their defaults.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::CredentialConfig;
use crate::{
    package::NameForm,
    value::{BaseUrl, ByteSize, Period},
};

/// The API that an upstream speaks: that of a forge or that of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// GitHub and GitHub Enterprise Server.
    Github,
    /// Gitee, API v5.
    Gitee,
    /// The registry of the 3.x CLI.
    V3,
    /// The registry of the 2.x CLI.
    Simple,
}

impl UpstreamKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Github, Self::Gitee, Self::V3, Self::Simple];

    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitee => "gitee",
            Self::V3 => "v3",
            Self::Simple => "simple",
        }
    }

    /// The form of the names of its packages.
    pub fn name_form(self) -> NameForm {
        match self {
            Self::Github | Self::Gitee => NameForm::Repository,
            Self::V3 | Self::Simple => NameForm::Plain,
        }
    }

    /// An owner that may stand in front of the plain names of a registry.
    pub fn dropped_owner(self) -> Option<&'static str> {
        match self {
            Self::Github | Self::Gitee | Self::V3 => None,
            Self::Simple => Some(SIMPLE_PROVIDER),
        }
    }
}

/// The provider that may stand in front of a package's name in the 2.x registry.
pub(super) const SIMPLE_PROVIDER: &str = "devsapp";

/// Most entries of `credentials` of one upstream: a package that none of them can see costs a request with each.
pub const MAX_CREDENTIALS: usize = 16;

/// One `[upstreams.NAME]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API that it speaks.
    pub kind: UpstreamKind,
    /// Base URL of the API.
    pub api: BaseUrl,
    /// Base URL of a forge's web pages (Gitee serves archives there without a token). Registries have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<BaseUrl>,
    /// The environment variable that holds the token; for a registry, the safety code that signs requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// The file that holds the token or the safety code; takes precedence over `token_env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Several credentials, the preferred ones first; in place of `token_env` and `token_file`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialConfig>,
    /// Hosts (`name`, `*.name`, or `name:port`) that an archive may be redirected to, besides the API's own origin.
    pub redirect_hosts: Vec<String>,
    /// Time limit for a connection to be established.
    pub connect_timeout: Period,
    /// Time limit for the head of a response.
    pub response_timeout: Period,
    /// Longest pause between two chunks of a body.
    pub idle_timeout: Period,
    /// Time limit for one document with all its pages, and for the opening of one zip.
    pub total_timeout: Period,
    /// Longest wait for a place among the concurrent requests.
    pub queue_timeout: Period,
    /// Least rate of a download, bytes per second averaged over half a minute.
    pub min_rate: ByteSize,
    /// Most requests for documents at once.
    pub concurrency: usize,
    /// Most downloads at once.
    pub downloads: usize,
    /// Largest document, all its pages together: both as transferred, perhaps compressed, and decoded.
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
    /// Patterns, with `*`, of versions that are published again and again: never pinned.
    #[serde(default)]
    pub moving: Vec<String>,
}

/// The upstreams of a mirror without configuration: the forges `github` and `gitee`, the registries `official` (v3) and
/// `official-2x` (simple).
pub fn defaults() -> BTreeMap<String, Config> {
    let github = forge(UpstreamKind::Github, "https://api.github.com", "https://github.com", "GITHUB_TOKEN");
    let gitee = forge(UpstreamKind::Gitee, "https://gitee.com/api/v5", "https://gitee.com", "GITEE_TOKEN");
    let official = registry(UpstreamKind::V3, "https://api.devsapp.cn/v3");
    let official_2x = registry(UpstreamKind::Simple, "https://registry.devsapp.cn/simple");
    let sections = [("github", github), ("gitee", gitee), ("official", official), ("official-2x", official_2x)];
    // A test holds that each address parses.
    sections.into_iter().filter_map(|(name, section)| Some((name.to_owned(), section?))).collect()
}

fn forge(kind: UpstreamKind, api: &str, web: &str, token_env: &str) -> Option<Config> {
    let redirect_hosts: &[&str] = match kind {
        UpstreamKind::Gitee => &["gitee.com", "*.gitee.com", "*.giteeusercontent.com"],
        _ => &["codeload.github.com"],
    };
    let section = section(kind, api, redirect_hosts)?;
    Some(Config { web: Some(web.parse().ok()?), token_env: Some(token_env.to_owned()), ..section })
}

fn registry(kind: UpstreamKind, api: &str) -> Option<Config> {
    let moving = ["dev", "dev.*"].map(str::to_owned).into();
    Some(Config { moving, ..section(kind, api, &["*.aliyuncs.com"])? })
}

fn section(kind: UpstreamKind, api: &str, redirect_hosts: &[&str]) -> Option<Config> {
    Some(Config {
        kind,
        api: api.parse().ok()?,
        web: None,
        token_env: None,
        token_file: None,
        credentials: Vec::new(),
        redirect_hosts: redirect_hosts.iter().map(|&host| host.to_owned()).collect(),
        connect_timeout: Period::secs(10),
        response_timeout: Period::secs(15),
        idle_timeout: Period::secs(30),
        total_timeout: Period::secs(60),
        queue_timeout: Period::secs(10),
        min_rate: ByteSize(10 << 10),
        concurrency: 32,
        downloads: 24,
        document_limit: ByteSize::mib(64),
        proxy: None,
        no_proxy: None,
        ca_file: None,
        address: None,
        full_walk: Period::secs(3600),
        moving: Vec::new(),
    })
}

impl Config {
    /// The credentials that are used: `credentials`, else `token_file`, else `token_env`.
    pub fn effective_credentials(&self) -> Vec<CredentialConfig> {
        if !self.credentials.is_empty() {
            return self.credentials.clone();
        }
        let file = self.token_file.clone().map(|token_file| CredentialConfig::File { token_file });
        let variable = || self.token_env.clone().map(|token_env| CredentialConfig::Variable { token_env });
        file.or_else(variable).into_iter().collect()
    }
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
