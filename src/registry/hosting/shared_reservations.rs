//! Reservations where several mirrors share a primary store: the two steps of a publication may reach different mirrors. The
//! primary store decides who has reserved a version; the table of this mirror says whose zip is arriving, and limits accounts.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    AnnouncedPackage, HostedPackages, NewReservation, NotReserved, PublishableVersion, PublishingError,
    publishing_error::closed,
    reservations::{OwnReservation, ReservationInUse},
};
use crate::{
    blocking::spawn_blocking,
    hosted::{
        self, HostedStore, PrimaryUnavailable, PublishRefusal, ReservationUse, ReservingError, SharedReservation,
    },
};

/// How long before its end the reservation of a zip that is arriving is extended ...
const EXTENSION_MARGIN: SignedDuration = SignedDuration::from_mins(2);
/// ... and by how long.
const EXTENSION: SignedDuration = SignedDuration::from_mins(10);
/// When an extension that has failed is tried again.
const EXTENSION_RETRY: Duration = Duration::from_secs(5);

impl From<PrimaryUnavailable> for PublishingError {
    fn from(error: PrimaryUnavailable) -> Self {
        Self::Refused(PublishRefusal::Unavailable(error))
    }
}

/// Checks that no other principal has reserved a version, on this mirror or another one.
///
/// # Errors
/// [`PublishingError`].
pub(crate) async fn check_reservation(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    by: &str,
    now: Timestamp,
) -> Result<(), PublishingError> {
    if !hosted::is_copy(hosted.store()) {
        return hosted.reserved.check(version, by, now);
    }
    match find_reservation(hosted, version, now).await? {
        Some(reservation) if reservation.by != by => Err(PublishingError::Reserved(reservation.by)),
        _ => Ok(()),
    }
}

/// Reserves a version, see [`super::ReservedVersions::reserve`].
///
/// # Errors
/// [`PublishingError`].
pub(crate) async fn reserve_version(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    reservation: NewReservation,
    now: Timestamp,
) -> Result<(), PublishingError> {
    if !hosted::is_copy(hosted.store()) {
        return hosted.reserved.reserve(version, reservation, now);
    }
    let NewReservation { id, by, expires_at, announced } = reservation.clone();
    // Another account's reservation in this table was used or replaced on another mirror; else the primary store refuses this
    // one below.
    hosted.reserved.forget_others(version, &by);
    let mut reserved = hosted.reserved.reserve(version, reservation.clone(), now);
    if matches!(reserved, Err(PublishingError::TooManyReservations(_))) {
        forget_ended(hosted, &by, now).await?;
        reserved = hosted.reserved.reserve(version, reservation, now);
    }
    reserved?;
    let AnnouncedPackage { form, manifest } = announced;
    let shared = SharedReservation { id: id.clone(), by, expires_at, form, manifest, spent: None };
    let reserved = run_blocking(hosted, version, move |store, version| {
        let name = version.package.name.base_name();
        hosted::reserve(store, name, &version.version, &shared, now)
    });
    reserved.await?.map_err(|error| {
        hosted.reserved.cancel(&version.key(), &id);
        match error {
            ReservingError::Reserved(by) => PublishingError::Reserved(by),
            ReservingError::Unavailable(error) => error.into(),
        }
    })
}

/// Forgets the reservations of an account that were used or replaced on other mirrors.
async fn forget_ended(hosted: &HostedPackages, by: &str, now: Timestamp) -> Result<(), PublishingError> {
    for OwnReservation { key, id } in hosted.reserved.list_waiting(by) {
        let store = hosted.store().clone();
        let asked = key.clone();
        let found = spawn_blocking(move || {
            let Some((package, version)) = asked.split_once('/') else { return Ok(None) };
            let Ok(version) = version.parse() else { return Ok(None) };
            hosted::reservation(&store, package, &version, now)
        });
        if found.await.map_err(|_| closed())??.is_none_or(|found| found.id != id) {
            hosted.reserved.cancel(&key, &id);
        }
    }
    Ok(())
}

/// Begins the upload to a reservation, which another mirror may have made.
///
/// # Errors
/// [`PublishingError`].
pub(super) async fn begin(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    id: &str,
    now: Timestamp,
) -> Result<ReservationInUse, PublishingError> {
    match hosted.reserved.begin(version, id) {
        Err(NotReserved::Ended) if hosted::is_copy(hosted.store()) => {}
        begun => return begun.map_err(Into::into),
    }
    let found = find_reservation(hosted, version, now).await?;
    let found = found.filter(|found| found.id == id).ok_or(NotReserved::Ended)?;
    let SharedReservation { id, by, expires_at, form, manifest, .. } = found;
    let announced = AnnouncedPackage { form, manifest };
    hosted.reserved.adopt_and_begin(version, NewReservation { id, by, expires_at, announced }, now)
}

/// Extends the reservation of a zip that is arriving until the handle is dropped. `expires_at` is its present end. `None`
/// where no other mirror shares the store: this mirror's table keeps such a reservation.
pub(super) fn keep_extended(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    id: &str,
    expires_at: Timestamp,
    now: Timestamp,
) -> Option<AbortOnDropHandle<()>> {
    if !hosted::is_copy(hosted.store()) {
        return None;
    }
    let store = hosted.store().clone();
    let version = version.clone();
    let id = id.to_owned();
    let began = Instant::now();
    let extend = async move {
        let mut expires_at = expires_at;
        loop {
            let left = expires_at.duration_since(now) - EXTENSION_MARGIN;
            sleep(Duration::try_from(left).unwrap_or_default().saturating_sub(began.elapsed())).await;
            let extended = now + began.elapsed() + EXTENSION;
            let store = store.clone();
            let version = version.clone();
            let id = id.clone();
            let written = spawn_blocking(move || {
                hosted::extend(&store, version.package.name.base_name(), &version.version, &id, extended)
            });
            match written.await {
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the reservation of a zip that is arriving is not extended");
                    sleep(EXTENSION_RETRY).await;
                }
                _ => expires_at = extended,
            }
        }
    };
    Some(AbortOnDropHandle::new(tokio::spawn(extend)))
}

/// Spends a reservation in the primary store, so that no mirror accepts another upload to it. Blocks.
///
/// # Errors
/// [`PublishingError`].
pub(super) fn spend(store: &HostedStore, version: &PublishableVersion, id: &str) -> Result<(), PublishingError> {
    match hosted::spend(store, version.package.name.base_name(), &version.version, id)? {
        ReservationUse::First => Ok(()),
        ReservationUse::Ended => Err(NotReserved::Ended.into()),
    }
}

/// The reservation of a version in the primary store.
async fn find_reservation(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    now: Timestamp,
) -> Result<Option<SharedReservation>, PublishingError> {
    let found = run_blocking(hosted, version, move |store, version| {
        hosted::reservation(store, version.package.name.base_name(), &version.version, now)
    });
    Ok(found.await??)
}

async fn run_blocking<T: Send + 'static>(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    work: impl FnOnce(&HostedStore, &PublishableVersion) -> T + Send + 'static,
) -> Result<T, PublishingError> {
    let store: Arc<HostedStore> = hosted.store().clone();
    let version = version.clone();
    Ok(spawn_blocking(move || work(&store, &version)).await.map_err(|_| closed())?)
}
