//! The mirror and the package of the examples for clients.

use std::sync::Arc;

use percent_encoding::utf8_percent_encode;

use super::{DialectName, Names, PackageError, PackageId, PackageRef, UNRESERVED, zipball_url};
use crate::package::PackageName;

/// The version in the examples while none is known.
const VERSION_PLACEHOLDER: &str = "VERSION";

/// A text that is no package of an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExampleTargetError {
    /// Nothing follows the `@`.
    #[error("the version is missing")]
    NoVersion,
    /// The name cannot be parsed.
    #[error(transparent)]
    Name(#[from] PackageError),
}

/// A mirror and a package.
pub struct ExampleTarget {
    /// The mirror's URL without a trailing slash.
    pub base: String,
    /// The version, where one is known.
    pub version: Option<String>,
    names: Arc<Names>,
    package: PackageRef,
}

impl ExampleTarget {
    /// Parses `name[@version]`, where the name is plain or `owner/repo`, with or without its upstream. `base` is the
    /// mirror's URL without a trailing slash.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(base: String, names: Arc<Names>, text: &str) -> Result<Self, ExampleTargetError> {
        let mut parts = text.splitn(2, '@');
        let package = names.parse_package(parts.next().unwrap_or_default())?;
        let version = parts.next().map(str::to_owned);
        if version.as_ref().is_some_and(String::is_empty) {
            return Err(ExampleTargetError::NoVersion);
        }
        Ok(Self { base, version, names, package })
    }

    /// The version, or a placeholder.
    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(VERSION_PLACEHOLDER)
    }

    /// The owner on the forge; `None` for a plain name.
    pub fn owner(&self) -> Option<&str> {
        self.package.name().owner()
    }

    /// The repository, or the plain name.
    pub fn base_name(&self) -> &str {
        self.package.name().base_name()
    }

    /// The URL of the zip.
    pub fn zip_url(&self) -> String {
        format!("{}{}/zipball/{}", self.base, self.path(), utf8_percent_encode(self.version(), UNRESERVED))
    }

    /// The package's path in the srm dialect; the simple dialect has it below `/simple`.
    pub fn path(&self) -> String {
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
    pub fn v3_name(&self) -> String {
        let id = match &self.package {
            PackageRef::Id(id) => id.clone(),
            PackageRef::Folder(folder) => return folder.alias.to_string(),
            PackageRef::Routed(name) if name.owner().is_none() => return name.to_string(),
            PackageRef::Routed(name) => self.on_default_upstream(name),
        };
        self.names.v3_name(&id).unwrap_or_else(|| self.base_name().to_owned())
    }

    /// The package's path in the github dialect, below `/repos/`; `None` for a plain name, which that dialect does not have.
    pub fn api_path(&self) -> Option<String> {
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
