//! Reservations that all mirrors of a primary store have in common: one object per version holds the present one. It is
//! replaced by comparison, so one principal has a version at a time, a newer reservation ends the earlier one, and of
//! several uploads to one address one spends it.
//!
//! All functions block.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    HostedStore, PublishForm, VersionNumber,
    primary::{COMPARE_ATTEMPTS, Primary, PrimaryObject, PrimaryUnavailable, PrimaryWrite},
    primary_changes::CONTENDED,
};
use crate::entry::Digest;

/// A version that waits for its zip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedReservation {
    /// Identifies it; never used before.
    pub(crate) id: String,
    /// The principal.
    pub(crate) by: String,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
    /// What is recorded beside the zip.
    pub(crate) form: PublishForm,
    /// The digest of the fields of `publish.yaml`, which must be those in the zip.
    pub(crate) manifest: Digest,
    /// What has used it, once a whole zip has arrived: text that no other use has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spent: Option<String>,
}

/// Why a version is not reserved.
#[derive(Debug)]
pub(crate) enum ReservingError {
    /// This principal has reserved it.
    Reserved(String),
    /// The primary store cannot be used.
    Unavailable(PrimaryUnavailable),
}

/// Whether this use of a reservation is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReservationUse {
    /// It is.
    First,
    /// The reservation was used, or there is a newer one.
    Ended,
}

impl From<PrimaryUnavailable> for ReservingError {
    fn from(error: PrimaryUnavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl SharedReservation {
    fn is_open(&self, now: Timestamp) -> bool {
        self.spent.is_none() && now < self.expires_at
    }

    fn text(&self) -> Vec<u8> {
        // None of the parts has a map with keys that are no text: writing them cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The open reservation of a version; `package` in any case. `None` without a primary store.
///
/// # Errors
/// When the primary store cannot be used.
pub(crate) fn reservation(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    now: Timestamp,
) -> Result<Option<SharedReservation>, PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(None) };
    Ok(read(primary, &name(package, version))?.1.filter(|found| found.is_open(now)))
}

/// Reserves a version, in place of an earlier reservation of the same principal. Without a primary store, does nothing.
///
/// # Errors
/// [`ReservingError`].
pub(crate) fn reserve(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    new: &SharedReservation,
    now: Timestamp,
) -> Result<(), ReservingError> {
    let Some(primary) = &store.primary else { return Ok(()) };
    let name = name(package, version);
    for _ in 0..COMPARE_ATTEMPTS {
        let (object, found) = read(primary, &name)?;
        match &found {
            // The answer to the write was lost.
            Some(found) if found.id == new.id => return Ok(()),
            Some(found) if found.is_open(now) && found.by != new.by => {
                return Err(ReservingError::Reserved(found.by.clone()));
            }
            _ => {}
        }
        if write(primary, &name, new, object.as_ref())? == PrimaryWrite::Done {
            return Ok(());
        }
    }
    Err(CONTENDED.into())
}

/// Spends a reservation: of all uses of one, the first counts.
///
/// # Errors
/// When the primary store cannot be used; the use may count then.
pub(crate) fn spend(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    id: &str,
) -> Result<ReservationUse, PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(ReservationUse::First) };
    let name = name(package, version);
    let own = Digest::unique().to_string();
    for _ in 0..COMPARE_ATTEMPTS {
        let (object, found) = read(primary, &name)?;
        let Some(found) = found.filter(|found| found.id == id) else { return Ok(ReservationUse::Ended) };
        if let Some(spent) = found.spent {
            // The answer to the write may have been lost.
            return Ok(if spent == own { ReservationUse::First } else { ReservationUse::Ended });
        }
        let form = PublishForm::default();
        let spent = SharedReservation { spent: Some(own.clone()), form, ..found };
        if write(primary, &name, &spent, object.as_ref())? == PrimaryWrite::Done {
            return Ok(ReservationUse::First);
        }
    }
    Err(CONTENDED)
}

fn name(package: &str, version: &VersionNumber) -> String {
    format!("hosted/reservations/{}/{version}.json", package.to_ascii_lowercase())
}

/// The object, and what it says; one that cannot be read counts as none, and is replaced.
fn read(
    primary: &Primary,
    name: &str,
) -> Result<(Option<PrimaryObject>, Option<SharedReservation>), PrimaryUnavailable> {
    let object = primary.objects.read(name)?;
    let found = object.as_ref().and_then(|object| serde_json::from_slice(&object.bytes).ok());
    Ok((object, found))
}

fn write(
    primary: &Primary,
    name: &str,
    reservation: &SharedReservation,
    old: Option<&PrimaryObject>,
) -> Result<PrimaryWrite, PrimaryUnavailable> {
    match old {
        None => primary.objects.create(name, reservation.text()),
        Some(old) => primary.objects.replace(name, reservation.text(), old),
    }
}
