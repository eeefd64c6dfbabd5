//! What a request asks for, by host and path.

use std::fmt;

use super::log::Host;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    GithubApi,
    Archive,
    Gitee,
    /// `/packages/{n}/release/latest`.
    V3Latest,
    /// `/packages/{n}/release/tags/{v}`.
    V3Tag,
    /// `/packages/{n}/release`.
    V3List,
    /// `/packages/{n}/zipball/{v}`.
    V3Zip,
    /// `/packages/releases`: all packages.
    V3Catalog,
    /// `/common/categories` and `/common/providers`.
    V3Common,
    V3Other,
    /// `/[{provider}/]{n}/releases/latest`.
    SimpleLatest,
    /// `/[{provider}/]{n}/releases`.
    SimpleList,
    /// `/[{provider}/]{n}/zipball/{v}`.
    SimpleZip,
    SimpleOther,
    /// Any object of the storage.
    Storage,
}

impl Route {
    pub fn of(host: Host, path: &str) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match (host, segments.as_slice()) {
            (Host::GithubApi, _) => Self::GithubApi,
            (Host::Archive, _) => Self::Archive,
            (Host::Gitee, _) => Self::Gitee,
            (Host::Storage, _) => Self::Storage,
            (Host::V3, ["v3", "packages", "releases"]) => Self::V3Catalog,
            (Host::V3, ["v3", "packages", _, "release"]) => Self::V3List,
            (Host::V3, ["v3", "packages", _, "release", "latest"]) => Self::V3Latest,
            (Host::V3, ["v3", "packages", _, "release", "tags", ..]) => Self::V3Tag,
            (Host::V3, ["v3", "packages", _, "zipball", ..]) => Self::V3Zip,
            (Host::V3, ["v3", "common", ..]) => Self::V3Common,
            (Host::V3, _) => Self::V3Other,
            (Host::Simple, ["simple", .., "releases", "latest"]) => Self::SimpleLatest,
            (Host::Simple, ["simple", .., "releases"]) => Self::SimpleList,
            (Host::Simple, ["simple", _, "zipball", ..] | ["simple", _, _, "zipball", ..]) => Self::SimpleZip,
            (Host::Simple, _) => Self::SimpleOther,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::GithubApi => "github api",
            Self::Archive => "archive",
            Self::Gitee => "gitee",
            Self::V3Latest => "v3 latest",
            Self::V3Tag => "v3 tag",
            Self::V3List => "v3 list",
            Self::V3Zip => "v3 zip",
            Self::V3Catalog => "v3 catalog",
            Self::V3Common => "v3 common",
            Self::V3Other => "v3 other",
            Self::SimpleLatest => "simple latest",
            Self::SimpleList => "simple list",
            Self::SimpleZip => "simple zip",
            Self::SimpleOther => "simple other",
            Self::Storage => "storage",
        })
    }
}
