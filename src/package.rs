//! Names of packages, versions, releases and metadata records, parsed and validated.
//!
//! This module depends neither on HTTP nor on an upstream or the cache.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::value::memory_budget::HeldMemory;

mod folder;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod kind;
mod metadata;
mod model;
mod name;
mod package_ref;
mod pattern;
mod route;
mod tags;
mod version;
mod version_pattern;
mod weight;

pub use folder::{FolderPackage, FolderPath, FolderPathError};
pub use kind::PackageKind;
pub use metadata::{Metadata, MetadataDetails, VersionProvenance};
pub use model::{ModelFinding, ModelRule, quoted};
pub use name::{NameError, NameForm, PackageId, PackageName};
pub use package_ref::PackageRef;
pub use pattern::{PackagePattern, PatternError};
pub use route::{DialectName, NameRoute, RouteRule};
pub use tags::{RepositoryBranch, RepositoryBranches, RepositoryTag, RepositoryTags};
pub use version::{Version, semantic, with_v_toggled};
pub use version_pattern::{VersionedPattern, VersionedPatternError};

/// One normalised release: no unexpected nulls, times in UTC, never a draft.
///
/// Has no `zipball_url`: the mirror renders its own in every response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The upstream's tag, unchanged: clients compare it with `===`.
    pub tag_name: String,
    /// The title; `None` if the upstream sends null or no title.
    pub name: Option<String>,
    /// Time of creation in UTC (GitHub: the date of the commit).
    pub created_at: Timestamp,
    /// Time of publication in UTC, if the upstream sends it.
    pub published_at: Option<Timestamp>,
    /// True for a release that is listed but never `latest`.
    pub prerelease: bool,
    /// The release notes; empty if the upstream sends null.
    pub body: String,
    /// The uploaded files, without the source zip.
    pub assets: Vec<Asset>,
    /// All other fields of the forge, verbatim, for the github dialect. URLs in it are those of the forge.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// One uploaded file of a release. A field that the upstream leaves out is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    /// File name.
    pub name: Option<String>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Media type.
    pub content_type: Option<String>,
    /// URL of the file on the forge (not mirrored).
    pub browser_download_url: Option<String>,
    /// `sha256:…`, if the forge sends it.
    pub digest: Option<String>,
    /// All other fields of the forge, verbatim.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// All releases of a package, in the upstream's order (newest first).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Releases {
    /// The releases.
    pub releases: Vec<Release>,
    /// True if the upstream has more releases than are listed: its limits or the mirror's do not allow it, or an entry
    /// could not be read.
    pub truncated: bool,
    /// The memory that a large list takes.
    #[serde(skip)]
    pub memory: HeldMemory,
}

impl Releases {
    /// True if exactly this tag is listed.
    pub fn has(&self, tag: &str) -> bool {
        self.releases.iter().any(|release| release.tag_name == tag)
    }
}

/// A repository, normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// `owner/repo` in the spelling of the forge; the plain name on a registry.
    pub full_name: String,
    /// True if access requires a token.
    pub private: bool,
    /// The default branch; empty on a registry.
    pub default_branch: String,
    /// All other fields of the forge, verbatim, for the github dialect.
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// A package in the list of a registry. A field that the registry leaves out is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogPackage {
    /// Its plain name.
    pub name: String,
    /// `Component`, `Plugin` or `Project`; any other word as the registry has it.
    pub kind: Option<String>,
    /// One line.
    pub description: Option<String>,
    /// The category.
    pub category: Option<String>,
    /// Search words.
    pub tags: Vec<String>,
    /// The cloud providers that it is for.
    pub provider: Vec<String>,
    /// How often it was downloaded from the registry.
    pub download: Option<u64>,
    /// The user who published it.
    pub user: Option<String>,
    /// The organisation that it belongs to.
    pub organization: Option<String>,
}

/// The commit at the head of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BranchHead {
    /// Full commit SHA, 40 hexadecimal digits, lower case.
    pub commit: String,
}

/// What a moving version is at present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovingHead {
    /// Identifies the content: equal revisions mean equal zips. 40 hexadecimal digits, for a forge the commit.
    pub revision: String,
}

/// The fields of `publish.yaml` in a zip; each is absent if the file does not have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishManifest {
    /// `Component`, `Application`, `Plugin` or `Project`.
    #[serde(rename = "Type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The package's name for itself.
    #[serde(rename = "Name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line, shown in lists.
    #[serde(rename = "Description", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The category in the registry.
    #[serde(rename = "Category", skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Search words.
    #[serde(rename = "Tags", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The cloud providers that it is for.
    #[serde(rename = "Provider", skip_serializing_if = "Vec::is_empty")]
    pub provider: Vec<String>,
    /// The version that the file states.
    #[serde(rename = "Version", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The address of its home page, as the file has it.
    #[serde(rename = "HomePage", skip_serializing_if = "Option::is_none")]
    pub home_page: Option<String>,
    /// The edition of the package model: `3.0.0`.
    #[serde(rename = "Edition", skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// `Public`, `Private` or `Organization`.
    #[serde(rename = "Effective", skip_serializing_if = "Option::is_none")]
    pub effective: Option<String>,
    /// The organisation that it belongs to.
    #[serde(rename = "Organization", skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The large fields.
    #[serde(flatten)]
    pub details: PublishDetails,
}

/// The fields of `publish.yaml` with a structure of their own, as JSON; each has at most 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PublishDetails {
    /// The cloud services that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<serde_json::Value>,
    /// The commands of a component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<serde_json::Value>,
    /// The properties of a component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<serde_json::Value>,
    /// The parameters of an application or plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
}

impl From<PublishManifest> for CatalogPackage {
    /// The part of a manifest that a catalog shows.
    fn from(manifest: PublishManifest) -> Self {
        Self {
            kind: manifest.kind,
            description: manifest.description,
            category: manifest.category,
            tags: manifest.tags,
            provider: manifest.provider,
            organization: manifest.organization,
            ..Self::default()
        }
    }
}

impl PublishManifest {
    /// The manifest without its large fields: for lists of many packages.
    pub fn without_details(self) -> Self {
        Self { details: PublishDetails::default(), ..self }
    }
}
