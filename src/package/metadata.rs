//! The metadata record of the Serverless Registry Model.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ModelFinding, PackageKind, PublishManifest};

/// The metadata record of the Serverless Registry Model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// From `publish.yaml`, else the repository's name.
    pub name: String,
    /// From `publish.yaml`; null without it.
    #[serde(rename = "Type")]
    pub kind: Option<String>,
    /// The tag's semantic version without `v`; null for any other tag.
    pub version: Option<String>,
    /// `published_at`, else `created_at`, in seconds since 1970-01-01.
    pub publish_time: i64,
    /// The release notes.
    pub version_body: String,
    /// The fields of the package's type; empty in lists.
    #[serde(flatten)]
    pub details: MetadataDetails,
    /// Where the version comes from and what was seen of it; `None` in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<VersionProvenance>,
    /// Where the version does not conform to the package model; `None` in lists, and where the mirror does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_findings: Option<Vec<ModelFinding>>,
}

/// Where a version comes from, and what this mirror has seen of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionProvenance {
    /// The upstream that it was fetched from.
    pub upstream: String,
    /// SHA-256 of the zip as the upstream packed it, in hexadecimal digits.
    pub sha256: String,
    /// SHA-256 of the names and contents of its files, whatever their packing.
    pub content: String,
    /// The commit that it was made from, where the zip says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// When this mirror first saw it; absent for a version whose content may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
}

/// What `publish.yaml` says for the type of a package. A field that the file does not have is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MetadataDetails {
    /// The cloud providers that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provider: Vec<String>,
    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Search words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The category in the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// `Public`, `Private` or `Organization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<String>,
    /// The commands of a component or plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<serde_json::Value>,
    /// The properties of a component or plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<serde_json::Value>,
    /// The parameters of an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
    /// The cloud services that an application uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<serde_json::Value>,
}

impl MetadataDetails {
    /// The fields of a manifest that belong to its type. A manifest of another type, or without one, has the common
    /// fields only.
    pub fn of(manifest: PublishManifest) -> Self {
        let kind = manifest.kind.as_deref().and_then(PackageKind::of);
        let is_module = matches!(kind, Some(PackageKind::Component | PackageKind::Plugin));
        let is_application = kind == Some(PackageKind::Application);
        let details = manifest.details;
        Self {
            provider: manifest.provider,
            description: manifest.description,
            tags: manifest.tags,
            category: manifest.category,
            effective: manifest.effective,
            commands: details.commands.filter(|_| is_module),
            properties: details.properties.filter(|_| is_module),
            parameters: details.parameters.filter(|_| is_application),
            service: details.service.filter(|_| is_application),
        }
    }
}
