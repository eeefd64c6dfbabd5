//! A version that is to be published.

use super::publishing_error::PublishingError;
use crate::{
    hosted::{VersionNumber, VersionNumberError},
    package::{ModelFinding, ModelRule, PackageId},
};

/// A package and a well-formed version number that is to be published.
#[derive(Clone, Debug)]
pub(crate) struct PublishableVersion {
    /// The package on the upstream of published packages.
    pub(crate) package: PackageId,
    /// The version.
    pub(crate) version: VersionNumber,
}

impl PublishableVersion {
    /// Parses the version number. Does not look the version up.
    ///
    /// # Errors
    /// [`PublishingError::NotConforming`].
    pub(crate) fn parse(package: PackageId, version: &str) -> Result<Self, PublishingError> {
        let version = version.parse().map_err(|error: VersionNumberError| {
            let finding = ModelFinding::new(ModelRule::VersionForm, "Version", error.to_string());
            PublishingError::NotConforming(vec![finding])
        })?;
        Ok(Self { package, version })
    }

    /// Identifies the version in any spelling of its package.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.package.name.folded(), self.version)
    }
}
