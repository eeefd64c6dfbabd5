//! Publishing: an upload is received, verified, and becomes a version; and what the catalog shows of what is published.

use std::sync::Arc;

use super::{
    HostedPackages,
    publishable_version::PublishableVersion,
    publishing_error::{PublishingError, closed},
    uploads::UploadPlace,
};
use crate::{
    archive::{ZipFacts, package_model::check_upload},
    blocking::spawn_blocking,
    entry::{Digest, Verified},
    hosted::{
        ChangeError, HostedSpaceFull, HostedStore, HostedUpload, NewRelease, Publication, ReleaseRecord, StateChange,
        UploadError,
    },
    origin::{Verify, VerifyError},
    package::{CatalogPackage, ModelFinding, ModelRule, PackageId, PublishManifest},
};

/// An upload of a version, the only one at its time; dropping it removes what was received.
pub(crate) struct RunningUpload {
    version: PublishableVersion,
    // Before the place: the file is removed first.
    upload: Option<HostedUpload>,
    _place: UploadPlace,
}

impl RunningUpload {
    /// Appends bytes. Does not block; dropping the future loses the upload.
    ///
    /// # Errors
    /// [`PublishingError`].
    pub(crate) async fn write(&mut self, chunks: Vec<bytes::Bytes>) -> Result<(), PublishingError> {
        let Some(mut upload) = self.upload.take() else { return Err(closed().into()) };
        let written = spawn_blocking(move || {
            chunks.iter().try_for_each(|chunk| upload.write(chunk))?;
            Ok::<_, UploadError>(upload)
        });
        self.upload = Some(written.await.map_err(|_| closed())??);
        Ok(())
    }
}

impl HostedPackages {
    /// Checks, before the zip is uploaded, whether a version may be published.
    ///
    /// # Errors
    /// [`PublishingError`].
    pub(crate) async fn check(&self, package: PackageId, version: &str) -> Result<PublishableVersion, PublishingError> {
        let version = PublishableVersion::parse(package, version)?;
        self.check_number(&version).await?;
        Ok(version)
    }

    /// As [`HostedPackages::check`], for a version whose form is checked.
    ///
    /// # Errors
    /// [`PublishingError`].
    pub(super) async fn check_number(&self, version: &PublishableVersion) -> Result<(), PublishingError> {
        self.store.check(version.package.name.base_name(), &version.version)?;
        let store = self.store.clone();
        match spawn_blocking(move || store.has_room()).await.map_err(|_| closed())? {
            true => Ok(()),
            false => Err(UploadError::from(HostedSpaceFull).into()),
        }
    }

    /// True for a name that was published before, whether or not a version is left.
    pub(crate) fn is_published(&self, package: &PackageId) -> bool {
        self.store.package(package.name.base_name()).is_some()
    }

    /// Begins the upload of a version. While another upload of it is under way, waits for its end, at most
    /// [`super::uploads::MAX_WAIT_FOR_UPLOAD`].
    ///
    /// # Errors
    /// [`PublishingError`].
    pub(crate) async fn begin_upload(&self, version: PublishableVersion) -> Result<RunningUpload, PublishingError> {
        let place = self.uploads.acquire(&version.key()).await?;
        let store = self.store.clone();
        let upload = spawn_blocking(move || store.upload()).await.map_err(|_| closed())??;
        Ok(RunningUpload { version, upload: Some(upload), _place: place })
    }

    /// Verifies an upload that is complete and publishes it. Goes on when the future is dropped. When it returns, the
    /// version is durable and visible.
    ///
    /// `announced` is the digest of the zip that the client has sent.
    ///
    /// # Errors
    /// [`PublishingError`]; then nothing is visible.
    pub(crate) async fn publish(
        &self,
        upload: RunningUpload,
        announced: Option<Digest>,
        details: PublicationDetails,
    ) -> Result<Publication, PublishingError> {
        let store = self.store.clone();
        let verify = self.verify.clone();
        let published = spawn_blocking(move || verify_and_publish(&store, &*verify, upload, announced, details));
        published.await.map_err(|_| closed())?
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn delete(
        &self,
        package: &PackageId,
        version: &str,
        change: StateChange,
    ) -> Result<(), ChangeError> {
        let deleted =
            self.change(package, version, move |store, name, version| store.delete(name, version, change)).await;
        if let Some(published) = self.store.package(package.name.base_name())
            && let Some(version) = published.version(version)
        {
            self.open.invalidate(&version.digest);
        }
        deleted
    }

    /// Takes a version out of the lists.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn yank(
        &self,
        package: &PackageId,
        version: &str,
        change: StateChange,
    ) -> Result<(), ChangeError> {
        self.change(package, version, move |store, name, version| store.yank(name, version, change)).await
    }

    /// Puts a version into the lists again.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub(crate) async fn unyank(&self, package: &PackageId, version: &str) -> Result<(), ChangeError> {
        self.change(package, version, |store, name, version| store.unyank(name, version)).await
    }

    /// Changes a version of the store on a blocking thread.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        package: &PackageId,
        version: &str,
        change: impl FnOnce(&HostedStore, &str, &str) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<(), ChangeError> {
        let store = self.store.clone();
        let name = package.name.base_name().to_owned();
        let version = version.to_owned();
        let changed = spawn_blocking(move || change(&store, &name, &version)).await;
        changed.map_err(|_| ChangeError::Io(closed()))?.map(drop)
    }

    /// The packages with a version in the lists, each with the facts of its latest one.
    pub(crate) async fn catalog(&self) -> Vec<Arc<CatalogPackage>> {
        let store = self.store.clone();
        spawn_blocking(move || {
            let row = |package: &Arc<crate::hosted::HostedPackage>| {
                let newest = package.latest().or_else(|| package.listed().first().copied())?;
                Some(Arc::new(listed_facts(&package.name, store.record(&package.name, &newest.version).ok())))
            };
            store.packages().iter().filter_map(row).collect()
        })
        .await
        .unwrap_or_default()
    }
}

/// What is recorded of a publication beside its zip, and what its `publish.yaml` must say.
#[derive(Clone, Debug)]
pub(crate) struct PublicationDetails {
    /// Who publishes, and when.
    pub(crate) by: StateChange,
    /// What was sent beside the zip.
    pub(crate) form: crate::hosted::PublishForm,
    /// The digest of the fields that `publish.yaml` must have, see [`manifest_digest`]; `None`: any.
    pub(crate) manifest: Option<Digest>,
}

/// Checks that a version may get content: it has none yet, or is a moving version.
///
/// # Errors
/// [`PublishingError::Published`].
pub(crate) fn check_is_new(hosted: &HostedPackages, version: &PublishableVersion) -> Result<(), PublishingError> {
    let published = hosted.store.package(version.package.name.base_name());
    let known = published.as_ref().and_then(|package| package.version(version.version.as_str()));
    match known.filter(|known| known.is_served() && !version.version.is_moving()) {
        Some(known) => {
            let change = StateChange { by: known.publisher.to_string(), at: known.published_at };
            Err(PublishingError::Published(change))
        }
        None => Ok(()),
    }
}

/// The digest of the fields of a `publish.yaml`.
pub(crate) fn manifest_digest(manifest: &PublishManifest) -> Digest {
    // None of the fields has a map with keys that are no text: writing them cannot fail.
    Digest::of(&serde_json::to_vec(manifest).unwrap_or_default())
}

/// Verifies an upload and publishes it. Blocks.
pub(super) fn verify_and_publish(
    store: &HostedStore,
    verify: &dyn Verify,
    mut upload: RunningUpload,
    announced: Option<Digest>,
    details: PublicationDetails,
) -> Result<Publication, PublishingError> {
    let zip = upload.upload.take().ok_or_else(closed)?.finish()?;
    if announced.is_some_and(|announced| announced != zip.digest) {
        let clause = "the zip that arrived is not the one that Content-Digest describes";
        return Err(PublishingError::InvalidZip(clause.into()));
    }
    let PublicationDetails { by, form, manifest } = details;
    let verified = verify_upload(verify, &zip, &upload.version, manifest)?;
    let PublishableVersion { package, version } = upload.version.clone();
    let name = package.name.base_name().to_owned();
    let release = NewRelease { name: name.clone(), version, publisher: by.by, at: by.at, form, verified };
    let published = store.publish(zip, release)?;
    store.failed.forget(&name, upload.version.version.as_str());
    Ok(published)
}

/// Verifies a zip like a download, and that it is a package of this name and version, with the fields that were announced.
fn verify_upload(
    verify: &dyn Verify,
    zip: &crate::hosted::UploadedZip,
    version: &PublishableVersion,
    manifest: Option<Digest>,
) -> Result<Verified, PublishingError> {
    let mut first = vec![0; verify.prefix_len().min(usize::try_from(zip.len).unwrap_or(usize::MAX))];
    zip.read_first(&mut first)?;
    verify.prefix(&first).map_err(|error| PublishingError::InvalidZip(error.0))?;
    let verified = verify.verify(zip).map_err(|error| match error {
        VerifyError::Invalid(clause) => PublishingError::InvalidZip(clause),
        VerifyError::NoMemory(shortage) => PublishingError::NoMemory(shortage),
        VerifyError::Io(error) => error.into(),
    })?;
    let facts = ZipFacts::from_value(&verified.facts).unwrap_or_default();
    let mut findings = check_upload(&facts, version.package.name.base_name(), version.version.as_str());
    if let Some(top) = &facts.top {
        let message = "the files must be at the root of the zip, not in one top folder";
        findings.push(ModelFinding::new(ModelRule::Other, top, message));
    }
    if findings.is_empty() && manifest.is_some_and(|announced| announced != manifest_digest(&facts.publish)) {
        let message = "the publish.yaml in the zip is not the one that was announced";
        findings.push(ModelFinding::new(ModelRule::Other, "publish.yaml", message));
    }
    if findings.is_empty() { Ok(verified) } else { Err(PublishingError::NotConforming(findings)) }
}

/// What a list shows of a package: the facts of its latest version.
fn listed_facts(name: &str, record: Option<ReleaseRecord>) -> CatalogPackage {
    let publisher = record.as_ref().map(|record| record.publisher.clone());
    let facts = record.and_then(|record| ZipFacts::from_value(&record.verified.facts).ok());
    let manifest = facts.map(|facts| facts.publish.without_details()).unwrap_or_default();
    CatalogPackage { name: name.to_owned(), user: publisher, ..manifest.into() }
}
