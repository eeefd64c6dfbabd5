//! The mirror and the package of the examples for clients.

use std::sync::Arc;

use super::{Names, PackageError, PackageId, PackageRef, unresolved_zipball_url};
use crate::package::{NameError, PackageName, Version};

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
    /// The version cannot be parsed.
    #[error(transparent)]
    Version(#[from] NameError),
    /// The name would be an option of a command.
    #[error("the name begins with a dash, and the commands of the examples would take it for an option")]
    LeadingDash,
    /// The version would end a quoted word of a shell.
    #[error("the version has a quotation mark, which the lines of the examples cannot have")]
    QuotationMark,
}

/// A mirror and a package. All its texts can be copied into a shell: as they are, or as one word in single quotation marks.
pub struct ExampleTarget {
    /// The mirror's URL without a trailing slash.
    pub base: String,
    version: Option<Version>,
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
        if package.name().to_string().starts_with('-') {
            return Err(ExampleTargetError::LeadingDash);
        }
        let version = parts.next().map(parse_version).transpose()?;
        Ok(Self { base, version, names, package })
    }

    /// True when the version is known.
    pub fn has_version(&self) -> bool {
        self.version.is_some()
    }

    /// Names the version, for a target without one.
    ///
    /// # Errors
    /// For a text that cannot be copied; the target stays without a version.
    pub fn set_version(&mut self, text: &str) -> Result<(), ExampleTargetError> {
        self.version = Some(parse_version(text)?);
        Ok(())
    }

    /// The version, or a placeholder.
    pub fn version(&self) -> String {
        self.version.as_ref().map_or_else(|| VERSION_PLACEHOLDER.to_owned(), Version::to_string)
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
        let placeholder = || Version::Name(VERSION_PLACEHOLDER.to_owned());
        let version = self.version.clone().unwrap_or_else(placeholder);
        unresolved_zipball_url(&self.base, &self.names, &self.package, &version)
    }

    /// The package's path in the srm dialect; the simple dialect has it below `/simple`.
    pub fn path(&self) -> String {
        let zip = unresolved_zipball_url("", &self.names, &self.package, &Version::Name("x".to_owned()));
        zip.trim_end_matches("/zipball/x").to_owned()
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

/// Parses a version that can be copied into a shell in single quotation marks.
fn parse_version(text: &str) -> Result<Version, ExampleTargetError> {
    if text.is_empty() {
        return Err(ExampleTargetError::NoVersion);
    }
    let version: Version = text.parse()?;
    if text.contains('\'') { Err(ExampleTargetError::QuotationMark) } else { Ok(version) }
}
