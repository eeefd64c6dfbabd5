//! The metadata record of the Serverless Registry Model, from a release and what its zip says of itself.

use std::sync::Arc;

use super::{Answer, PackageId, Registry, RegistryError, origins::archive_key};
use crate::{
    archive::Facts,
    entry::{Digest, Verified},
    package::{Manifest, Metadata, PackageName, Release, semantic},
    upstream::GitRef,
};

impl Registry {
    /// The records of every release. `Type` is known where the zip has been seen, and null elsewhere: a list fetches no zips.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn metadata_list(&self, target: &PackageId) -> Result<Answer<Vec<Metadata>>, RegistryError> {
        let list = self.releases(target).await?;
        let mut records = Vec::with_capacity(list.value.releases.len());
        for release in &list.value.releases {
            let key = archive_key(&target.upstream, &target.name, &GitRef::Tag(release.tag_name.clone()));
            let pin = self.cache.pin(&key).await.ok().flatten();
            records.push(record(&target.name, release, pin.map(|pin| manifest(&pin.verified)).unwrap_or_default()));
        }
        let digest = Digest::of(&serde_json::to_vec(&records).unwrap_or_default());
        Ok(Answer { value: Arc::new(records), digest, age: list.age, status: list.status })
    }

    /// The record of one version. A version whose zip was never seen is fetched for it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn metadata_record(
        &self,
        target: &PackageId,
        version: &str,
    ) -> Result<Answer<Metadata>, RegistryError> {
        let release = self.release(target, version).await?;
        let reference = GitRef::Tag(release.value.tag_name.clone());
        let key = archive_key(&target.upstream, &target.name, &reference);
        let verified = match self.cache.pin(&key).await.ok().flatten() {
            Some(pin) => pin.verified.clone(),
            None => {
                let ask = self.archive_ask(target, reference)?;
                self.cache.completed(&ask).await?.verified.clone()
            }
        };
        let value = record(&target.name, &release.value, manifest(&verified));
        let digest = Digest::of(&serde_json::to_vec(&value).unwrap_or_default());
        Ok(Answer { value: Arc::new(value), digest, age: release.age, status: release.status })
    }
}

pub(super) fn manifest(verified: &Verified) -> Manifest {
    Facts::from_value(&verified.facts).map(|facts| facts.publish).unwrap_or_default()
}

fn record(package: &PackageName, release: &Release, manifest: Manifest) -> Metadata {
    Metadata {
        name: manifest.name.unwrap_or_else(|| package.repo().to_owned()),
        kind: manifest.kind,
        version: semantic(&release.tag_name).map(|version| version.to_string()),
        publish_time: release.published_at.unwrap_or(release.created_at).as_second(),
        version_body: release.body.clone(),
    }
}
