//! The upload of a reserved version: its address is spent when the whole zip has arrived, before it is verified, and a
//! refusal is recorded as a failed publication.

use std::{io, sync::Arc};

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use super::{
    HostedPackages, PublicationDetails, PublishableVersion, PublishingError, RunningUpload,
    publishing::verify_and_publish,
    publishing_error::{NotReserved, closed},
    reservations::ReservationInUse,
    shared_reservations,
};
use crate::{
    blocking::spawn_blocking,
    hosted::{self, FailedPublication, Publication, StateChange, share_failure},
    package::PackageId,
};

/// An upload to a reservation, the only one at its time. Dropping it before it is published leaves the reservation.
pub(crate) struct ReservedUpload {
    hosted: Arc<HostedPackages>,
    version: PublishableVersion,
    reservation: ReservationInUse,
    id: String,
    expires_at: Timestamp,
    upload: RunningUpload,
    /// Keeps the reservation while the zip arrives.
    _keeper: Option<AbortOnDropHandle<()>>,
}

impl ReservedUpload {
    /// Begins the upload to the reservation with this id, whose address expires at `expires_at`.
    ///
    /// # Errors
    /// [`PublishingError`].
    pub(crate) async fn begin(
        hosted: &Arc<HostedPackages>,
        version: PublishableVersion,
        id: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Self, PublishingError> {
        let reservation = shared_reservations::begin(hosted, &version, id, now).await?;
        // The version may have been published, or the store filled, since the reservation.
        hosted.check_number(&version).await?;
        let upload = hosted.begin_upload(version.clone()).await?;
        let keeper = shared_reservations::keep_extended(hosted, &version, id, expires_at, now);
        Ok(Self {
            hosted: hosted.clone(),
            version,
            reservation,
            id: id.to_owned(),
            expires_at,
            upload,
            _keeper: keeper,
        })
    }

    /// The upload, for writing the zip.
    pub(crate) fn upload_mut(&mut self) -> &mut RunningUpload {
        &mut self.upload
    }

    /// Spends the address, verifies the zip and publishes it. Goes on when the future is dropped. When it returns, the
    /// version is durable and visible, or its failure is in the list of failed publications.
    ///
    /// # Errors
    /// [`PublishingError`].
    pub(crate) async fn publish(self, by: StateChange) -> Result<Publication, PublishingError> {
        spawn_blocking(move || self.publish_blocking(by)).await.map_err(|_| closed())?
    }

    fn publish_blocking(self, by: StateChange) -> Result<Publication, PublishingError> {
        let hosted = self.hosted.clone();
        let version = self.version.clone();
        let published = self.spend_and_finish(by.clone());
        match &published {
            Ok(_) | Err(PublishingError::NotReserved(_)) => {}
            Err(error) => note_failure(&hosted, &version, by, error.sentence()),
        }
        published
    }

    fn spend_and_finish(self, by: StateChange) -> Result<Publication, PublishingError> {
        let Self { hosted, version, reservation, id, expires_at, upload, _keeper: keeper } = self;
        drop(keeper);
        hosted.reserved.end(&version, &reservation)?;
        shared_reservations::spend(hosted.store(), &version, &id)?;
        hosted.store().spent.mark(&id, expires_at, by.at).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => PublishingError::NotReserved(NotReserved::Ended),
            _ => error.into(),
        })?;
        let announced = reservation.announced.clone();
        let details = PublicationDetails { by, form: announced.form, manifest: Some(announced.manifest) };
        verify_and_publish(hosted.store(), &*hosted.verify, upload, None, details)
    }
}

/// Adds a publication to those that failed.
pub(crate) async fn record_failure(
    hosted: &Arc<HostedPackages>,
    version: PublishableVersion,
    by: StateChange,
    reason: String,
) {
    let hosted = hosted.clone();
    // An error is a panic, which has been reported.
    let _ = spawn_blocking(move || note_failure(&hosted, &version, by, reason)).await;
}

/// The publications that failed, of one package or of all, the newest first.
pub(crate) fn failed_publications(
    hosted: &HostedPackages,
    package: Option<&PackageId>,
    now: Timestamp,
) -> Vec<FailedPublication> {
    let failed = &hosted.store().failed;
    match package {
        Some(package) => failed.of_package(package.name.base_name(), now),
        None => failed.all(now),
    }
}

/// As [`failed_publications`] of one package, on any mirror where several share a primary store.
pub(crate) async fn all_failed_publications(
    hosted: &HostedPackages,
    package: &PackageId,
    now: Timestamp,
) -> Vec<FailedPublication> {
    let store = hosted.store().clone();
    let name = package.name.base_name().to_owned();
    // An error is a panic, which has been reported.
    spawn_blocking(move || hosted::shared_failures(&store, &name, now)).await.unwrap_or_default()
}

/// Adds a publication to those that failed, here and in a shared primary store. Blocks.
fn note_failure(hosted: &HostedPackages, version: &PublishableVersion, by: StateChange, reason: String) {
    let failed = FailedPublication {
        package: version.package.name.base_name().to_owned(),
        version: version.version.to_string(),
        by: by.by,
        at: by.at,
        reason,
    };
    share_failure(hosted.store(), &failed);
    if let Err(error) = hosted.store().failed.add(failed) {
        tracing::warn!(%error, "the list of failed publications cannot be written");
    }
}
