//! The mirror and the package that the examples are about.

use std::net::{IpAddr, SocketAddr};

use url::Host;

use crate::{
    app::{Names, PackageId, zipball_url},
    config::Config,
    value::BaseUrl,
};

/// What stands in the examples where no version is known.
const VERSION: &str = "VERSION";

/// `--package` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--package {text}: {reason}; write for example devsapp/fc3 or gitee:devsapp/fc3@1.0.0")]
pub(super) struct PackageArgError {
    text: String,
    reason: String,
}

/// A mirror and a package.
pub(super) struct ExampleTarget {
    /// The mirror's address without a slash at the end.
    pub(super) base: String,
    /// The version, where one is known.
    pub(super) version: Option<String>,
    names: Names,
    package: PackageId,
}

impl ExampleTarget {
    /// Reads `owner/repo[@version]` or `upstream:owner/repo[@version]`.
    pub(super) fn read(url: &BaseUrl, text: &str) -> Result<Self, PackageArgError> {
        let wrong = |reason: String| PackageArgError { text: text.to_owned(), reason };
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        if version.as_ref().is_some_and(String::is_empty) {
            return Err(wrong("the version is missing".into()));
        }
        // The mirror's own configuration is not known here: its upstreams are those of the default and the one named.
        let defaults = Config::default();
        let mut upstreams: Vec<&str> = defaults.upstreams.keys().map(String::as_str).collect();
        if let Some((upstream, _)) = name.split_once(':')
            && !upstreams.contains(&upstream)
        {
            upstreams.push(upstream);
        }
        let names = Names::build(&defaults.names, &upstreams).map_err(wrong)?;
        if !name.contains('/') {
            return Err(wrong("the owner is missing".into()));
        }
        let package = names.package(name).map_err(wrong)?;
        Ok(Self { base: url.as_str().to_owned(), version, names, package })
    }

    /// The version, or a word in its place.
    pub(super) fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(VERSION)
    }

    pub(super) fn owner(&self) -> &str {
        self.package.name.owner()
    }

    pub(super) fn repo(&self) -> &str {
        self.package.name.repo()
    }

    /// The address of the zip.
    pub(super) fn zip(&self) -> String {
        zipball_url(&self.base, &self.names, &self.package, self.version(), false)
    }

    /// The path of the package in the srm dialect, and in simple behind `/simple`.
    pub(super) fn path(&self) -> String {
        let zip = zipball_url("", &self.names, &self.package, "x", false);
        zip.trim_end_matches("/zipball/x").to_owned()
    }

    /// The package in the v3 dialect; the few names that have none are asked for by their repository.
    pub(super) fn v3_name(&self) -> String {
        self.names.v3_name(&self.package).unwrap_or_else(|| self.repo().to_owned())
    }

    /// The path of the package in the github dialect, behind `/repos/`.
    pub(super) fn api_path(&self) -> String {
        self.names.api_path(&self.package)
    }
}

/// The address of the mirror's host with its port; `None` where no name service knows it.
pub(super) async fn address(url: &BaseUrl) -> Option<SocketAddr> {
    let port = url.url().port_or_known_default().unwrap_or(80);
    let ip = match url.url().host()? {
        Host::Ipv4(ip) => IpAddr::from(ip),
        Host::Ipv6(ip) => IpAddr::from(ip),
        Host::Domain(name) => return tokio::net::lookup_host((name, port)).await.ok()?.next(),
    };
    Some(SocketAddr::new(ip, port))
}
