//! The mirror and the package of the examples.

use std::net::{IpAddr, SocketAddr};

use percent_encoding::utf8_percent_encode;
use url::Host;

use crate::{
    app::{DialectName, NamedUpstream, Names, PackageId, PackageRef, zipball_url},
    config::Config,
    dialect::UNRESERVED,
    package::PackageName,
    value::BaseUrl,
};

/// The version in the examples while none is known.
const VERSION_PLACEHOLDER: &str = "VERSION";

/// The value of `--package` cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("--package {text}: {reason}; write for example fc3, devsapp/fc3 or official:fc3@0.1.22")]
pub(super) struct PackageArgError {
    text: String,
    reason: String,
}

/// A mirror and a package.
pub(super) struct ExampleTarget {
    /// The mirror's URL without a trailing slash.
    pub(super) base: String,
    /// The version, where one is known.
    pub(super) version: Option<String>,
    names: Names,
    package: PackageRef,
}

impl ExampleTarget {
    /// Parses `name[@version]`, where the name is plain or `owner/repo`, with or without its upstream.
    ///
    /// # Errors
    /// When the text is none of these.
    pub(super) fn parse(url: &BaseUrl, text: &str) -> Result<Self, PackageArgError> {
        let invalid = |reason: String| PackageArgError { text: text.to_owned(), reason };
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        if version.as_ref().is_some_and(String::is_empty) {
            return Err(invalid("the version is missing".into()));
        }
        // The mirror's configuration is unknown here: assume the default upstreams and the one in the package's name.
        let defaults = Config::default();
        let mut upstreams = defaults.named_upstreams();
        if let Some((upstream, name)) = name.split_once(':')
            && !upstreams.iter().any(|known| *known.name == *upstream)
        {
            let is_forge = name.contains('/');
            upstreams.push(if is_forge {
                NamedUpstream::forge(upstream)
            } else {
                NamedUpstream::registry(upstream, None)
            });
        }
        let names = Names::new(&defaults.names, &[], upstreams, true).map_err(|error| invalid(error.to_string()))?;
        let package = names.parse_package(name).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { base: url.as_str().to_owned(), version, names, package })
    }

    /// The version, or a placeholder.
    pub(super) fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(VERSION_PLACEHOLDER)
    }

    /// The owner on the forge; `None` for a plain name.
    pub(super) fn owner(&self) -> Option<&str> {
        self.package.name().owner()
    }

    /// The repository, or the plain name.
    pub(super) fn base_name(&self) -> &str {
        self.package.name().base_name()
    }

    /// The URL of the zip.
    pub(super) fn zip_url(&self) -> String {
        format!("{}{}/zipball/{}", self.base, self.path(), utf8_percent_encode(self.version(), UNRESERVED))
    }

    /// The package's path in the srm dialect; the simple dialect has it below `/simple`.
    pub(super) fn path(&self) -> String {
        match &self.package {
            PackageRef::Id(id) => {
                let zip = zipball_url("", &self.names, id, "x", DialectName::Srm);
                zip.trim_end_matches("/zipball/x").to_owned()
            }
            PackageRef::Folder(folder) => format!("/{}", folder.alias),
            PackageRef::Routed(name) => format!("/{name}"),
        }
    }

    /// The package's name in the v3 dialect; the repository for names that the dialect cannot express.
    pub(super) fn v3_name(&self) -> String {
        let id = match &self.package {
            PackageRef::Id(id) => id.clone(),
            PackageRef::Folder(folder) => return folder.alias.to_string(),
            PackageRef::Routed(name) if name.owner().is_none() => return name.to_string(),
            PackageRef::Routed(name) => self.on_default_upstream(name),
        };
        self.names.v3_name(&id).unwrap_or_else(|| self.base_name().to_owned())
    }

    /// The package's path in the github dialect, below `/repos/`; `None` for a plain name, which that dialect does not have.
    pub(super) fn api_path(&self) -> Option<String> {
        self.owner()?;
        Some(match &self.package {
            PackageRef::Id(id) => self.names.api_path(id),
            // Its name has no owner.
            PackageRef::Folder(_) => return None,
            PackageRef::Routed(name) => self.names.api_path(&self.on_default_upstream(name)),
        })
    }

    fn on_default_upstream(&self, name: &PackageName) -> PackageId {
        PackageId { upstream: self.names.default_upstream().clone(), name: name.clone() }
    }
}

/// The mirror's IP address and port; `None` when its host name cannot be resolved.
pub(super) async fn resolve(url: &BaseUrl) -> Option<SocketAddr> {
    let port = url.url().port_or_known_default().unwrap_or(80);
    let ip = match url.url().host()? {
        Host::Ipv4(ip) => IpAddr::from(ip),
        Host::Ipv6(ip) => IpAddr::from(ip),
        Host::Domain(name) => return tokio::net::lookup_host((name, port)).await.ok()?.next(),
    };
    Some(SocketAddr::new(ip, port))
}
