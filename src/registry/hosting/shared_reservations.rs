//! Reservations where several mirrors share a primary store: the first step of a publication and its second one may reach
//! different mirrors. What counts is there; the table of this mirror says whose zip is arriving, and limits accounts.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    AnnouncedPackage, HostedPackages, NewReservation, NotReserved, PublishableVersion, PublishingError,
    publishing::closed, reservations::ReservationInUse,
};
use crate::{
    blocking::spawn_blocking,
    hosted::{
        self, HostedStore, PrimaryUnavailable, PublishRefusal, ReservationUse, ReservingError, SharedReservation,
    },
};

/// How long before its end the reservation of a zip that is arriving is extended, and for how long.
const EXTENSION_MARGIN: SignedDuration = SignedDuration::from_mins(2);
const EXTENSION: SignedDuration = SignedDuration::from_mins(10);
/// When to try again after the bucket has failed.
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
    match present(hosted, version, now).await? {
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
    // What another account has here was used or replaced elsewhere, or the reservation fails there.
    hosted.reserved.forget_others(version, &by);
    let mut reserved = hosted.reserved.reserve(version, reservation.clone(), now);
    if matches!(reserved, Err(PublishingError::TooManyReservations(_))) {
        forget_ended(hosted, &by, now).await?;
        reserved = hosted.reserved.reserve(version, reservation, now);
    }
    reserved?;
    let AnnouncedPackage { form, manifest } = announced;
    let shared = SharedReservation { id: id.clone(), by, expires_at, form, manifest, spent: None };
    let reserved = blocking(hosted, version, move |store, version| {
        let name = version.package.name.base_name();
        hosted::reserve(store, name, &version.version, &shared, now)
    });
    reserved.await?.map_err(|error| {
        hosted.reserved.cancel(version, &id);
        match error {
            ReservingError::Reserved(by) => PublishingError::Reserved(by),
            ReservingError::Unavailable(error) => error.into(),
        }
    })
}

/// Forgets the reservations of an account that were used or replaced on other mirrors.
async fn forget_ended(hosted: &HostedPackages, by: &str, now: Timestamp) -> Result<(), PublishingError> {
    for (key, id) in hosted.reserved.of_principal(by) {
        let store = hosted.store().clone();
        let asked = key.clone();
        let found = spawn_blocking(move || {
            let Some((package, version)) = asked.split_once('/') else { return Ok(None) };
            let Ok(version) = version.parse() else { return Ok(None) };
            hosted::reservation(&store, package, &version, now)
        });
        if found.await.map_err(|_| closed())??.is_none_or(|found| found.id != id) {
            hosted.reserved.cancel_key(&key, &id);
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
    let found = present(hosted, version, now).await?.filter(|found| found.id == id).ok_or(NotReserved::Ended)?;
    let SharedReservation { id, by, expires_at, form, manifest, .. } = found;
    let announced = AnnouncedPackage { form, manifest };
    hosted.reserved.begin_elsewhere_made(version, NewReservation { id, by, expires_at, announced }, now)
}

/// Keeps the reservation of a zip that is arriving, until the handle is dropped. `expires_at` is its end; `None` where
/// reservations are this mirror's alone, which knows what is arriving.
pub(super) fn keep(
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
    let keep = async move {
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
    Some(AbortOnDropHandle::new(tokio::spawn(keep)))
}

/// Spends a reservation among all mirrors. Blocks.
///
/// # Errors
/// [`PublishingError`].
pub(super) fn spend(store: &HostedStore, version: &PublishableVersion, id: &str) -> Result<(), PublishingError> {
    match hosted::spend(store, version.package.name.base_name(), &version.version, id)? {
        ReservationUse::First => Ok(()),
        ReservationUse::Ended => Err(NotReserved::Ended.into()),
    }
}

async fn present(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    now: Timestamp,
) -> Result<Option<SharedReservation>, PublishingError> {
    let found = blocking(hosted, version, move |store, version| {
        hosted::reservation(store, version.package.name.base_name(), &version.version, now)
    });
    Ok(found.await??)
}

async fn blocking<T: Send + 'static>(
    hosted: &HostedPackages,
    version: &PublishableVersion,
    work: impl FnOnce(&HostedStore, &PublishableVersion) -> T + Send + 'static,
) -> Result<T, PublishingError> {
    let store: Arc<HostedStore> = hosted.store().clone();
    let version = version.clone();
    Ok(spawn_blocking(move || work(&store, &version)).await.map_err(|_| closed())?)
}
