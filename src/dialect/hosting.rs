//! The names of packages that are published on this mirror: which upstream they are on, which belong to the mirror before
//! anything is published, and which can be published at all.

use http::Method;
use serde::{Deserialize, Serialize};

use super::{ApiRequest, Names, NamesError, PackageRef, is_reserved_word, names_error::HostedNameError};
use crate::package::{DialectName, PackageId, PackageName, PackagePattern};

/// Longest name of a published package, in bytes.
const MAX_HOSTED_NAME_BYTES: usize = 100;

/// The `[host]` section: the plain names that belong to this mirror before anything is published under them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostNames {
    /// Patterns of plain names: `acme-*`.
    pub names: Vec<String>,
    /// Single plain names that an upstream has too, and that are taken from it.
    pub claim: Vec<String>,
}

impl Names {
    /// Adds the names that belong to this mirror.
    ///
    /// # Errors
    /// The first that is no name or is claimed twice.
    pub fn with_hosting(mut self, host: &HostNames) -> Result<Self, NamesError> {
        let entries =
            host.names.iter().map(|name| ("names", name)).chain(host.claim.iter().map(|name| ("claim", name)));
        for (key, name) in entries {
            let wrong = |reason| NamesError::Hosted { key, name: name.clone(), reason };
            let pattern: PackagePattern = name.parse().map_err(|_| wrong(HostedNameError::Pattern))?;
            if !pattern.matches_plain_names() || pattern.has_upstream() {
                return Err(wrong(HostedNameError::Pattern));
            }
            if key == "claim" && PackageName::plain(name).is_err() {
                return Err(wrong(HostedNameError::Name));
            }
            let folders = self.folders().map(|folder| folder.alias.base_name());
            let is_taken = |alias: &str| PackageName::plain(alias).is_ok_and(|alias| pattern.matches_name(&alias));
            if self.aliases().map(|(alias, _)| alias).chain(folders).any(is_taken) {
                return Err(wrong(HostedNameError::Alias));
            }
            self.reserved.push(pattern);
        }
        Ok(self)
    }
}

/// The names of packages that are published on this mirror.
#[derive(Clone, Copy, Debug)]
pub struct HostedNames<'n>(&'n Names);

impl<'n> HostedNames<'n> {
    /// The hosted names among `names`.
    pub fn of(names: &'n Names) -> Self {
        Self(names)
    }

    /// True where packages can be published.
    pub fn is_enabled(&self) -> bool {
        self.0.upstreams().iter().any(|upstream| upstream.is_hosted)
    }

    /// True for a package that is, or would be, published on this mirror.
    pub fn has(&self, package: &PackageId) -> bool {
        self.0.upstream(&package.upstream).is_some_and(|upstream| upstream.is_hosted)
    }

    /// The package that a name without an upstream would be, if it were published on this mirror; `None` where nothing can
    /// be published, and for a repository. In the simple dialect the owner `devsapp` stands in front of plain names.
    pub fn id(&self, name: &PackageName, dialect: DialectName) -> Option<PackageId> {
        let hosted = self.0.upstreams().iter().find(|upstream| upstream.is_hosted)?;
        let name = match name.owner() {
            None => name.clone(),
            Some(owner) if dialect == DialectName::Simple && hosted.drops_owner(owner) => {
                PackageName::plain(name.base_name()).ok()?
            }
            Some(_) => return None,
        };
        Some(PackageId { upstream: hosted.name.clone(), name })
    }

    /// As [`HostedNames::id`], for the package that a request names in any way; `None` for one of another upstream.
    pub fn id_of(&self, package: &PackageRef, dialect: DialectName) -> Option<PackageId> {
        match package {
            PackageRef::Routed(name) => self.id(name, dialect),
            PackageRef::Id(id) => self.has(id).then(|| id.clone()),
            PackageRef::Folder(_) => None,
        }
    }

    /// True for a plain name that belongs to this mirror, published or not: `host.names` and `host.claim`.
    pub fn is_reserved(&self, name: &PackageName) -> bool {
        self.0.reserved.iter().any(|pattern| pattern.matches_name(name))
    }

    /// Checks whether a package of this name can be published.
    ///
    /// # Errors
    /// [`HostedNameError`].
    pub fn check(&self, name: &PackageName) -> Result<(), HostedNameError> {
        let text = name.base_name();
        if name.owner().is_some() {
            return Err(HostedNameError::Name);
        }
        if text.len() > MAX_HOSTED_NAME_BYTES || text.starts_with(['.', '-']) || text.contains("__") {
            return Err(HostedNameError::Form);
        }
        if is_reserved_word(&text.to_ascii_lowercase()) || self.0.is_reserved(text) {
            return Err(HostedNameError::Reserved);
        }
        match self.0.parse_package(text) {
            Ok(PackageRef::Routed(_)) => Ok(()),
            Ok(_) => Err(HostedNameError::Alias),
            Err(_) => Err(HostedNameError::Name),
        }
    }
}

/// The request that `method` makes at the address of a zip: publication or deletion, where packages can be published. Every
/// other request stays as it is.
pub(super) fn with_method(names: &Names, method: &Method, request: ApiRequest) -> ApiRequest {
    let is_hosting = HostedNames::of(names).is_enabled();
    match request {
        ApiRequest::Archive { package, version } if is_hosting && *method == Method::PUT => {
            ApiRequest::Publish { package, version }
        }
        ApiRequest::Archive { package, version } if is_hosting && *method == Method::DELETE => {
            ApiRequest::Delete { package, version }
        }
        request => request,
    }
}
