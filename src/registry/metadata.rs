//! The metadata record of the Serverless Registry Model, from a release and the `publish.yaml` in its archive.

use std::sync::Arc;

use super::{
    CachedValue, RegistryError,
    archive_source::ArchiveSource,
    documents::ReleaseDocuments,
    error::unreadable_pin,
    model_policy::ModelPolicy,
    moving::MovingVersions,
    release_facts::{KnownContent, ReleaseFacts},
};
use crate::{
    entry::Digest,
    package::{
        Metadata, MetadataDetails, PackageId, PackageName, PublishManifest, Release, VersionProvenance, semantic,
    },
    upstream::GitRef,
};

/// Builds metadata records.
pub struct MetadataRecords {
    releases: Arc<ReleaseDocuments>,
    archives: Arc<ArchiveSource>,
    moving: Arc<MovingVersions>,
    facts: Arc<ReleaseFacts>,
    model: Arc<ModelPolicy>,
}

/// What [`MetadataRecords`] works with.
pub(super) struct MetadataParts {
    pub(super) releases: Arc<ReleaseDocuments>,
    pub(super) archives: Arc<ArchiveSource>,
    pub(super) moving: Arc<MovingVersions>,
    pub(super) facts: Arc<ReleaseFacts>,
    pub(super) model: Arc<ModelPolicy>,
}

impl MetadataRecords {
    pub(super) fn new(parts: MetadataParts) -> Self {
        let MetadataParts { releases, archives, moving, facts, model } = parts;
        Self { releases, archives, moving, facts, model }
    }

    /// The records of every release, without the fields of their types. `Type` is null where the archive was never seen:
    /// a list fetches no archives.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn list(&self, package: &PackageId) -> Result<CachedValue<Vec<Metadata>>, RegistryError> {
        let list = self.releases.releases(package).await?;
        let mut records = Vec::with_capacity(list.value.releases.len());
        for release in &list.value.releases {
            let content = self.facts.known_content(package, &release.tag_name).await;
            let manifest = content.map(|content| content.manifest()).unwrap_or_default();
            records.push(Metadata { details: MetadataDetails::default(), ..record(&package.name, release, manifest) });
        }
        let digest = Digest::of(&serde_json::to_vec(&records).unwrap_or_default());
        let status = if list.value.truncated { list.status.and_detail("truncated") } else { list.status };
        Ok(CachedValue { value: Arc::new(records), digest, age: list.age, status })
    }

    /// The record of one version. An archive that was never seen is fetched.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn record(&self, package: &PackageId, version: &str) -> Result<CachedValue<Metadata>, RegistryError> {
        let release = self.releases.release(package, version).await?;
        let tag = &release.value.tag_name;
        let content = if self.moving.is_moving(package, tag) {
            let reference = self.moving.reference(package, tag).await?;
            KnownContent::Stored(self.archives.completed(package, reference).await?)
        } else {
            match self.facts.known_content(package, tag).await {
                Some(content) => content,
                None => KnownContent::Stored(self.archives.completed(package, GitRef::Tag(tag.clone())).await?),
            }
        };
        let provenance = self.provenance(package, tag, &content).await?;
        let model_findings = self.model.shown(package, content.model_findings()).await;
        let value =
            Metadata { provenance, model_findings, ..record(&package.name, &release.value, content.manifest()) };
        let digest = Digest::of(&serde_json::to_vec(&value).unwrap_or_default());
        Ok(CachedValue { value: Arc::new(value), digest, age: release.age, status: release.status })
    }

    async fn provenance(
        &self,
        package: &PackageId,
        tag: &str,
        content: &KnownContent,
    ) -> Result<Option<VersionProvenance>, RegistryError> {
        let (digest, verified) = match content {
            KnownContent::Pinned(pin) => (pin.digest, &pin.verified),
            KnownContent::Stored(meta) => (meta.digest, &meta.verified),
            KnownContent::Folder(_) => return Ok(None),
        };
        let pin = match content {
            KnownContent::Pinned(pin) => Some(pin.clone()),
            _ if self.moving.is_moving(package, tag) => None,
            _ => self.archives.pin(package, &GitRef::Tag(tag.to_owned())).await.map_err(unreadable_pin)?,
        };
        Ok(Some(VersionProvenance {
            upstream: package.upstream.to_string(),
            sha256: digest.to_string(),
            content: verified.manifest.to_string(),
            commit: verified.commit.clone(),
            first_seen: pin.map(|pin| pin.first_seen),
        }))
    }
}

/// The record of a release.
pub(super) fn record(package: &PackageName, release: &Release, manifest: PublishManifest) -> Metadata {
    Metadata {
        name: manifest.name.clone().unwrap_or_else(|| package.base_name().to_owned()),
        kind: manifest.kind.clone(),
        version: semantic(&release.tag_name).map(|version| version.to_string()),
        publish_time: release.published_at.unwrap_or(release.created_at).as_second(),
        version_body: release.body.clone(),
        details: MetadataDetails::of(manifest),
        provenance: None,
        model_findings: None,
    }
}
